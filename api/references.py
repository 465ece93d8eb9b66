"""Who names what: the children of bundles and collections, for redactions alone.

A view of its own over log and `redactions`, begun when something is redacted here for the first
time: a store that has redacted nothing pays nothing for it. What a preview lists as referring, and
whether a manifest that is read names something that is gone, are answered from it.

    refs    parent and child, from manifests that ride inside their events
    unread  manifests too large for that: read from a store when they are asked about, then noted
    gone    targets of redactions that stand
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tidestore.api.redaction_tables import targets_of
from tidestore.connectors.errors import StoreError
from tidestore.connectors.kafka import KafkaSettings, LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view import Folded, View
from tidestore.schemas.events import ObjectWritten, RedactionDecided, RedactionLifted
from tidestore.schemas.manifests import children_of
from tidestore.schemas.objects import Kind, MalformedError, ObjectKey, find_key_parts
from tidestore.schemas.topics import Topics

LOGGER: Final = logging.getLogger("tidestore.references")

# The first question waits for the whole log to be read; a longer one is answered with 503.
_FOLD_SECONDS_MAX: Final = 60.0
# Large manifests that one question reads; a preview says when there were more.
_UNREAD_MAX: Final = 1_000
# No manifest of ours is larger: the API refuses a longer one (Limits.json_bytes_max).
_MANIFEST_BYTES_MAX: Final = 32 * 1024 * 1024
_NAMES_MAX: Final = 10_000
# For each topic the next offset of each partition.
Ends = Mapping[str, dict[int, int]]
_PARENTS: Final = frozenset({Kind.BUNDLE, Kind.COLLECTION})


class ReferencesFold:
    """Makes the tables."""

    version = 1

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE refs (parent TEXT, child TEXT, whole TEXT, PRIMARY KEY (parent, child))"
            " WITHOUT ROWID"
        )
        db.execute("CREATE INDEX refs_child ON refs (child)")
        db.execute("CREATE TABLE unread (key TEXT PRIMARY KEY) WITHOUT ROWID")
        db.execute("CREATE TABLE gone (target TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID")

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        for record in records:
            event = record.event
            if isinstance(event, ObjectWritten):
                _fold_written(db, event)
            elif isinstance(event, RedactionDecided):
                db.execute(
                    "INSERT OR REPLACE INTO gone VALUES (?, ?)", (event.target, event.number)
                )
            elif isinstance(event, RedactionLifted):
                db.execute(
                    "DELETE FROM gone WHERE target = ? AND number <= ?",
                    (event.target, event.number),
                )

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""


def _fold_written(db: sqlite3.Connection, event: ObjectWritten) -> None:
    parts = find_key_parts(event.key)
    if parts is None or parts.kind not in _PARENTS:
        return
    if event.data is None:
        db.execute("INSERT OR IGNORE INTO unread VALUES (?)", (event.key,))
        return
    try:
        children = children_of(parts.kind, parts.dataset, event.data)
    except MalformedError as error:
        LOGGER.error("%s is no manifest: %s", event.key, error)
        return
    _note(db, event.key, children)


def _note(db: sqlite3.Connection, parent: str, children: Iterable[str]) -> None:
    rows = [(parent, child, targets_of(child)[-1]) for child in children]
    db.executemany("INSERT OR IGNORE INTO refs VALUES (?, ?, ?)", rows)


def incompleteness(gone: list[str] | None) -> str:
    """What a header says of a manifest: nothing when all that it names is there."""
    return "unknown" if gone is None else "true" if gone else ""


class References:
    """Answers of one gateway. Belongs to its event loop."""

    def __init__(
        self,
        folder: Path,
        kafka: KafkaSettings,
        topics: Topics,
        writer: LogWriter,
        stores: Mapping[str, ObjectStore],
    ) -> None:
        self._path = folder / "references.sqlite"
        self._topics = topics
        self._writer = writer
        self._stores = stores
        self._view = View(self._path, ReferencesFold(), kafka, [topics.redactions, topics.log])
        self._is_running = False

    async def start(self) -> None:
        """Begin to fold; does nothing the second time."""
        if not self._is_running:
            self._is_running = True
            await self._view.start()

    async def close(self) -> None:
        """Stop folding."""
        if self._is_running:
            await self._view.stop()

    async def parents_of(self, keys: Sequence[str]) -> tuple[dict[str, list[str]], bool]:
        """The manifests that name each of these keys, and whether all of them could be read.

        Reads the log to its end as it is now. Raises LogError.
        """
        await self.start()
        topics = self._topics
        for topic, count in ((topics.redactions, 1), (topics.log, topics.partitions)):
            ends = await self._writer.ends(topic, list(range(count)))
            await self._view.reached(topic, ends, timeout_seconds=_FOLD_SECONDS_MAX)
        unread = [row["key"] for row in self._view.query("SELECT key FROM unread ORDER BY key")]
        is_complete = len(unread) <= _UNREAD_MAX
        for key in unread[:_UNREAD_MAX]:
            is_complete = await self._read(key) and is_complete
        found: dict[str, list[str]] = {}
        for key in keys:
            rows = self._view.query(
                "SELECT parent FROM refs WHERE child = ? LIMIT ?", (key, _NAMES_MAX)
            )
            found[key] = [row["parent"] for row in rows]
        return found, is_complete

    async def gone_from(self, parent: str, known: Ends, wait_seconds: float) -> list[str] | None:
        """What a manifest names and is redacted; None when that is not known yet.

        `known` is how far the index has come: waits a moment to come as far. No broker is asked.
        """
        await self.start()
        try:
            for topic, ends in known.items():
                await self._view.reached(topic, ends, timeout_seconds=wait_seconds)
        except LogError:
            return None
        if self._view.query("SELECT 1 FROM unread WHERE key = ?", (parent,)) and not (
            await self._read(parent)
        ):
            return None
        rows = self._view.query(
            "SELECT refs.child FROM refs WHERE refs.parent = ? AND (EXISTS (SELECT 1 FROM gone"
            " WHERE target = refs.child) OR EXISTS (SELECT 1 FROM gone WHERE target = refs.whole))"
            " ORDER BY refs.child LIMIT ?",
            (parent, _NAMES_MAX),
        )
        return [row["child"] for row in rows]

    async def _read(self, key: str) -> bool:
        """Read a large manifest from the first store that has it, and note what it names."""
        parts = find_key_parts(key)
        assert parts is not None, "only keys of ours are noted"  # noqa: S101
        for store in self._stores.values():
            with contextlib.suppress(StoreError, MalformedError):
                stream = await store.get(ObjectKey(key))
                try:
                    if stream.info.size > _MANIFEST_BYTES_MAX:
                        continue
                    data = b"".join([chunk async for chunk in stream.chunks])
                finally:
                    await stream.close()
                children = await asyncio.to_thread(children_of, parts.kind, parts.dataset, data)
                await asyncio.to_thread(self._store_children, key, children)
                return True
        return False

    def _store_children(self, parent: str, children: Sequence[str]) -> None:
        """In a thread, beside the view's own: SQLite lets one write after the other."""
        db = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        try:
            db.execute("BEGIN IMMEDIATE")
            _note(db, parent, children)
            db.execute("DELETE FROM unread WHERE key = ?", (parent,))
            db.execute("COMMIT")
        finally:
            db.close()
