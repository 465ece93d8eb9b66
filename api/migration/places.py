"""Which record stands where in both generations: a scratch file, made anew by each run.

It is no truth: each record that was carried says in a header where it stood, and a run begins by
reading what earlier ones have carried.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PRAGMAS: Final = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF")
_TABLES: Final = (
    "CREATE TABLE carried (word TEXT, partition INTEGER, offset INTEGER, target INTEGER,"
    " target_offset INTEGER, PRIMARY KEY (word, partition, offset)) WITHOUT ROWID",
    # Where a key's events stand in the log, then and now.
    "CREATE TABLE events (key TEXT, offset INTEGER, target_offset INTEGER,"
    " PRIMARY KEY (key, offset)) WITHOUT ROWID",
)


@dataclass(frozen=True, slots=True)
class Carried:
    """One record that was carried: where it stood, and where it stands."""

    partition: int
    offset: int
    target: int
    target_offset: int
    key: str


class Places:
    """The scratch file. `word` names a topic in both generations alike."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        for statement in (*_PRAGMAS, *_TABLES):
            self._db.execute(statement)

    def close(self) -> None:
        """Close and remove it."""
        self._db.close()
        self._path.unlink(missing_ok=True)

    def note(self, word: str, records: Iterable[Carried], *, are_events: bool = False) -> None:
        """These were carried; `are_events` for those of the log, which others point to."""
        records = list(records)
        self._db.execute("BEGIN")
        # A record that two runs carried stands twice: readers come to the first one first.
        self._db.executemany(
            "INSERT OR IGNORE INTO carried VALUES (?, ?, ?, ?, ?)",
            [(word, r.partition, r.offset, r.target, r.target_offset) for r in records],
        )
        if are_events:
            self._db.executemany(
                "INSERT OR IGNORE INTO events VALUES (?, ?, ?)",
                [(r.key, r.offset, r.target_offset) for r in records],
            )
        self._db.execute("COMMIT")

    def has(self, word: str, partition: int, offset: int) -> bool:
        """Whether a record was carried."""
        query = "SELECT 1 FROM carried WHERE word = ? AND partition = ? AND offset = ?"
        return self._db.execute(query, (word, partition, offset)).fetchone() is not None

    def count(self, word: str) -> int:
        """How many records of a topic were carried."""
        query = "SELECT count(*) FROM carried WHERE word = ?"
        return int(self._db.execute(query, (word,)).fetchone()[0])

    def event_offset(self, key: str, offset: int) -> int:
        """Where a key's event stands now, in the partition of the key.

        Compaction may have taken the one that is meant; then it is the next one of the key, which
        is what whoever reads there is to find. 0, which every reader has reached, when there is
        none: the key was never written.
        """
        for order, bound in (("ASC", ">="), ("DESC", "<")):
            row = self._db.execute(
                f"SELECT target_offset FROM events WHERE key = ? AND offset {bound} ?"
                f" ORDER BY offset {order} LIMIT 1",
                (key, offset),
            ).fetchone()
            if row is not None:
                return int(row[0])
        return 0

    def begin(
        self, word: str, offsets: Mapping[int, int], ends: Mapping[int, int]
    ) -> dict[int, int]:
        """For each new partition the first offset that a reader still has to read.

        `offsets` is how far the reader had come on the old ones, `ends` where the new ones end now.
        """
        found = dict(ends)
        for partition, offset in offsets.items():
            rows = self._db.execute(
                "SELECT target, min(target_offset) FROM carried"
                " WHERE word = ? AND partition = ? AND offset >= ? GROUP BY target",
                (word, partition, offset),
            )
            for target, first in rows:
                found[target] = min(first, found.get(target, first))
        return found
