"""From suspicions to findings: what changed meanwhile is let go, and too much of anything stops.

Pure but for the questions it asks of the view, which has been folded to the second cut by then.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from tidestore.schemas.checksums import Checksums, checksums_text
from tidestore.schemas.findings import FindingKind, FindingReported, Verdict
from tidestore.schemas.objects import Sha256
from tidestore.streams.records import Identity
from tidestore.streams.scrub_compare import Counts
from tidestore.streams.scrub_spool import Suspicion
from tidestore.streams.scrub_view import mark_of

# Rucio's bound, and ours: when a tenth looks wrong, it is the listing, the credentials or the
# mount that is wrong, or something that a person must know of before anything is changed.
STOP_PERCENT: Final = 10
# So few are mended whatever share of a small store they are.
STOP_OBJECTS_MIN: Final = 3
QUARANTINE_HOURS: Final = 24
_HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Rules:
    """How much may be wrong, and how long dark objects are left where they are."""

    stop_percent: int = STOP_PERCENT
    stop_objects_min: int = STOP_OBJECTS_MIN
    quarantine_hours: float = QUARANTINE_HOURS


class Rows(Protocol):
    """What is asked of the view; see ScrubRows."""

    def find(self, key: str) -> sqlite3.Row | None:
        """The row of one key."""
        ...

    def is_known(self, key: str) -> bool:
        """Whether the log, the copies or a redaction know the key."""
        ...

    def is_redacted(self, key: str) -> bool:
        """Whether a redaction covers the key."""
        ...

    def first_found(self, key: str, kind: str, etag: str) -> int | None:
        """When the same was found first."""
        ...


@dataclass(slots=True)
class Judgement:
    """What is really wrong, and how much was let go."""

    findings: list[FindingReported] = field(default_factory=list)
    # How many of each kind; a quarantine counts as dark.
    kinds: Counter[str] = field(default_factory=Counter)
    unjudged: int = 0
    # Of those let go: what had been counted as expected, and is not any more.
    unexpected: int = 0
    unexpected_bytes: int = 0

    def found(self, finding: FindingReported) -> None:
        """One that is really wrong."""
        self.findings.append(finding)
        kind = FindingKind.DARK if finding.kind == FindingKind.QUARANTINE else finding.kind
        self.kinds[str(kind)] += 1

    def add(self, other: Judgement, *, findings_max: int) -> None:
        """Count another portion in; of its findings only as many as there is room for."""
        room = max(0, findings_max - len(self.findings))
        self.findings += other.findings[:room]
        self.kinds += other.kinds
        self.unjudged += other.unjudged
        self.unexpected += other.unexpected
        self.unexpected_bytes += other.unexpected_bytes


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges for one comparison of one replica."""

    identity: Identity
    rows: Rows
    rules: Rules
    scrub_id: str
    now_ms: int
    is_origin: bool

    def judge(self, suspicions: Iterable[Suspicion]) -> Judgement:
        """Those suspicions that still hold at the second cut."""
        judgement = Judgement()
        for suspicion in suspicions:
            finding = self._judge(suspicion)
            if finding is None:
                judgement.unjudged += 1
                if suspicion.kind in (FindingKind.LOST, FindingKind.ALTERED):
                    judgement.unexpected += 1
                    judgement.unexpected_bytes += suspicion.size
            else:
                judgement.found(finding)
        return judgement

    def _judge(self, suspicion: Suspicion) -> FindingReported | None:
        key = suspicion.key
        if suspicion.kind is FindingKind.DARK:
            if self.rows.is_redacted(key) and self.rows.find(key) is None:
                # Its event was compacted away by its redaction; it is known all the same.
                return self._finding(suspicion, FindingKind.UNREDACTED, None)
            return None if self.rows.is_known(key) else self._dark(suspicion)
        row = self.rows.find(key)
        if row is None or mark_of(row) != suspicion.mark:
            return None
        is_redacted = self.rows.is_redacted(key)
        if (suspicion.kind is FindingKind.UNREDACTED) != (is_redacted or _is_going(row)):
            return None  # redacted, or lifted, since
        return self._finding(suspicion, suspicion.kind, row)

    def _dark(self, suspicion: Suspicion) -> FindingReported:
        finding = self._finding(suspicion, FindingKind.DARK, None)
        age_ms = self.now_ms - finding.first_found_at_ms
        if self.is_origin or age_ms < self.rules.quarantine_hours * _HOUR_MS:
            return finding  # at the origin it may be a write whose event was lost (design point 1)
        return self._finding(suspicion, FindingKind.QUARANTINE, None)

    def _finding(
        self, suspicion: Suspicion, kind: FindingKind, row: sqlite3.Row | None
    ) -> FindingReported:
        etag = suspicion.seen_etag
        first = self.rows.first_found(suspicion.key, kind, etag)
        sums = _sums(row)
        return FindingReported(
            key=suspicion.key,
            replica=self.identity.replica,
            incarnation=self.identity.incarnation,
            kind=kind.value,
            changed_at_ms=(row["changed_at_ms"] or 0) if row is not None else 0,
            log_offset=row["offset"] if row is not None else 0,
            size=row["size"] if row is not None else 0,
            sha256=row["sha256"] if row is not None else "",
            checksums=checksums_text(sums) if sums is not None else "",
            content_type=row["content_type"] if row is not None else "",
            origin=row["origin"] if row is not None else "",
            written_at_ms=row["written_at_ms"] if row is not None else 0,
            scrub_id=self.scrub_id,
            found_at_ms=self.now_ms,
            first_found_at_ms=self.now_ms if first is None else first,
            seen_size=suspicion.seen_size,
            seen_etag=etag,
            detail=suspicion.detail,
        )


def _is_going(row: sqlite3.Row) -> bool:
    return row["state"] in ("redacting", "redacted")


def _sums(row: sqlite3.Row | None) -> Checksums | None:
    if row is None:
        return None
    return Checksums(row["size"], Sha256(row["sha256"]), row["sha1"], row["crc32c"], row["md5"])


def reason_to_stop(counts: Counts, kinds: Mapping[str, int], rules: Rules) -> str:
    """Why nothing may be changed; empty when it may."""
    if counts.expected and not counts.ours:
        # Whatever else lies there: an unmounted disk has a lost+found, a wrong bucket anything.
        return f"the listing has no object of ours, and {counts.expected} should be there"
    # Lost and altered ones are shares of what has to be there, all others of what is there.
    bases = {"lost": counts.expected, "altered": counts.expected}
    for kind, count in sorted(kinds.items()):
        base = bases.get(kind, counts.ours)
        if count > rules.stop_objects_min and count * 100 > rules.stop_percent * base:
            return (
                f"{count} of {base} objects are {kind}, more than {rules.stop_percent} %:"
                " nothing was changed"
            )
    return ""


def verdict_of(counts: Counts, judgement: Judgement, stopped: str) -> Verdict:
    """The comparison in one word. Dark objects alone take nothing from what has to be there."""
    if stopped:
        return Verdict.STOPPED
    kinds = judgement.kinds
    if kinds["lost"] or kinds["altered"] or kinds["unredacted"]:
        return Verdict.FINDINGS
    if counts.owed or judgement.unexpected or counts.equal != counts.expected:
        # What looked wrong and has another record since may be wrong still: nobody has looked.
        return Verdict.INCOMPLETE
    return Verdict.EQUAL
