"""The index: what is where, folded from the log and from every replica's copies.

A view, never the truth: it answers reads, listings and "is this reference there?", but never
whether a write may happen; that is the origin's conditional create (design point 1).

    objects   one row per key: the newest ObjectWritten, and for a file what its manifest says
    copies    one row per key and replica: the newest accepted CopyChanged
    pending   one row per key and replica that is not settled and not parked there: the lag
    own       copies with a record on the replica that their object was written to: mended ones
    (lag_tables.py has those that count lateness)
    redactions, gone, owed   what is redacted, and what is to be finished: redaction_tables.py
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from tidestore.api import redaction_tables
from tidestore.api.lag_tables import TABLES as LAG_TABLES
from tidestore.api.lag_tables import LagFold
from tidestore.connectors.view import Folded
from tidestore.schemas.canaries import CanaryProved, CanarySent
from tidestore.schemas.events import (
    CopyChanged,
    CopyState,
    ObjectWritten,
    PartitionClaimed,
    ReplicaRegistered,
)
from tidestore.schemas.manifests import read_file_manifest
from tidestore.schemas.objectives import ObjectiveChanged
from tidestore.schemas.objects import Kind, MalformedError, find_key_parts
from tidestore.schemas.topics import Topics

LOGGER: Final = logging.getLogger("tidestore.index")

_TABLES: Final = (
    "CREATE TABLE objects (key TEXT PRIMARY KEY, partition INTEGER, offset INTEGER, size INTEGER,"
    " sha256 TEXT, sha1 TEXT, crc32c TEXT, md5 TEXT, content_type TEXT, origin TEXT,"
    " written_at_ms INTEGER, name TEXT, link_sha256 TEXT, link_size INTEGER, link_type TEXT,"
    " written_by TEXT, request_id TEXT)"
    " WITHOUT ROWID",
    "CREATE TABLE copies (key TEXT, replica TEXT, incarnation INTEGER, state TEXT, claim INTEGER,"
    " changed_at_ms INTEGER, checksums TEXT, attempts INTEGER, next_try_at_ms INTEGER,"
    " error_class TEXT, error TEXT, waits_for TEXT, waits_count INTEGER, is_incomplete INTEGER,"
    " bytes_done INTEGER, size INTEGER, PRIMARY KEY (key, replica)) WITHOUT ROWID",
    "CREATE INDEX copies_parked ON copies (replica, key) WHERE state = 'parked'",
    "CREATE INDEX copies_under_way ON copies (replica, key) WHERE bytes_done IS NOT NULL",
    "CREATE TABLE pending (replica TEXT, key TEXT, written_at_ms INTEGER, size INTEGER,"
    " PRIMARY KEY (replica, key)) WITHOUT ROWID",
    "CREATE INDEX pending_oldest ON pending (replica, written_at_ms)",
    "CREATE TABLE own (replica TEXT, key TEXT, PRIMARY KEY (replica, key)) WITHOUT ROWID",
    # Counts are kept by triggers, so that asking for them never scans: of copies by their state,
    # of the two other tables under a name with a star.
    "CREATE TABLE totals (name TEXT, replica TEXT, objects INTEGER, bytes INTEGER,"
    " PRIMARY KEY (name, replica)) WITHOUT ROWID",
    "CREATE TRIGGER copies_new AFTER INSERT ON copies BEGIN"
    " INSERT INTO totals VALUES (new.state, new.replica, 1, 0)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1; END",
    "CREATE TRIGGER copies_changed AFTER UPDATE ON copies WHEN old.state <> new.state BEGIN"
    " UPDATE totals SET objects = objects - 1 WHERE name = old.state AND replica = old.replica;"
    " INSERT INTO totals VALUES (new.state, new.replica, 1, 0)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1; END",
    "CREATE TRIGGER pending_new AFTER INSERT ON pending BEGIN"
    " INSERT INTO totals VALUES ('pending*', new.replica, 1, new.size)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1, bytes = bytes + new.size; END",
    "CREATE TRIGGER pending_done AFTER DELETE ON pending BEGIN"
    " UPDATE totals SET objects = objects - 1, bytes = bytes - old.size"
    " WHERE name = 'pending*' AND replica = old.replica; END",
    "CREATE TRIGGER objects_new AFTER INSERT ON objects BEGIN"
    " INSERT INTO totals VALUES ('written*', new.origin, 1, new.size)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1, bytes = bytes + new.size; END",
    "CREATE TABLE claims (topic TEXT, partition INTEGER, offset INTEGER,"
    " PRIMARY KEY (topic, partition)) WITHOUT ROWID",
    *redaction_tables.TABLES,
)
_PUT_OBJECT: Final = (
    "INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET partition = excluded.partition, offset = excluded.offset,"
    " size = excluded.size, sha256 = excluded.sha256, origin = excluded.origin"
)
# The origin's worker knows of a redacted object but the key, so its record names no origin: the
# object's row does, whichever of the two is folded first.
_OWN_COPY: Final = (
    "INSERT OR IGNORE INTO own SELECT origin, key FROM objects WHERE key = ? AND origin = ?"
)
_OWN_OBJECT: Final = (
    "INSERT OR IGNORE INTO own SELECT objects.origin, objects.key FROM objects JOIN copies"
    " ON copies.key = objects.key AND copies.replica = objects.origin WHERE objects.key = ?"
)
_COPY_COLUMNS: Final = (
    "key", "replica", "incarnation", "state", "claim", "changed_at_ms", "checksums", "attempts",
    "next_try_at_ms", "error_class", "error", "waits_for", "waits_count", "is_incomplete",
    "bytes_done", "size",
)  # fmt: skip
# An upsert and not a replace: a replace is a deletion to the triggers.
_PUT_COPY: Final = (
    f"INSERT INTO copies VALUES ({', '.join('?' * len(_COPY_COLUMNS))})"
    " ON CONFLICT (key, replica) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COPY_COLUMNS[2:])
)


class IndexFold:
    """Makes the index. `replicas` maps each replica's copies topic to its name.

    Replicas come and go while it is followed: see ChangingFold. A new one owes all that was ever
    written, from the transaction on in which its topic begins to be followed.
    """

    version = 9

    def __init__(
        self,
        replicas: dict[str, str],
        on_keys: Callable[[set[str]], None],
        on_owed: Callable[[], None] = lambda: None,
        topics: Topics | None = None,
    ) -> None:
        self._replicas = dict(replicas)
        self._on_keys = on_keys
        self._lags = LagFold()
        self._on_owed = on_owed
        self._is_owed = False
        self._topics = topics or Topics()

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        for statement in (*_TABLES, *LAG_TABLES):
            db.execute(statement)

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold. Objects first and then copies, each in bulk: both orders give the same rows."""
        claims: dict[tuple[str, int], int] = {
            (topic, partition): offset
            for topic, partition, offset in db.execute("SELECT * FROM claims")
        }
        written: list[Folded] = []
        copies: list[CopyChanged] = []
        for record in records:
            event = record.event
            if isinstance(event, ObjectWritten):
                written.append(record)
            elif isinstance(event, CopyChanged):
                if event.claim >= claims.get((record.topic, record.partition), 0):
                    copies.append(event)
            elif isinstance(event, PartitionClaimed):
                claims[record.topic, record.partition] = record.offset
                db.execute(
                    "INSERT OR REPLACE INTO claims VALUES (?, ?, ?)",
                    (record.topic, record.partition, record.offset),
                )
            elif isinstance(event, (CanarySent, CanaryProved)):
                self._lags.canary(db, event, claims.get((record.topic, record.partition), 0))
            elif isinstance(event, (ReplicaRegistered, ObjectiveChanged)):
                self._lags.note(db, event)
        if written:
            self._fold_written(db, written)
        if copies:
            self._fold_copies(db, copies)
        redaction_tables.fold_redactions(db, records)
        self._is_owed = db.execute("SELECT 1 FROM owed LIMIT 1").fetchone() is not None

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        self._on_keys({record.key for record in records})
        if self._is_owed:
            self._on_owed()

    def began(self, db: sqlite3.Connection, topic: str) -> None:
        """See ChangingFold. Some seconds for a million objects, once in a replica's life."""
        life = self._topics.find_life(topic)
        if life is None:
            return
        name = str(life[0])
        self._replicas[topic] = name
        db.execute(
            "INSERT OR IGNORE INTO pending SELECT ?, key, written_at_ms, size FROM objects"
            " WHERE origin <> ?",
            (name, name),
        )

    def ended(self, db: sqlite3.Connection, topic: str) -> None:
        """See ChangingFold. What a replica said in a life that is over is not believed any more."""
        self._replicas.pop(topic, None)
        life = self._topics.find_life(topic)
        if life is None:
            return
        name = str(life[0])
        db.execute("DELETE FROM copies WHERE replica = ?", (name,))
        db.execute("DELETE FROM pending WHERE replica = ?", (name,))
        db.execute("DELETE FROM claims WHERE topic = ?", (topic,))
        # Counts of copies have no trigger for this one deletion that there is of them.
        db.execute("DELETE FROM totals WHERE replica = ? AND name <> 'written*'", (name,))
        self._lags.ended(db, name)

    def _fold_written(self, db: sqlite3.Connection, records: list[Folded]) -> None:
        db.executemany(_PUT_OBJECT, [_object_row(record) for record in records])
        db.executemany(_OWN_OBJECT, [(record.key,) for record in records])
        pending = [
            (replica, event.key, event.written_at_ms, event.size, event.key, replica)
            for record in records
            if isinstance(event := record.event, ObjectWritten)
            for replica in self._replicas.values()
            if replica != event.origin
        ]
        # A copies record may be folded before its object's: other topic, other partition fetch.
        db.executemany(
            "INSERT OR IGNORE INTO pending SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM copies"
            " WHERE key = ? AND replica = ?"
            " AND state IN ('present', 'excluded', 'redacted', 'redacting', 'parked'))",
            pending,
        )

    def _fold_copies(self, db: sqlite3.Connection, events: list[CopyChanged]) -> None:
        self._lags.arrived(db, events)
        db.executemany(_PUT_COPY, [_copy_row(event) for event in events])
        db.executemany(_OWN_COPY, [(event.key, event.replica) for event in events])
        for event in events:
            place = (event.replica, event.key)
            if event.state in (CopyState.PENDING, CopyState.WAITING, CopyState.CORRUPT):
                db.execute(
                    "INSERT OR IGNORE INTO pending VALUES (?, ?, ?, ?)",
                    (*place, event.written_at_ms, event.size),
                )
            else:
                db.execute("DELETE FROM pending WHERE replica = ? AND key = ?", place)


def _object_row(record: Folded) -> tuple[object, ...]:
    event = record.event
    assert isinstance(event, ObjectWritten), "the caller chose them"  # noqa: S101
    name = link_sha256 = link_type = None
    link_size = None
    parts = find_key_parts(event.key)
    if parts is not None and parts.kind is Kind.FILE and event.data is not None:
        try:
            manifest = read_file_manifest(event.data)
            name, link_type = manifest.name, manifest.content_type
            link_sha256, link_size = manifest.checksums.sha256, manifest.checksums.size
        except MalformedError as error:
            LOGGER.error("%s is no file manifest: %s", event.key, error)
    return (
        event.key,
        record.partition,
        record.offset,
        event.size,
        event.sha256,
        event.sha1,
        event.crc32c,
        event.md5,
        event.content_type,
        event.origin,
        event.written_at_ms,
        name,
        link_sha256,
        link_size,
        link_type,
        event.written_by,
        event.request_id,
    )


def _copy_row(event: CopyChanged) -> tuple[object, ...]:
    return tuple(getattr(event, name) for name in _COPY_COLUMNS)
