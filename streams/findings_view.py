"""Findings in a worker's view: which of them are still to be carried out.

A finding is open while the record that it is about is the copy's newest one; 0 stands for a copy
without a record. A suspicion is about whatever record the copy had by then. Whichever of the two is
folded second finds the other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from tidestore.connectors.view import View
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.events import CopyChanged
from tidestore.schemas.findings import FindingReported

# key, replica, incarnation
FoundKey = tuple[str, str, int]

# Dark ones are told to people, and to gateways; nothing is done about them here until they are old.
_OPEN = (
    "SELECT found.key, found.replica, found.incarnation FROM findings found"
    " LEFT JOIN copies copy ON copy.key = found.key"
    " WHERE found.kind <> 'dark' AND (coalesce(copy.changed_at_ms, 0) = found.changed_at_ms"
    " OR (found.kind = 'suspected' AND coalesce(copy.changed_at_ms, 0) <= found.found_at_ms))"
)
# SQLite takes 32,766 variables in a statement; a batch of this many keys is one quick query.
_KEYS_PER_QUERY = 500


def create_findings(db: sqlite3.Connection) -> None:
    """Create the table, empty."""
    db.execute(
        "CREATE TABLE findings (key TEXT, replica TEXT, incarnation INTEGER,"
        " changed_at_ms INTEGER, found_at_ms INTEGER, kind TEXT, record BLOB,"
        " PRIMARY KEY (key, replica, incarnation)) WITHOUT ROWID"
    )


def fold_findings(
    db: sqlite3.Connection, found: Sequence[FindingReported], changed: Sequence[CopyChanged]
) -> tuple[FoundKey, ...]:
    """Keep findings, after the copies of the same batch; those that are open now."""
    db.executemany(
        "INSERT OR REPLACE INTO findings VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (event.key, event.replica, event.incarnation, event.changed_at_ms, event.found_at_ms,
             event.kind, encode(event))
            for event in found
        ],
    )  # fmt: skip
    keys = {event.key for event in found}
    if changed and db.execute("SELECT 1 FROM findings LIMIT 1").fetchone():
        keys.update(event.key for event in changed)
    notes: list[FoundKey] = []
    ordered = sorted(keys)
    for start in range(0, len(ordered), _KEYS_PER_QUERY):
        batch = ordered[start : start + _KEYS_PER_QUERY]
        marks = ", ".join("?" * len(batch))
        rows = db.execute(f"{_OPEN} AND found.key IN ({marks})", batch)
        notes += [(key, replica, incarnation) for key, replica, incarnation in rows]
    return tuple(notes)


class FindingsQueries:
    """Questions about one life of one replica, asked on the event loop's thread."""

    def __init__(self, view: View, replica: str, incarnation: int) -> None:
        self._view = view
        self._place = (replica, incarnation)

    def open_keys(self, after: str, limit: int) -> list[str]:
        """The next keys with an open finding, in order."""
        sql = (
            f"{_OPEN} AND found.replica = ? AND found.incarnation = ? AND found.key > ?"
            " ORDER BY found.key LIMIT ?"
        )
        return [row[0] for row in self._view.query(sql, (*self._place, after, limit))]

    def find(self, key: str) -> FindingReported | None:
        """The newest finding about a key."""
        sql = "SELECT record FROM findings WHERE key = ? AND replica = ? AND incarnation = ?"
        rows = self._view.query(sql, (key, *self._place))
        found = decode(rows[0][0]) if rows else None
        return found if isinstance(found, FindingReported) else None
