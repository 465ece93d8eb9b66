"""Keys behind whose right record a late one stands: remembered until the right one is said again.

A view ignores a late record (claims.py), but compaction does not know of claims: it keeps the last
record of a key, the late one, and forgets the right one. So the partition's owner says the right
one again. It may die before it does, or the late record may be folded while nobody holds the
partition; then whoever takes the partition next finds the key here and says it.

    right(57) -> late(40), ignored -> row here -> said again(70) -> row gone
                                        |
                                        '-- owner killed: the next owner reads the row when it holds

The late record itself is kept, too. It may be all that was ever said about its key: the true
owner's word, overtaken by the claim of somebody who woke up. Its speaker has it confirmed and goes
on in the log, so the key would have no record for ever if nobody said it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from tidestore.schemas.codec import encode
from tidestore.schemas.events import Event

# topic, partition, key
Place = tuple[str, int, str]

_TABLE: Final = (
    "CREATE TABLE overruled (topic TEXT, partition INTEGER, key TEXT, record BLOB,"
    " PRIMARY KEY (topic, partition, key)) WITHOUT ROWID"
)
QUERY: Final = "SELECT key, record FROM overruled WHERE topic = ? AND partition = ?"


def create_overruled(db: sqlite3.Connection) -> None:
    """The table, empty; for a fold's `create`."""
    db.execute(_TABLE)


class OverruledKeys:
    """What a batch of records changes; for one call of a fold."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        # Late records come after a worker froze, so there are none nearly always.
        self._before: dict[Place, bytes] = {
            (topic, partition, key): record
            for topic, partition, key, record in db.execute("SELECT * FROM overruled")
        }
        self._now = dict(self._before)

    def late(self, topic: str, partition: int, key: str, event: Event) -> None:
        """A late record was ignored. Of several the last one is kept."""
        self._now[topic, partition, key] = encode(event)

    def late_in_order(self, topic: str, partition: int, key: str, event: Event) -> None:
        """The same for records that build on each other: the first one is kept."""
        self._now.setdefault((topic, partition, key), encode(event))

    def said(self, topic: str, partition: int, key: str) -> None:
        """A right record was taken: it is the last one now."""
        if self._now:
            self._now.pop((topic, partition, key), None)

    def store(self) -> None:
        """Write what changed, in the fold's transaction."""
        _each(
            self._db,
            "INSERT OR REPLACE INTO overruled VALUES (?, ?, ?, ?)",
            [(*place, record) for place, record in self._now.items()],
        )
        _each(
            self._db,
            "DELETE FROM overruled WHERE topic = ? AND partition = ? AND key = ?",
            self._before.keys() - self._now.keys(),
        )


def _each(db: sqlite3.Connection, sql: str, rows: Iterable[Sequence[object]]) -> None:
    db.executemany(sql, rows)
