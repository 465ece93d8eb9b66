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

from tidestore.connectors.breaker import BreakingStore
from tidestore.connectors.directory import Served
from tidestore.connectors.edges import Edge
from tidestore.connectors.holdings import Holdings
from tidestore.connectors.log import LONG_LINGER_MS, START_PATIENCE_SECONDS, LogWriter
from tidestore.connectors.opening import open_patiently
from tidestore.connectors.provision import provision
from tidestore.connectors.registry import make_store
from tidestore.connectors.reread import LogReread
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view import View
from tidestore.schemas.objects import MalformedError
from tidestore.schemas.topics import partition_of
from tidestore.streams.app import GATHER_SECONDS, LONG_GATHER_SECONDS
from tidestore.streams.asking import Asking
from tidestore.streams.canary import Canaries
from tidestore.streams.carried import Carried
from tidestore.streams.copies import CopiesFold, CopiesQueries, FoldNotes
from tidestore.streams.findings_view import FindingsQueries
from tidestore.streams.including import Including
from tidestore.streams.intake import Intake
from tidestore.streams.keeping import start_keeping
from tidestore.streams.lanes import Lanes
from tidestore.streams.member import GroupMember
from tidestore.streams.mending import Mender
from tidestore.streams.metrics import WorkerMetrics
from tidestore.streams.mover import Mover
from tidestore.streams.patience import Patience
from tidestore.streams.prices import Place
from tidestore.streams.reads import Reads
from tidestore.streams.records import Identity
from tidestore.streams.removal import Removal
from tidestore.streams.scrub_timer import ScrubTimer
from tidestore.streams.settings import WorkerSettings
from tidestore.streams.sources import Sources
from tidestore.streams.states import KnownStates
from tidestore.streams.suspicion import Suspicions
from tidestore.streams.uploads import Sweeper

LOGGER: Final = logging.getLogger("tidestore.replicate")


class ReplicateWorker:
    """Runs until stopped or until something it cannot mend happens; then it must be restarted."""

    def __init__(self, settings: WorkerSettings, metrics: WorkerMetrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics or WorkerMetrics()
        self._name = f"{settings.replica.name}-{settings.worker_id}"
        topics, replica = settings.topics, settings.replica
        self._identity = Identity(
            replica.name,
            replica.incarnation,
            topics.copies(replica.name, replica.incarnation),
            topics.partitions,
            replica.filter,
        )
        self._stack = contextlib.AsyncExitStack()
        # The stores of all replicas that it reads from, its own among them, and as what.
        self._opened: dict[str, BreakingStore] = {}
        self._source_lives: dict[str, Served] = {}

    async def start(self) -> None:
        """Open everything and join the group. Raises StoreError, LogError."""
        settings, identity = self._settings, self._identity
        topics = settings.topics
        replicas = [(item.name, item.incarnation) for item in settings.replicas]
        await provision(settings.kafka, topics.specs(replicas, []), replication=topics.replication)
        target = await self._open_store(settings.replica)
        writer = LogWriter(settings.kafka, linger_ms=LONG_LINGER_MS)
        await writer.start()
        self._stack.push_async_callback(writer.stop)
        path = settings.data_folder / f"copies-{identity.replica}-{identity.incarnation}.sqlite"
        followed = [topics.redactions, topics.retries, topics.findings, identity.topic]
        view = View(path, self._make_fold(), settings.kafka, followed)
        await view.start()
        self._stack.push_async_callback(view.stop)
        # Redactions are read to their end before anything else (design section 4).
        ends = await writer.ends(topics.redactions, [0], patience_seconds=START_PATIENCE_SECONDS)
        await view.reached(topics.redactions, ends, timeout_seconds=600)
        await start_keeping(settings, target, self._stack)
        known = KnownStates(view, identity.topic)
        self._holdings = Holdings(
            writer, view, identity.topic, f"{self._name}/{os.getpid()}", self._held
        )
        self._stack.push_async_callback(self._holdings.close)
        self._sources = sources = self._make_sources(target)
        await self.use_sources(list(settings.replicas))
        patience = Patience(sources.asking, self._wake)
        self._stack.push_async_callback(patience.close)
        removal = Removal(target, look_seconds=settings.second_look_seconds)
        self._log_events = self._carried()
        mover = Mover(
            identity, target, sources, writer, self._holdings, known, patience, removal,
            carried=self._log_events,
        )  # fmt: skip
        self._intake = Intake(
            mover,
            self._holdings,
            writer,
            poison_topic=topics.poison,
            name=self._name,
            seek=self._seek,
            on_canary=self._make_canaries(target, writer).take,
        )
        self._start_background(view, target, sources, mover, known, writer)
        self._member = GroupMember(
            topics.group(f"replicate.{identity.replica}.{identity.incarnation}"),
            topics.log,
            settings.kafka,
            self._intake,
            [self._holdings],
            worker_id=settings.worker_id,
            session_seconds=settings.session_seconds,
            data_folder=settings.data_folder,
            gather_seconds=LONG_GATHER_SECONDS if settings.is_origin else GATHER_SECONDS,
        )
        await self._member.start()
        LOGGER.info("%s: ready", self._name)

    def _start_background(
        self,
        view: View,
        target: ObjectStore,
        sources: Sources,
        mover: Mover,
        known: KnownStates,
        writer: LogWriter,
    ) -> None:
        """What does not come from the log just now: tries that are due, repairs, comparisons."""
        identity, holdings = self._identity, self._holdings
        queries = CopiesQueries(view)
        self._lanes = Lanes(identity.topic, mover, queries, known, holdings)
        findings = FindingsQueries(view, identity.replica, identity.incarnation)
        self._including = Including(
            mover.outcomes, sources, known, queries, self._log_events,
            partitions=identity.partitions, holds=lambda number: holdings.stamp(number) is not None,
        )  # fmt: skip
        self._mender = Mender(identity, target, sources, mover.outcomes, known, holdings, findings)
        mover.on_corrupt = self._mender.again
        timer = ScrubTimer(self._settings, target, writer, lambda: holdings.stamp(0) is not None)
        sweeper = Sweeper(target, queries, holdings, identity.partitions)
        suspicions = Suspicions(writer, self._settings.topics.findings, self._life_of)
        sources.on_wrong = suspicions.tell
        work = (
            self._lanes.run(), self._mender.run(), self._including.run(), timer.run(),
            sweeper.run(), suspicions.run(),
        )  # fmt: skip
        self._background = [asyncio.create_task(item) for item in work]

    async def run(self) -> None:
        """Wait for the end. Returns when Faust has crashed, raises when one of our tasks has."""
        member = asyncio.create_task(self._member.run())
        try:
            tasks = [member, *self._background]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            member.cancel()

    async def stop(self) -> None:
        """Finish what is under way, commit it, leave the group, close everything."""
        if hasattr(self, "_member"):
            await self._member.stop()
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
        await self._stack.aclose()

    def _make_canaries(self, target: ObjectStore, writer: LogWriter) -> Canaries:
        canaries = Canaries(self._identity, target, writer, self._holdings)
        self._stack.push_async_callback(canaries.close)
        return canaries

    def _make_fold(self) -> CopiesFold:
        loop, identity = asyncio.get_running_loop(), self._identity
        return CopiesFold(
            identity.topic,
            lambda notes: _on_loop(loop, lambda: self._notice(notes)),
            takes_in=identity.chosen.takes_in,
        )

    def _carried(self) -> Carried:
        topics = self._settings.topics
        reread = LogReread(self._settings.kafka, topics.log)
        self._stack.push_async_callback(reread.close)
        return Carried(reread.find, topics.partitions)

    async def use_sources(self, replicas: list[Served]) -> None:
        """Read from these replicas from now on; the worker's own stays what it is."""
        wanted = {str(item.name): item for item in replicas}
        for name in self._source_lives.keys() - wanted.keys():
            # Its store is closed at the end: a copy from it may be under way.
            del self._source_lives[name], self._opened[name]
        for name, item in wanted.items():
            before = self._source_lives.get(name)
            if before is not None and before.address.place == item.address.place:
                self._source_lives[name] = item
                continue
            if name != self._identity.replica:
                try:
                    self._opened[name] = await self._open_store(item)
                except MalformedError as error:
                    LOGGER.error("%s: cannot read from %s: %s", self._name, name, error)
                    continue
            self._source_lives[name] = item
        self._sources.asking.use(
            self._opened,
            {name: Place.of(item.address) for name, item in self._source_lives.items()},
            {name: store.breaker for name, store in self._opened.items()},
            self._source_lives,
        )
        lives = {**self._source_lives, self._identity.replica: self._settings.replica}
        self._sources.inside.use({name: item.address for name, item in lives.items()})

    def _make_sources(self, target: BreakingStore) -> Sources:
        settings, name = self._settings, self._identity.replica
        self._opened[name] = target
        asking = Asking(
            name,
            self._opened,
            settings=settings.sources,
            reads=Reads(name, self._metrics),
        )
        return Sources(
            asking,
            copies_in_flight=settings.copies_in_flight,
            copy_bytes_in_flight=settings.copy_bytes_in_flight,
            large_in_flight=settings.large_in_flight,
        )

    async def _open_store(self, settings: Served) -> BreakingStore:
        name = settings.name
        edge = Edge(settings.name, self._metrics.edges, self._drain)
        made = make_store(settings.name, settings.address, self._metrics.calls, edge)
        store = BreakingStore(made, edge)
        self._stack.push_async_callback(store.close)
        probing = asyncio.create_task(store.breaker.run())
        self._stack.callback(probing.cancel)
        if name == self._identity.replica:
            await open_patiently(store, self._stack)
        return store

    async def _seek(self, partition: int, offset: int) -> None:
        await self._member.seek(partition, offset)

    async def _held(self, partition: int) -> None:
        await self._lanes.held(partition)
        await self._mender.held(partition)
        await self._including.held()

    def _life_of(self, source: str) -> int | None:
        life = self._source_lives.get(source)
        return None if life is None else life.incarnation

    def _drain(self) -> None:
        if hasattr(self, "_lanes"):
            self._lanes.drain()

    def _wake(self, key: str) -> None:
        if hasattr(self, "_lanes"):
            self._lanes.wake(partition_of(key, self._identity.partitions), key)

    def _notice(self, notes: FoldNotes) -> None:
        if hasattr(self, "_lanes"):
            self._lanes.notice(notes)
            self._mender.notice(notes)
            self._including.notice(notes)


def _on_loop(loop: asyncio.AbstractEventLoop, call: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)  # type: ignore[arg-type]
