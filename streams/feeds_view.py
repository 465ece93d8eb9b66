"""What the feeds worker knows: what was announced, what is so, and what is therefore owed.

Folded from `changes.*` (its own past words), all `copies.*` and `redactions`. A row of `owed` is
made when a copy is folded and goes when an announcement that shows it is folded, so that a worker
that died between the two finds at once what its predecessor still owed, without looking at
everything.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from tidestore.connectors.overruled import QUERY as OVERRULED_QUERY
from tidestore.connectors.overruled import OverruledKeys, create_overruled
from tidestore.connectors.view import Folded, View
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.events import (
    ChangeAnnounced,
    CopyChanged,
    CopyState,
    PartitionClaimed,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.schemas.topics import Topics
from tidestore.streams.announce import KnownCopy, is_everywhere
from tidestore.streams.decisions import fold_decision

# partition, key
Touched = tuple[int, str]
_EVERYWHERE: Final = "*"
_ANNOUNCED_STATES: Final = frozenset(
    {CopyState.PRESENT, CopyState.PARKED, CopyState.EXCLUDED, CopyState.REDACTED}
)


class FeedsFold:
    """Makes the feeds worker's tables."""

    version = 5

    def __init__(
        self,
        on_touched: Callable[[list[Touched]], None],
        on_claims: Callable[[list[tuple[str, int, int, str]]], None],
        on_late: Callable[[list[tuple[str, int, ChangeAnnounced]]], None],
        topics: Topics | None = None,
    ) -> None:
        self._topics = topics or Topics()
        self._on_touched = on_touched
        self._on_claims = on_claims
        self._on_late = on_late
        self._touched: list[Touched] = []
        self._claims: list[tuple[str, int, int, str]] = []
        self._late: list[tuple[str, int, ChangeAnnounced]] = []

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE announced (key TEXT PRIMARY KEY, sequence INTEGER, record BLOB,"
            " is_everywhere INTEGER) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE copies (key TEXT, replica TEXT, incarnation INTEGER, state TEXT,"
            " changed_at_ms INTEGER, error TEXT, PRIMARY KEY (key, replica)) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE owed (partition INTEGER, key TEXT, replica TEXT,"
            " PRIMARY KEY (partition, key, replica)) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE claims (topic TEXT, partition INTEGER, offset INTEGER,"
            " PRIMARY KEY (topic, partition)) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE redactions (target TEXT PRIMARY KEY, number INTEGER, reason TEXT,"
            " purge_after_ms INTEGER, is_lifted INTEGER) WITHOUT ROWID"
        )
        create_overruled(db)

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        self._touched, self._claims, self._late = [], [], []
        # Each announcement carries the whole state: of several, the last one says it all.
        newest: dict[str, tuple[int, ChangeAnnounced]] = {}
        claims = {(topic, p): offset for topic, p, offset in db.execute("SELECT * FROM claims")}
        keys = OverruledKeys(db)
        for record in records:
            event = record.event
            place = (record.topic, record.partition)
            if isinstance(event, PartitionClaimed):
                claims[place] = record.offset
                db.execute(
                    "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", (*place, record.offset)
                )
                self._claims.append((*place, record.offset, event.worker))
            elif isinstance(event, CopyChanged):
                if event.claim >= claims.get(place, 0):
                    self._fold_copy(db, record.partition, event)
            elif isinstance(event, (RedactionDecided, RedactionLifted)):
                fold_decision(db, event)
            elif isinstance(event, ChangeAnnounced):
                if event.claim >= claims.get(place, 0):
                    keys.said(*place, event.key)
                    newest[event.key] = (record.partition, event)
                else:
                    keys.late_in_order(*place, event.key, event)
                    self._late.append((*place, event))
        for partition, change in newest.values():
            self._fold_change(db, partition, change)
        keys.store()

    def began(self, db: sqlite3.Connection, topic: str) -> None:
        """See ChangingFold: what it says is folded from its start."""

    def ended(self, db: sqlite3.Connection, topic: str) -> None:
        """See ChangingFold. A life that is over says nothing more, and nothing is owed of it."""
        life = self._topics.find_life(topic)
        if life is not None:
            name = str(life[0])
            db.execute("DELETE FROM copies WHERE replica = ?", (name,))
            db.execute("DELETE FROM owed WHERE replica = ?", (name,))
        db.execute("DELETE FROM claims WHERE topic = ?", (topic,))

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        del records
        if self._touched:
            self._on_touched(self._touched)
        if self._claims:
            self._on_claims(self._claims)
        if self._late:
            self._on_late(self._late)

    def _fold_copy(self, db: sqlite3.Connection, partition: int, event: CopyChanged) -> None:
        if event.state is CopyState.PENDING:
            # Coming back: what it said of being gone holds no more.
            db.execute(
                "UPDATE copies SET state = ? WHERE key = ? AND replica = ? AND state = 'redacted'",
                (event.state, event.key, event.replica),
            )
        if event.state not in _ANNOUNCED_STATES and event.state is not CopyState.REDACTING:
            return
        db.execute(
            "INSERT OR REPLACE INTO copies VALUES (?, ?, ?, ?, ?, ?)",
            (
                event.key,
                event.replica,
                event.incarnation,
                event.state,
                event.changed_at_ms,
                event.error,
            ),
        )
        if event.state is CopyState.REDACTING:
            # Neither here nor gone, so that it is not taken for present until it is.
            db.execute(
                "DELETE FROM owed WHERE partition = ? AND key = ? AND replica = ?",
                (partition, event.key, event.replica),
            )
            return
        if event.state is CopyState.EXCLUDED and _is_said_everywhere(db, event.key):
            return  # nothing is said of it alone, and nothing more is waited for
        db.execute(
            "INSERT OR IGNORE INTO owed VALUES (?, ?, ?)", (partition, event.key, event.replica)
        )
        self._touched.append((partition, event.key))

    def _fold_change(self, db: sqlite3.Connection, partition: int, event: ChangeAnnounced) -> None:
        db.execute(
            "INSERT OR REPLACE INTO announced VALUES (?, ?, ?, ?)",
            (event.key, event.sequence, encode(event), event.is_everywhere),
        )
        states = dict(
            db.execute("SELECT replica, state FROM copies WHERE key = ?", (event.key,)).fetchall()
        )
        shown = [
            (partition, event.key, place.replica)
            for place in event.copies
            if states.get(place.replica, place.state) == place.state
        ]
        db.executemany("DELETE FROM owed WHERE partition = ? AND key = ? AND replica = ?", shown)
        everywhere = (partition, event.key, _EVERYWHERE)
        if is_everywhere(event) and not event.is_everywhere:
            db.execute("INSERT OR IGNORE INTO owed VALUES (?, ?, ?)", everywhere)
        elif event.is_everywhere:
            db.execute(
                "DELETE FROM owed WHERE partition = ? AND key = ? AND (replica = ? OR replica IN"
                " (SELECT replica FROM copies WHERE key = ? AND state = 'excluded'))",
                (*everywhere, event.key),
            )


def _is_said_everywhere(db: sqlite3.Connection, key: str) -> bool:
    found = db.execute("SELECT 1 FROM announced WHERE key = ? AND is_everywhere", (key,))
    return found.fetchone() is not None


class FeedsQueries:
    """Questions of the feeds worker, asked on its event loop's thread."""

    def __init__(self, view: View) -> None:
        self._view = view

    def announced(self, key: str) -> ChangeAnnounced | None:
        """The last announcement of a key."""
        rows = self._view.query("SELECT record FROM announced WHERE key = ?", (key,))
        found = decode(rows[0][0]) if rows else None
        return found if isinstance(found, ChangeAnnounced) else None

    def copies(self, key: str) -> list[KnownCopy]:
        """The copies of a key that are settled, parked, or on their way out."""
        rows = self._view.query("SELECT * FROM copies WHERE key = ?", (key,))
        return [
            KnownCopy(
                row["replica"],
                row["incarnation"],
                CopyState(row["state"]),
                row["changed_at_ms"],
                row["error"],
            )
            for row in rows
        ]

    def owed(self, partition: int) -> list[str]:
        """Keys of a partition of which something is not announced yet."""
        rows = self._view.query("SELECT DISTINCT key FROM owed WHERE partition = ?", (partition,))
        return [row[0] for row in rows]

    def overruled(self, topic: str, partition: int) -> list[ChangeAnnounced]:
        """Late words behind which the right one must be said (connectors/overruled.py)."""
        found = [decode(row[1]) for row in self._view.query(OVERRULED_QUERY, (topic, partition))]
        return [event for event in found if isinstance(event, ChangeAnnounced)]
