"""What a comparison knows: the log, one replica's copies, redactions, and earlier findings.

A view of its own, opened for a comparison and kept between them, so that each folds only what is
new. Rows are read in order of key, page by page, while the fold goes on: whether a row belongs to
the cut that a comparison began with is told by the offset that the row carries.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tidestore.connectors.claims import ClaimBook
from tidestore.connectors.view import Folded, View
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.events import (
    CopyChanged,
    CopyState,
    ObjectRedacted,
    ObjectWritten,
    OriginChosen,
    PartitionClaimed,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.schemas.findings import FindingReported, ReadbackMoved, ScrubReported
from tidestore.schemas.objects import find_key_parts
from tidestore.streams.scrub_compare import Duty, Expected

PAGE_ROWS: Final = 1_000
# Up to so many rows a replica is listed in one go: some tens of pages.
_ONE_RANGE_ROWS: Final = 20_000
# A thousand ranges keep every one of a few busy; more would cost requests and nothing else.
_BOUNDS_MAX: Final = 1_024
_HEX_DIGITS: Final = "0123456789abcdef"
# No record of the copy: its mark holds the event's offset instead.
NO_RECORD: Final = -1

_OBJECT_COLUMNS: Final = (
    "key, partition, offset, size, sha256, sha1, crc32c, md5, content_type, origin, written_at_ms"
)
_ROWS: Final = (
    "SELECT o.key, o.partition, o.offset, o.size, o.sha256, o.sha1, o.crc32c, o.md5,"
    " o.content_type, o.origin, o.written_at_ms, c.state, c.offset AS copy_offset, c.changed_at_ms"
    " FROM objects o LEFT JOIN copies c ON c.key = o.key"
)


@dataclass(frozen=True, slots=True)
class Cuts:
    """The ends of both topics when a comparison began: next offset by partition."""

    log: Mapping[int, int]
    copies: Mapping[int, int]
    redactions: int = 0


class ScrubFold:
    """Makes the tables of one replica's comparison."""

    version = 4

    def __init__(self, replica: str, incarnation: int, copies_topic: str) -> None:
        self._replica = replica
        self._incarnation = incarnation
        self._copies_topic = copies_topic

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE objects (key TEXT PRIMARY KEY, partition INTEGER, offset INTEGER,"
            " size INTEGER, sha256 TEXT, sha1 TEXT, crc32c TEXT, md5 TEXT, content_type TEXT,"
            " origin TEXT, written_at_ms INTEGER) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE copies (key TEXT PRIMARY KEY, state TEXT, offset INTEGER,"
            " changed_at_ms INTEGER) WITHOUT ROWID"
        )
        # The open uploads that copies name, so few rows.
        db.execute("CREATE TABLE uploads (key TEXT PRIMARY KEY, token TEXT) WITHOUT ROWID")
        # `partition` is -1 for a decision; else the redaction was seen in the log.
        db.execute(
            "CREATE TABLE redacted (target TEXT PRIMARY KEY, number INTEGER, partition INTEGER,"
            " offset INTEGER) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE claims (partition INTEGER PRIMARY KEY, offset INTEGER, worker TEXT)"
        )
        db.execute(
            "CREATE TABLE findings (key TEXT PRIMARY KEY, kind TEXT, seen_etag TEXT,"
            " first_found_at_ms INTEGER) WITHOUT ROWID"
        )
        db.execute("CREATE TABLE progress (name TEXT PRIMARY KEY, record BLOB) WITHOUT ROWID")

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        book = ClaimBook({p: (o, w) for p, o, w in db.execute("SELECT * FROM claims")})
        for record in records:
            event = record.event
            if isinstance(event, ObjectWritten):
                row = (
                    event.key, record.partition, record.offset, event.size, event.sha256,
                    event.sha1, event.crc32c, event.md5, event.content_type, event.origin,
                    event.written_at_ms,
                )  # fmt: skip
                db.execute(f"INSERT OR REPLACE INTO objects VALUES ({_marks(row)})", row)
            elif isinstance(event, CopyChanged):
                if not book.is_late(record.partition, event.claim):
                    copy = (event.key, event.state, record.offset, event.changed_at_ms)
                    db.execute("INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?)", copy)
                    _fold_upload(db, event)
            elif isinstance(event, PartitionClaimed):
                book.claimed(record.partition, record.offset, event.worker)
                claim = (record.partition, record.offset, event.worker)
                db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", claim)
            elif isinstance(event, OriginChosen):
                chosen = (type(event).__name__, encode(event))
                db.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", chosen)
            elif isinstance(event, (ObjectRedacted, RedactionDecided, RedactionLifted)):
                _fold_redaction(db, event, record)
            elif isinstance(event, (FindingReported, ScrubReported, ReadbackMoved)) and (
                (event.replica, event.incarnation) == (self._replica, self._incarnation)
            ):
                _fold_own(db, event)

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""


def _fold_upload(db: sqlite3.Connection, event: CopyChanged) -> None:
    if event.upload:
        db.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?)", (event.key, event.upload))
    else:
        db.execute("DELETE FROM uploads WHERE key = ?", (event.key,))


def _fold_redaction(
    db: sqlite3.Connection,
    event: ObjectRedacted | RedactionDecided | RedactionLifted,
    record: Folded,
) -> None:
    if isinstance(event, RedactionLifted):
        db.execute(
            "DELETE FROM redacted WHERE target = ? AND number <= ?", (event.target, event.number)
        )
        return
    target, partition = (
        (event.key, record.partition) if isinstance(event, ObjectRedacted) else (event.target, -1)
    )
    # The first word of a decision tells since when it holds.
    db.execute(
        "INSERT INTO redacted VALUES (?, ?, ?, ?) ON CONFLICT (target) DO UPDATE SET"
        " number = excluded.number, partition = excluded.partition, offset = excluded.offset"
        " WHERE excluded.number > number",
        (target, event.number, partition, record.offset),
    )


def _fold_own(
    db: sqlite3.Connection, event: FindingReported | ScrubReported | ReadbackMoved
) -> None:
    if isinstance(event, FindingReported):
        finding = (event.key, event.kind, event.seen_etag, event.first_found_at_ms)
        db.execute("INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?)", finding)
    else:
        row = (type(event).__name__, encode(event))
        db.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", row)


def _marks(row: Sequence[object]) -> str:
    return ", ".join("?" * len(row))


class ScrubRows:
    """Questions of a comparison, asked on the event loop's thread."""

    def __init__(self, view: View, replica: str) -> None:
        self._view = view
        self._replica = replica

    def expected(self, cuts: Cuts, after: str = "", until: str | None = None) -> Iterator[Expected]:
        """The keys of the log in order, as of the cuts; what changed since is told apart."""
        for row in self.rows(after):
            if until is not None and row["key"] > until:
                return
            yield self._expected(row, cuts)

    def bounds(self) -> list[str]:
        """Where a listing is cut into ranges, in order; nowhere while there is little to list.

        Names are hexadecimal and evenly spread, so each kind of each dataset is cut into 16.
        """
        if not self._view.query("SELECT 1 FROM objects LIMIT 1 OFFSET ?", (_ONE_RANGE_ROWS,)):
            return []
        found: list[str] = []
        last = ""
        while len(found) < _BOUNDS_MAX:
            rows = self._view.query(
                "SELECT key FROM objects WHERE key > ? ORDER BY key LIMIT 1", (last,)
            )
            if not rows:
                break
            folder = str(rows[0]["key"]).rpartition("/")[0]
            found += [f"{folder}/{digit}" for digit in _HEX_DIGITS]
            last = f"{folder}/~"  # behind every name of ours
        return found

    def rows(self, after: str = "") -> Iterator[sqlite3.Row]:
        """All rows in order of key."""
        while True:
            page = self._view.query(f"{_ROWS} WHERE o.key > ? ORDER BY o.key LIMIT ?",
                                    (after, PAGE_ROWS))  # fmt: skip
            yield from page
            if len(page) < PAGE_ROWS:
                return
            after = page[-1]["key"]

    def find(self, key: str) -> sqlite3.Row | None:
        """The row of one key."""
        rows = self._view.query(f"{_ROWS} WHERE o.key = ?", (key,))
        return rows[0] if rows else None

    def is_known(self, key: str) -> bool:
        """Whether the log, the copies or a redaction know the key."""
        for table in ("objects", "copies"):
            if self._view.query(f"SELECT 1 FROM {table} WHERE key = ?", (key,)):
                return True
        return self.is_redacted(key)

    def is_redacted(self, key: str, cuts: Cuts | None = None) -> bool:
        """Whether a redaction covers the key; with `cuts`, one that was decided before them."""
        if not self._view.query("SELECT 1 FROM redacted LIMIT 1"):
            return False
        targets = [key]
        parts = find_key_parts(key)
        if parts is not None and parts.uuid:
            targets.append(f"{parts.dataset}/{parts.kind.plural}/{parts.uuid}")
        sql = f"SELECT partition, offset FROM redacted WHERE target IN ({_marks(targets)})"
        rows = self._view.query(sql, targets)
        if cuts is None:
            return bool(rows)
        return any(
            row["offset"]
            < (cuts.redactions if row["partition"] < 0 else cuts.log[row["partition"]])
            for row in rows
        )

    def first_found(self, key: str, kind: str, etag: str) -> int | None:
        """When the same was found first; None when it is new."""
        rows = self._view.query("SELECT * FROM findings WHERE key = ?", (key,))
        if not rows or rows[0]["seen_etag"] != etag:
            return None
        # A quarantine is what becomes of a dark object.
        same = {rows[0]["kind"], kind} <= {"dark", "quarantine"} or rows[0]["kind"] == kind
        return int(rows[0]["first_found_at_ms"]) if same else None

    def origin(self) -> str | None:
        """Which replica is written to, as the topic says; None while it says nothing."""
        found = self._progress(OriginChosen)
        return str(found.replica) if isinstance(found, OriginChosen) else None

    def uploads(self) -> set[tuple[str, str]]:
        """The open uploads that copies of this replica name: key and token."""
        return {(row[0], row[1]) for row in self._view.query("SELECT key, token FROM uploads")}

    def last_report(self) -> ScrubReported | None:
        """The last comparison of this replica's life."""
        found = self._progress(ScrubReported)
        return found if isinstance(found, ScrubReported) else None

    def readback(self) -> ReadbackMoved | None:
        """How far its bytes were read back."""
        found = self._progress(ReadbackMoved)
        return found if isinstance(found, ReadbackMoved) else None

    def _progress(self, kind: type[Any]) -> object:
        rows = self._view.query("SELECT record FROM progress WHERE name = ?", (kind.__name__,))
        return decode(rows[0][0]) if rows else None

    def _expected(self, row: sqlite3.Row, cuts: Cuts) -> Expected:
        mark = mark_of(row)
        return Expected(
            row["key"], self._duty(row, cuts), row["size"], row["crc32c"], row["md5"], mark
        )

    def _duty(self, row: sqlite3.Row, cuts: Cuts) -> Duty:
        key, state, partition = row["key"], row["state"], row["partition"]
        if state in (CopyState.REDACTING, CopyState.REDACTED) or self.is_redacted(key):
            # Decided while we look: its removal may be under way this moment.
            return Duty.GONE if self.is_redacted(key, cuts) else Duty.FREE
        if row["offset"] >= cuts.log.get(partition, 0):
            return Duty.FREE
        if state is None:
            # The event itself is the proof of the origin's own copy (R1).
            return Duty.PRESENT if row["origin"] == self._replica else Duty.OWED
        if state == CopyState.EXCLUDED:
            return Duty.FREE
        if state != CopyState.PRESENT:
            return Duty.OWED
        is_new = row["copy_offset"] >= cuts.copies.get(partition, 0)
        return Duty.CHANGED if is_new else Duty.PRESENT


def mark_of(row: sqlite3.Row) -> tuple[int, int]:
    """What tells a row's records from all later ones: offsets of its event and its copy's."""
    copy = row["copy_offset"]
    return row["offset"], NO_RECORD if copy is None else copy
