"""What a comparison of a replica with the log says: findings, statements, how far it was read.

Records as in events.py, where they are listed with all others; see docs/scrub.md for their use.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """What is wrong with one key on one replica. Kept as text in records: a list that may grow."""

    # A record says present; the listing, made after that record, does not have it.
    LOST = "lost"
    # There, with another size or another checksum of the store's own than was written.
    ALTERED = "altered"
    # There, and its bytes were read back and are others.
    ROTTEN = "rotten"
    # Bytes that came from here were wrong, and another source's were right: to be read back.
    SUSPECTED = "suspected"
    # There, under a valid key that the log does not know.
    DARK = "dark"
    # Dark for long enough: to be moved aside.
    QUARANTINE = "quarantine"
    # There, although it was redacted.
    UNREDACTED = "unredacted"


class Verdict(StrEnum):
    """How a comparison ended."""

    # All that has to be there is there and equal.
    EQUAL = "equal"
    # Nothing is wrong with what is there; something is still being copied, or is parked.
    INCOMPLETE = "incomplete"
    # Something is wrong, and was handed to whoever mends it.
    FINDINGS = "findings"
    # Too much is wrong to be true, or to be mended without a person: nothing was handed over.
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class FindingReported:
    """Something is wrong with a key on a replica; for whoever holds the key's partition.

    `changed_at_ms` is that of the copy's record that is meant, 0 when the copy has none (it was
    written here): once there is another record, the finding is done. For a suspicion it is 0: who
    tells of it does not know the copy's records. The rest is what the log says has to be there.
    `seen_etag` and `seen_size` are what the store had instead. `first_found_at_ms`
    stays over repeated findings of the same.
    """

    key: str
    replica: str
    incarnation: int
    kind: str
    changed_at_ms: int
    log_offset: int
    size: int
    sha256: str
    checksums: str
    content_type: str
    origin: str
    written_at_ms: int
    scrub_id: str
    found_at_ms: int
    first_found_at_ms: int
    seen_size: int = 0
    seen_etag: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ScrubReported:
    """One comparison of a replica with the log has ended. `statement` is what is signed."""

    scrub_id: str
    replica: str
    incarnation: int
    verdict: str
    cut: str
    begun_at_ms: int
    ended_at_ms: int
    expected: int
    equal: int
    expected_bytes: int
    owed: int
    listed: int
    lost: int
    altered: int
    dark: int
    unredacted: int
    foreign: int
    unjudged: int
    reason: str = ""
    statement: str = ""
    signature: str = ""
    public_key: str = ""


@dataclass(frozen=True, slots=True)
class ReadbackMoved:
    """How far the bytes of a replica were read back: in key order, round after round.

    All keys up to `after_key` were read in this round, which began at `round_began_at_ms`;
    all others in the one before it, or are younger than it.
    """

    replica: str
    incarnation: int
    round: int
    round_began_at_ms: int
    last_round_began_at_ms: int
    after_key: str
    objects: int
    bytes: int
    rotten: int
    moved_at_ms: int
