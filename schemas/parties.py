"""Third parties who keep a replica of their own, and what they say about it.

Records as in events.py, where they are listed with all others; docs/run-a-replica.md tells their
story. What an outsider says is `claimed`, and is never read as if a worker of ours had said it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ReceiptState(StrEnum):
    """What a party says of one object on its replica. Kept as text in records."""

    # All bytes are there, and hashed to what the feed said.
    STORED = "stored"
    # It was there, was redacted, and is gone.
    REMOVED = "removed"


class Verdict(StrEnum):
    """What we know of a receipt. Kept as text in records."""

    # Their word alone.
    CLAIMED = "claimed"
    # We have read the bytes back, and they were the right ones at that moment.
    PROVED = "proved"
    # We have tried to, and got something else or nothing.
    REFUTED = "refuted"


@dataclass(frozen=True, slots=True)
class PartySaved:
    """Somebody was invited to keep a replica under this name. Of its token only the hash is kept.

    `life` counts the invitations of a name: nothing that was said in an earlier one is believed.
    """

    name: str
    life: int
    datasets: tuple[str, ...]
    token_sha256: str
    invited_by: str
    invited_at_ms: int


@dataclass(frozen=True, slots=True)
class PartyRemoved:
    """A party left, or was sent away: its token opens nothing any more."""

    name: str
    life: int
    removed_by: str
    removed_at_ms: int


@dataclass(frozen=True, slots=True)
class ReceiptClaimed:
    """A party says what it has done with one object, and what we know of that.

    `state` is a ReceiptState, `verdict` a Verdict. Size and hash are the log's: a receipt for
    anything else was refused.
    """

    party: str
    life: int
    key: str
    state: str
    size: int
    sha256: str
    claimed_at_ms: int
    verdict: str = "claimed"
    judged_at_ms: int | None = None
    detail: str = ""
