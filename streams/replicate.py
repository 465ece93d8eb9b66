"""One worker of one replica: the parts wired together, from its start to its end.

                 Kafka group                     copies.<replica>
    log --Faust agent--> Intake --> Mover --put--> target store
                           |          |--record--> copies.<replica> --View--> KnownStates
                           |          '                                 |
                       commit below                                  Lanes: due, woken, overruled
                       the low-water mark
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import Final

import faust

from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import provision
from tidestore.connectors.registry import make_store
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view import View
from tidestore.streams.app import add_agent, commit, make_app
from tidestore.streams.copies import CopiesFold, CopiesQueries, FoldNotes
from tidestore.streams.holdings import Holdings
from tidestore.streams.intake import Intake
from tidestore.streams.lanes import Lanes
from tidestore.streams.mover import Mover
from tidestore.streams.records import Identity
from tidestore.streams.settings import WorkerSettings
from tidestore.streams.sources import Sources
from tidestore.streams.states import KnownStates

LOGGER: Final = logging.getLogger("tidestore.replicate")

# A commit is one small request for all partitions; what is not committed is only read again.
COMMIT_SECONDS: Final = 0.5
# How long copies under way may go on after the worker was told to stop.
DRAIN_SECONDS: Final = 8.0


class ReplicateWorker:
    """Runs until stopped or until something it cannot mend happens; then it must be restarted."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._name = f"{settings.replica.name}-{settings.worker_id}"
        topics, replica = settings.topics, settings.replica
        self._identity = Identity(
            replica.name,
            replica.incarnation,
            topics.copies(replica.name, replica.incarnation),
            topics.partitions,
        )
        self._stack = contextlib.AsyncExitStack()
        self._committed: dict[int, int] = {}
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open everything and join the group. Raises StoreError, LogError."""
        settings, identity = self._settings, self._identity
        topics = settings.topics
        replicas = [(item.name, item.incarnation) for item in settings.replicas]
        await provision(
            settings.kafka, topics.specs(replicas, []), replication=topics.replication
        )
        stores = [await self._open_store(item.name) for item in self._settings.replicas]
        target = next(store for store in stores if store.name == identity.replica)
        writer = LogWriter(settings.kafka)
        await writer.start()
        self._stack.push_async_callback(writer.stop)
        loop = asyncio.get_running_loop()
        fold = CopiesFold(
            identity.topic, lambda notes: _on_loop(loop, lambda: self._notice(notes))
        )
        path = settings.data_folder / f"copies-{identity.replica}-{identity.incarnation}.sqlite"
        view = View(path, fold, settings.kafka, [topics.redactions, identity.topic])
        await view.start()
        self._stack.push_async_callback(view.stop)
        # Redactions are read to their end before anything else (design section 4).
        ends = await writer.ends(topics.redactions, [0])
        await view.reached(topics.redactions, ends, timeout_seconds=600)
        known = KnownStates(view, identity.topic)
        self._holdings = Holdings(
            writer, view, identity.topic, f"{self._name}/{os.getpid()}", self._held
        )
        self._stack.push_async_callback(self._holdings.close)
        sources = Sources(
            stores,
            copies_in_flight=settings.copies_in_flight,
            copy_bytes_in_flight=settings.copy_bytes_in_flight,
            large_in_flight=settings.large_in_flight,
        )
        mover = Mover(identity, target, sources, writer, self._holdings, known)
        self._intake = Intake(
            mover,
            self._holdings,
            writer,
            poison_topic=topics.poison,
            name=self._name,
            seek=self._seek,
        )
        self._lanes = Lanes(mover, CopiesQueries(view), known, self._holdings)
        self._app = self._make_app()
        for work in (self._intake.run(), self._lanes.run(), self._commit_regularly()):
            self._background.append(asyncio.create_task(work))
        await self._app.start()
        LOGGER.info("%s: ready", self._name)

    async def run(self) -> None:
        """Wait for the end. Returns when Faust has crashed, raises when one of our tasks has."""
        crashed = asyncio.create_task(self._app.wait_until_stopped())
        await asyncio.wait([crashed, *self._background], return_when=asyncio.FIRST_COMPLETED)
        for task in self._background:
            if task.done():
                task.result()
        crashed.cancel()

    async def stop(self) -> None:
        """Finish what is under way, commit it, leave the group, close everything."""
        app = getattr(self, "_app", None)
        if app is not None:
            deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
            app.consumer.stop_flow()
            while self._intake.in_flight and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.05)
            with contextlib.suppress(Exception):  # a broker that is gone keeps nobody from ending
                await asyncio.wait_for(self._commit(), 3)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(app.stop(), 10)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._stack.aclose()

    def _make_app(self) -> faust.App:
        settings, topics = self._settings, self._settings.topics
        name = f"{topics.prefix}replicate.{self._identity.replica}.{self._identity.incarnation}"
        app = make_app(
            name,
            settings.kafka,
            worker_id=settings.worker_id,
            session_seconds=settings.session_seconds,
            data_folder=settings.data_folder,
        )
        add_agent(app, topics.log, self._intake.take)
        app.on_partitions_revoked.connect(self._revoked)
        app.on_partitions_assigned.connect(self._assigned)
        return app

    async def _open_store(self, name: str) -> ObjectStore:
        settings = next(item for item in self._settings.replicas if item.name == name)
        store = make_store(settings.name, settings.address)
        self._stack.push_async_callback(store.close)
        if name == self._identity.replica:
            await store.open()
        return store

    async def _revoked(self, app: faust.App, revoked: set[object], **_: object) -> None:
        """Kafka takes partitions away: save what is finished, then write nothing more for them."""
        del app
        partitions = {tp.partition for tp in revoked if isinstance(tp, tuple)}  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):  # not saved means read again
            await asyncio.wait_for(self._commit(), 2)
        self._intake.drop(partitions)
        for partition in partitions:
            self._holdings.drop(partition)
            self._committed.pop(partition, None)

    async def _assigned(self, app: faust.App, assigned: set[object], **_: object) -> None:
        del app
        self._holdings.assign({tp.partition for tp in assigned if isinstance(tp, tuple)})  # type: ignore[attr-defined]

    async def _held(self, partition: int) -> None:
        await self._lanes.held(partition)

    def _notice(self, notes: FoldNotes) -> None:
        if hasattr(self, "_lanes"):
            self._lanes.notice(notes)

    async def _seek(self, partition: int, offset: int) -> None:
        consumer = self._app.consumer
        await consumer.seek(_tp(self._settings.topics.log, partition), offset)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        offsets = {
            partition: offset
            for partition, offset in self._intake.committable().items()
            if self._committed.get(partition) != offset
        }
        if offsets:
            await commit(self._app, self._settings.topics.log, offsets)
            self._committed.update(offsets)


def _tp(topic: str, partition: int) -> faust.types.TP:
    return faust.types.TP(topic, partition)


def _on_loop(loop: asyncio.AbstractEventLoop, call: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)  # type: ignore[arg-type]
