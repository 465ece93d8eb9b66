"""How late copies are, counted while they are folded: asking never scans what is counted.

    pending_slots  by replica and ten seconds of writing: how many are not settled yet
    troubles       by replica and error class: how many wait because a try failed
    canaries       by replica: the newest that was proved; and which were sent
    outcomes       by replica, size class, minute of arrival and bucket: how long copies took

All three follow from the newest records of each key, so every gateway that has folded the same log
says the same, and so does a view that was folded again. What was written before the replica was
there is backfill: it is counted as pending, but has no lag, and no promise was made for it.
"""

from __future__ import annotations

import sqlite3
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from tidestore.schemas.canaries import CanaryProved, CanarySent
from tidestore.schemas.events import CopyChanged, CopyState, ReplicaRegistered
from tidestore.schemas.objectives import ObjectiveChanged

SLOT_MS: Final = 10_000
MINUTE_MS: Final = 60_000
# Arrivals are kept for the longest window that anybody may ask for.
KEEP_MINUTES: Final = 24 * 60
# Upper bounds of the buckets, in milliseconds: about a third apart where lags usually are.
BOUNDS_MS: Final = (
    5, 10, 15, 20, 30, 45, 60, 90, 130, 200, 300, 450, 700, 1_000, 1_500, 2_000, 3_000, 5_000,
    8_000, 15_000, 30_000, 60_000, 180_000, 300_000, 900_000, 1_800_000, 3_600_000, 86_400_000,
)  # fmt: skip
# Up to: what rides inside its event; what is copied in one piece; all else.
SIZE_CLASSES: Final = (("small", 32 * 1024), ("medium", 8 * 1024 * 1024), ("large", None))
# Not trouble: a copy that takes long is also written down.
_NO_TROUBLE: Final = "('slow')"

TABLES: Final = (
    "CREATE TABLE objectives (replica TEXT, incarnation INTEGER, number INTEGER, is_kept INTEGER,"
    " PRIMARY KEY (replica, incarnation)) WITHOUT ROWID",
    "CREATE TABLE registered (replica TEXT PRIMARY KEY, incarnation INTEGER, since_ms INTEGER)"
    " WITHOUT ROWID",
    "CREATE TABLE pending_slots (replica TEXT, slot INTEGER, objects INTEGER,"
    " PRIMARY KEY (replica, slot)) WITHOUT ROWID",
    f"CREATE TRIGGER pending_slots_new AFTER INSERT ON pending BEGIN"
    f" INSERT INTO pending_slots VALUES (new.replica, new.written_at_ms / {SLOT_MS}, 1)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1; END",
    f"CREATE TRIGGER pending_slots_done AFTER DELETE ON pending BEGIN"
    f" UPDATE pending_slots SET objects = objects - 1 WHERE replica = old.replica"
    f" AND slot = old.written_at_ms / {SLOT_MS}; END",
    "CREATE TABLE troubles (replica TEXT, error_class TEXT, objects INTEGER,"
    " PRIMARY KEY (replica, error_class)) WITHOUT ROWID",
    "CREATE TRIGGER troubles_new AFTER INSERT ON copies WHEN new.state = 'pending'"
    f" AND new.error_class IS NOT NULL AND new.error_class NOT IN {_NO_TROUBLE} BEGIN"
    " INSERT INTO troubles VALUES (new.replica, new.error_class, 1)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1; END",
    "CREATE TRIGGER troubles_over AFTER UPDATE ON copies WHEN old.state = 'pending'"
    f" AND old.error_class IS NOT NULL AND old.error_class NOT IN {_NO_TROUBLE} BEGIN"
    " UPDATE troubles SET objects = objects - 1"
    " WHERE replica = old.replica AND error_class = old.error_class; END",
    "CREATE TRIGGER troubles_more AFTER UPDATE ON copies WHEN new.state = 'pending'"
    f" AND new.error_class IS NOT NULL AND new.error_class NOT IN {_NO_TROUBLE} BEGIN"
    " INSERT INTO troubles VALUES (new.replica, new.error_class, 1)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1; END",
    "CREATE TABLE canaries (replica TEXT PRIMARY KEY, sent_at_ms INTEGER, lag_ms INTEGER)"
    " WITHOUT ROWID",
    "CREATE TABLE canaries_sent (sent_at_ms INTEGER PRIMARY KEY)",
    "CREATE TABLE outcomes (replica TEXT, minute INTEGER, size_class TEXT, bucket INTEGER,"
    " objects INTEGER, PRIMARY KEY (replica, minute, size_class, bucket)) WITHOUT ROWID",
)
# SQLite takes 32,766 variables in a statement.
_KEYS_PER_QUERY: Final = 500


def size_class_of(size: int) -> str:
    """Which class an object of this size is counted in."""
    return next(name for name, bound in SIZE_CLASSES if bound is None or size <= bound)


def bucket_of(lag_ms: int) -> int:
    """The number of the bucket: its bound is the first that is not smaller."""
    return bisect_left(BOUNDS_MS, lag_ms)


class LagFold:
    """Keeps the tables. Called by the index's fold, in its thread and transaction."""

    def __init__(self) -> None:
        self._pruned_minute = 0

    def note(self, db: sqlite3.Connection, event: ReplicaRegistered | ObjectiveChanged) -> None:
        """A replica is there, in this life; only its first record says since when.

        Or somebody said that its objective is missed or kept again: once for a number.
        """
        if isinstance(event, ObjectiveChanged):
            self._told(db, event)
            return
        db.execute(
            "INSERT INTO registered VALUES (?, ?, ?) ON CONFLICT (replica) DO UPDATE SET"
            " incarnation = excluded.incarnation, since_ms = excluded.since_ms"
            " WHERE excluded.incarnation > incarnation",
            (event.name, event.incarnation, event.registered_at_ms),
        )

    def ended(self, db: sqlite3.Connection, replica: str) -> None:
        """A life of a replica is over: nothing waits any more, its promise is forgotten."""
        for table in ("pending_slots", "troubles", "outcomes", "canaries"):
            db.execute(f"DELETE FROM {table} WHERE replica = ?", (replica,))

    def canary(self, db: sqlite3.Connection, event: CanarySent | CanaryProved, claim: int) -> None:
        """A canary was sent, or proved under the partition's newest `claim`; the newest counts."""
        if isinstance(event, CanarySent):
            db.execute("INSERT OR IGNORE INTO canaries_sent VALUES (?)", (event.sent_at_ms,))
            oldest_ms = event.sent_at_ms - KEEP_MINUTES * MINUTE_MS
            db.execute("DELETE FROM canaries_sent WHERE sent_at_ms < ?", (oldest_ms,))
            return
        if event.claim < claim:
            return
        lag_ms = max(0, event.proved_at_ms - event.sent_at_ms)
        db.execute(
            "INSERT INTO canaries VALUES (?, ?, ?) ON CONFLICT (replica) DO UPDATE SET"
            " sent_at_ms = excluded.sent_at_ms, lag_ms = excluded.lag_ms"
            " WHERE excluded.sent_at_ms > sent_at_ms",
            (event.replica, event.sent_at_ms, lag_ms),
        )

    def _told(self, db: sqlite3.Connection, event: ObjectiveChanged) -> None:
        db.execute(
            "INSERT INTO objectives VALUES (?, ?, ?, ?) ON CONFLICT (replica, incarnation)"
            " DO UPDATE SET number = excluded.number, is_kept = excluded.is_kept"
            " WHERE excluded.number > number",
            (event.replica, event.incarnation, event.number, event.is_kept),
        )

    def arrived(self, db: sqlite3.Connection, events: Sequence[CopyChanged]) -> None:
        """Count copies that become present. Called before their records are stored."""
        now_minute = int(time.time() * 1000) // MINUTE_MS
        oldest_ms = (now_minute - KEEP_MINUTES) * MINUTE_MS
        fresh = {
            (event.replica, event.key): event
            for event in reversed(events)  # the first that says so counts
            if event.state is CopyState.PRESENT and event.changed_at_ms >= oldest_ms
        }
        if not fresh:
            return
        since = dict(db.execute("SELECT replica, since_ms FROM registered"))
        for known in self._present(db, fresh):
            fresh.pop(known, None)
        cells: Counter[tuple[str, int, str, int]] = Counter()
        for event in fresh.values():
            if event.written_at_ms >= since.get(event.replica, 0):
                lag_ms = max(0, event.changed_at_ms - event.written_at_ms)
                minute, size = event.changed_at_ms // MINUTE_MS, size_class_of(event.size)
                cells[event.replica, minute, size, bucket_of(lag_ms)] += 1
        db.executemany(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET objects = objects + excluded.objects",
            [(*cell, count) for cell, count in cells.items()],
        )
        self._prune(db, now_minute)

    def _present(
        self, db: sqlite3.Connection, fresh: Iterable[tuple[str, str]]
    ) -> Iterable[tuple[str, str]]:
        """Those that were present before: repeats, which have been counted."""
        by_replica: dict[str, list[str]] = {}
        for replica, key in fresh:
            by_replica.setdefault(replica, []).append(key)
        for replica, keys in by_replica.items():
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                batch = keys[start : start + _KEYS_PER_QUERY]
                marks = ", ".join("?" * len(batch))
                found = db.execute(
                    f"SELECT key FROM copies WHERE key IN ({marks}) AND replica = ?"
                    " AND state = 'present'",
                    (*batch, replica),
                ).fetchall()
                yield from ((replica, key) for (key,) in found)

    def _prune(self, db: sqlite3.Connection, now_minute: int) -> None:
        if now_minute == self._pruned_minute:
            return
        self._pruned_minute = now_minute
        db.execute("DELETE FROM outcomes WHERE minute < ?", (now_minute - KEEP_MINUTES,))
        db.execute("DELETE FROM pending_slots WHERE objects = 0")
        db.execute("DELETE FROM troubles WHERE objects = 0")
