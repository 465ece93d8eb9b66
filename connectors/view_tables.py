"""The SQLite file of a view: the fold's tables, and what they were folded from."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from tidestore.connectors.view import Fold, Folded

# A topic and the number of a partition.
Place = tuple[str, int]

# Among the topics of a view's identity, the one name that is none.
UNCLEAN_STOPS: Final = "unclean_stops"

_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    # A commit need not survive a power cut: the offsets would be lost with the rows, and the
    # records are read again. It does survive the death of the process.
    "PRAGMA synchronous = OFF",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -32000",
    "PRAGMA busy_timeout = 5000",
)


@runtime_checkable
class ChangingFold(Protocol):
    """What a fold offers more, if its topics may change while it is followed.

    Both are called in the view's thread, within a transaction that also remembers the change: after
    a crash it is either made or made again.
    """

    def began(self, db: sqlite3.Connection, topic: str) -> None:
        """A topic is followed from now on, from its start. Called for the first ones, too."""
        ...

    def ended(self, db: sqlite3.Connection, topic: str) -> None:
        """A topic is not followed any more: forget all that was folded from it."""
        ...


class ViewTables:
    """One writer's connection. A file that SQLite cannot read is thrown away: Kafka has it all."""

    def __init__(self, path: Path, fold: Fold) -> None:
        self._path = path
        self._fold = fold
        try:
            self._db = self._open()
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None)
        for pragma in _PRAGMAS:
            db.execute(pragma)
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != self._fold.version:
            self._recreate(db)
        return db

    def _recreate(self, db: sqlite3.Connection) -> None:
        """Drop everything and begin empty, in one transaction: readers see all or nothing."""
        db.execute("BEGIN IMMEDIATE")
        kinds = "type IN ('table', 'view', 'trigger') AND name NOT LIKE 'sqlite_%'"
        found = db.execute(f"SELECT type, name FROM sqlite_master WHERE {kinds}").fetchall()
        for kind, name in sorted(found, key=lambda row: row[0] == "table"):
            db.execute(f"DROP {kind} IF EXISTS {name}")
        db.execute(
            "CREATE TABLE view_offsets (topic TEXT, partition INTEGER, offset_next INTEGER,"
            " leader_epoch INTEGER, PRIMARY KEY (topic, partition)) WITHOUT ROWID"
        )
        db.execute("CREATE TABLE view_identity (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._fold.create(db)
        db.execute(f"PRAGMA user_version = {int(self._fold.version)}")
        db.execute("COMMIT")

    def clear(self) -> None:
        """Forget everything that was folded."""
        self._recreate(self._db)

    def contradicts(self, identity: dict[str, str]) -> bool:
        """Whether the tables were folded from other topics or in another life of the broker.

        A topic that is new since then is no contradiction: it is folded from its start. One that
        is no longer followed is, unless the fold knows how to forget it: what an earlier life of a
        replica said must not be believed.
        """
        stored = dict(self._db.execute("SELECT name, value FROM view_identity"))
        return not stored.keys() <= identity.keys() or any(
            stored.get(name, value) != value for name, value in identity.items()
        )

    def end(self, topics: Collection[str]) -> None:
        """Forget the topics that are not among these any more, if the fold knows how to."""
        if not isinstance(self._fold, ChangingFold):
            return
        for topic in self._followed() - set(topics):
            with self._whole() as db:
                self._fold.ended(db, topic)
                db.execute("DELETE FROM view_identity WHERE name = ?", (topic,))
                db.execute("DELETE FROM view_offsets WHERE topic = ?", (topic,))

    def set_identity(self, identity: dict[str, str]) -> None:
        """Remember what is folded from now on; tell the fold which topics are new."""
        with self._whole() as db:
            if isinstance(self._fold, ChangingFold):
                for topic in sorted(identity.keys() - {UNCLEAN_STOPS} - self._followed()):
                    self._fold.began(db, topic)
            db.executemany(
                "INSERT OR REPLACE INTO view_identity VALUES (?, ?)", list(identity.items())
            )

    def _followed(self) -> set[str]:
        found = self._db.execute("SELECT name FROM view_identity WHERE name <> ?", (UNCLEAN_STOPS,))
        return {name for (name,) in found}

    @contextlib.contextmanager
    def _whole(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def offsets(self) -> dict[Place, tuple[int, int]]:
        """For each place the next offset and the leader epoch of the last folded record."""
        rows = self._db.execute(
            "SELECT topic, partition, offset_next, leader_epoch FROM view_offsets"
        )
        return {(topic, partition): (offset, epoch) for topic, partition, offset, epoch in rows}

    def fold(
        self, records: Sequence[Folded], ends: dict[Place, int], epochs: dict[Place, int]
    ) -> None:
        """One batch: records and offsets together. Killed before the COMMIT, neither is there."""
        with self._whole() as db:
            self._fold.fold(db, records)
            db.executemany(
                "INSERT OR REPLACE INTO view_offsets VALUES (?, ?, ?, ?)",
                [(*place, ends[place], epoch) for place, epoch in epochs.items()],
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()
