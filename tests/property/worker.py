"""One worker process on the stage, wired as streams/replicate.py wires it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from tests.property.stage import OWNER, MemoryLog, MemoryView, MemoryWriter, StageLoop

from tidestore.connectors.holdings import Holdings
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view_tables import ViewTables
from tidestore.schemas.events import CopyChanged
from tidestore.schemas.filters import EVERYTHING, ReplicaFilter
from tidestore.streams.asking import Asking
from tidestore.streams.carried import Carried, nothing_carried
from tidestore.streams.copies import CopiesFold, CopiesQueries, FoldNotes
from tidestore.streams.findings_view import FindingsQueries
from tidestore.streams.including import Including
from tidestore.streams.intake import Intake
from tidestore.streams.lanes import Lanes
from tidestore.streams.mending import Mender
from tidestore.streams.mover import Mover
from tidestore.streams.patience import Patience
from tidestore.streams.records import Identity
from tidestore.streams.removal import Removal
from tidestore.streams.sources import Sources
from tidestore.streams.states import KnownStates

LOG = "log"
REDACTIONS = "redactions"
COPIES = "copies.onprem.1"
RETRIES = "retries"
FINDINGS = "findings"


class Worker:
    """A process: everything in it dies with kill()."""

    def __init__(
        self,
        loop: StageLoop,
        log: MemoryLog,
        target: ObjectStore,
        others: list[ObjectStore],
        *,
        name: str = "onprem-0",
        tables: ViewTables | None = None,
        committed: dict[int, int] | None = None,
        chosen: ReplicaFilter = EVERYTHING,
    ) -> None:
        self._chosen = chosen
        self.name = name
        self._loop = loop
        self._log = log
        self.delivered = dict(committed or {})
        self._started: set[asyncio.Task[object]] = set()
        token = OWNER.set(name)
        try:
            loop.run(self._wire(target, others, tables))
        finally:
            OWNER.reset(token)

    async def _wire(
        self, target: ObjectStore, others: list[ObjectStore], tables: ViewTables | None
    ) -> None:
        identity = Identity(target.name, 1, COPIES, self._log.partitions, self._chosen)
        self.writer = MemoryWriter(self._log)
        fold = CopiesFold(COPIES, self._later, takes_in=self._chosen.takes_in)
        self.view = MemoryView(self._log, fold, [REDACTIONS, RETRIES, FINDINGS, COPIES], tables)
        self.known = KnownStates(self.view, COPIES)
        self.holdings = Holdings(self.writer, self.view, COPIES, self.name, self._held)
        asking = Asking(target.name, {store.name: store for store in [target, *others]})
        stores = Sources(asking, copies_in_flight=4, copy_bytes_in_flight=10_000, large_in_flight=2)
        patience = Patience(asking, lambda _: None)
        carried = Carried(nothing_carried, self._log.partitions)
        self.mover = Mover(
            identity, target, stores, self.writer, self.holdings, self.known, patience,
            Removal(target, look_seconds=1.0), carried=carried,
        )  # fmt: skip
        self.including = Including(
            self.mover.outcomes, stores, self.known, CopiesQueries(self.view), carried,
            partitions=self._log.partitions,
            holds=lambda partition: self.holdings.stamp(partition) is not None,
        )  # fmt: skip
        self.intake = Intake(
            self.mover, self.holdings, self.writer, poison_topic=None, name=self.name,
            seek=self._seek,
        )  # fmt: skip
        self.lanes = Lanes(COPIES, self.mover, CopiesQueries(self.view), self.known, self.holdings)
        self.mender = Mender(
            identity, target, stores, self.mover.outcomes, self.known, self.holdings,
            FindingsQueries(self.view, identity.replica, identity.incarnation),
        )  # fmt: skip
        self.mover.on_corrupt = self.mender.again
        self._feed: asyncio.Queue[tuple[int, int, bytes, bytes]] = asyncio.Queue()
        for work in (
            self.lanes.run(), self.mender.run(), self.including.run(), self.intake.run(),
            self._agent(),
        ):  # fmt: skip
            self.start(work)

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin something that dies with this process."""
        token = OWNER.set(self.name)
        try:
            self._started.add(self._loop.create_task(work))
        finally:
            OWNER.reset(token)

    def kill(self) -> None:
        """SIGKILL: whatever was under way ends where it stands."""
        self._loop.kill(self.name)

    def assign(self, partitions: set[int]) -> None:
        """Kafka says which partitions are ours."""
        token = OWNER.set(self.name)
        try:
            self._loop.run(self._assign(partitions))
        finally:
            OWNER.reset(token)

    async def _assign(self, partitions: set[int]) -> None:
        self.holdings.assign(partitions)

    def deliver(self, partition: int, limit: int) -> None:
        """Kafka hands the next records of a partition of the log to the agent."""
        start = self.delivered.get(partition, 0)
        for offset, record in list(self._log.read(LOG, partition, start))[:limit]:
            self._feed.put_nowait((partition, offset, record.key.encode(), record.value))
            self.delivered[partition] = offset + 1

    def has_idle_intake(self) -> bool:
        """Whether nothing that was delivered is under way."""
        return self._feed.empty() and not self.intake.in_flight

    async def rewrite(self, record: CopyChanged) -> None:
        """Write another record of a copy, as an outcome of the mover: alone, stamped, confirmed."""

        async def write() -> None:
            await self.mover.outcomes.record(record)

        await self.mover.outcomes.alone(record, write)

    async def _agent(self) -> None:
        while True:
            partition, offset, key, value = await self._feed.get()
            await self.intake.take(LOG, partition, offset, key, value)

    def _later(self, notes: FoldNotes) -> None:
        # The view's thread hands notes to the loop; they come after the fold, in order.
        context = contextvars.copy_context()
        context.run(OWNER.set, self.name)
        self._loop.call_soon(lambda: self._notice(notes), context=context)

    def _notice(self, notes: FoldNotes) -> None:
        self.lanes.notice(notes)
        self.mender.notice(notes)
        self.including.notice(notes)

    async def _held(self, partition: int) -> None:
        await self.lanes.held(partition)
        await self.mender.held(partition)
        await self.including.held()

    async def _seek(self, partition: int, offset: int) -> None:
        self.delivered[partition] = offset
