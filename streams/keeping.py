"""What stands in the state topics, written to this worker's replica: nothing is only in Kafka.

    hooks, redactions, replicas --View--> rows --what is not there yet--> .tidestore/kept/ on the
                                           ^                              replica
                                           '-- listed at the start

Each worker does it for its own replica alone, so one that is down delays no other (R8). A process
of the same group writes the same names with the same bytes: the second finds them taken.

Crash points. Before a put: the next start lists the replica and puts what is not there. After it:
the same, and finds it. The rows themselves are a view, made again from Kafka at will.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

from tidestore.connectors.errors import ObjectExistsError, StoreError
from tidestore.connectors.sealing import RecordSeal
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view import Folded, View
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.codec import encode
from tidestore.schemas.kept import (
    KEPT_CONTENT_TYPE,
    KEPT_TOPICS,
    SEALED_TOPICS,
    Kept,
    kept_bytes,
    kept_key,
)
from tidestore.schemas.own_keys import KEPT_PREFIX
from tidestore.streams.settings import WorkerSettings

LOGGER: Final = logging.getLogger("tidestore.keeping")

# A store that is down is tried again this often: what is owed is a few small objects.
_RETRY_SECONDS: Final = 10.0
# Rows are taken in pages, so that a million redactions are never in memory at once.
_PAGE: Final = 200


class KeptFold:
    """The newest record of each key of the state topics, and where it stood."""

    version = 1

    def __init__(self, words: dict[str, str], on_changed: Callable[[], None]) -> None:
        self._words = words
        self._on_changed = on_changed

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE kept (topic TEXT, key TEXT, offset INTEGER, appended_at_ms INTEGER,"
            " value BLOB, number INTEGER, PRIMARY KEY (topic, key)) WITHOUT ROWID"
        )
        db.execute("CREATE UNIQUE INDEX kept_number ON kept (number)")

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        number = db.execute("SELECT coalesce(max(number), 0) FROM kept").fetchone()[0]
        for record in records:
            if record.event is None:
                continue  # poisoned: whoever reads the topic passes over it too
            number += 1
            db.execute(
                "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?)",
                (
                    self._words[record.topic],
                    record.key,
                    record.offset,
                    record.timestamp_ms,
                    encode(record.event),
                    number,
                ),
            )

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        del records
        self._on_changed()


class Keeper:
    """Writes to one replica. Belongs to its worker's event loop."""

    def __init__(self, store: ObjectStore, view: View, generation: int, seal: RecordSeal) -> None:
        self._store = store
        self._view = view
        self._generation = generation
        self._seal = seal
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Keep what is not kept yet, and again after each change, until cancelled."""
        there: set[str] | None = None
        done, refolds = 0, 0
        while True:
            self.changed.clear()
            if self._view.refolds != refolds:
                done, refolds = 0, self._view.refolds  # numbers began again
            try:
                if there is None:
                    there = {info.key async for info in self._store.list(KEPT_PREFIX)}
                done = await self._keep(done, there)
            except StoreError as error:
                LOGGER.warning("%s: cannot keep records yet: %s", self._store.name, error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await self.changed.wait()

    async def _keep(self, done: int, there: set[str]) -> int:
        """Write all rows above a number that are not there; the highest number."""
        while True:
            rows = self._view.query(
                "SELECT * FROM kept WHERE number > ? ORDER BY number LIMIT ?", (done, _PAGE)
            )
            for row in rows:
                await self._put(row, there)
                done = row["number"]
            if len(rows) < _PAGE:
                return done

    async def _put(self, row: sqlite3.Row, there: set[str]) -> None:
        topic, value = row["topic"], row["value"]
        is_sealed = topic in SEALED_TOPICS
        if is_sealed:
            if not self._seal.has_key:
                return  # no gateway of this store takes a hook without a key either
            value = self._seal.close(value, f"{topic}/{row['key']}")
        record = Kept(
            topic=topic,
            key=row["key"],
            generation=self._generation,
            offset=row["offset"],
            appended_at_ms=row["appended_at_ms"],
            value=value,
            is_sealed=is_sealed,
        )
        key = kept_key(record)
        if key in there:
            return
        body = kept_bytes(record)
        try:
            await self._store.put_if_absent(
                key, body, checksums_of(body), content_type=KEPT_CONTENT_TYPE
            )
        except ObjectExistsError:
            LOGGER.debug("%s is kept already", key)
        there.add(key)


async def start_keeping(
    settings: WorkerSettings, store: ObjectStore, stack: contextlib.AsyncExitStack
) -> None:
    """Keep records on a worker's replica, beside everything else; ended by `stack`."""
    loop, topics = asyncio.get_running_loop(), settings.topics
    names = {"hooks": topics.hooks, "redactions": topics.redactions, "replicas": topics.replicas}
    words = {names[word]: word for word in KEPT_TOPICS}

    def changed() -> None:
        """In the view's thread; the loop may be closing."""
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(keeper.changed.set)

    path = settings.data_folder / f"kept-{settings.replica.name}.sqlite"
    view = View(path, KeptFold(words, changed), settings.kafka, list(words))
    keeper = Keeper(store, view, topics.generation, RecordSeal(settings.seal_key))
    await view.start()
    stack.push_async_callback(view.stop)
    task = asyncio.create_task(keeper.run())
    task.add_done_callback(_say_why_ended)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


def _say_why_ended(task: asyncio.Task[None]) -> None:
    """It never ends by itself; when it does, copies go on, and the operator must hear of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        LOGGER.error("records are not kept on the replica any more", exc_info=error)
