"""Keys behind whose right record a late one stands: remembered until the right one is said again.

A view ignores a late record (claims.py), but compaction does not know of claims: it keeps the last
record of a key, the late one, and forgets the right one. So the partition's owner says the right
one again. It may die before it does, or the late record may be folded while nobody holds the
partition; then whoever takes the partition next finds the key here and says it.

    right(57) -> late(40), ignored -> row here -> said again(70) -> row gone
                                        |
                                        '-- owner killed: the next owner reads the row when it holds
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

# topic, partition, key
Place = tuple[str, int, str]

_TABLE: Final = (
    "CREATE TABLE overruled (topic TEXT, partition INTEGER, key TEXT,"
    " PRIMARY KEY (topic, partition, key)) WITHOUT ROWID"
)
QUERY: Final = "SELECT key FROM overruled WHERE topic = ? AND partition = ?"


def create_overruled(db: sqlite3.Connection) -> None:
    """The table, empty; for a fold's `create`."""
    db.execute(_TABLE)


class OverruledKeys:
    """What a batch of records changes; for one call of a fold."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        # Late records come after a worker froze, so there are none nearly always.
        self._before: set[Place] = set(db.execute("SELECT topic, partition, key FROM overruled"))
        self._now = set(self._before)

    def late(self, topic: str, partition: int, key: str) -> None:
        """A late record was ignored."""
        self._now.add((topic, partition, key))

    def said(self, topic: str, partition: int, key: str) -> None:
        """A right record was taken: it is the last one now."""
        if self._now:
            self._now.discard((topic, partition, key))

    def store(self) -> None:
        """Write what changed, in the fold's transaction."""
        _each(self._db, "INSERT INTO overruled VALUES (?, ?, ?)", self._now - self._before)
        _each(
            self._db,
            "DELETE FROM overruled WHERE topic = ? AND partition = ? AND key = ?",
            self._before - self._now,
        )


def _each(db: sqlite3.Connection, sql: str, rows: Iterable[Sequence[object]]) -> None:
    db.executemany(sql, rows)
