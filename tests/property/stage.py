"""A worker of a replica without Kafka: the product's own parts over a log in memory.

Real here: intake, low-water marks, mover, sources, ordering, plan, lanes, holdings, claims, fold,
view tables, known states, codec. In memory: the broker's log, the stores, and time, which jumps to
the next timer whenever nothing is ready, so that a week of retries takes a moment. A test decides
when which record is delivered, folded or confirmed, and when a process dies or freezes.
"""

from __future__ import annotations

import asyncio
import selectors
import sqlite3
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from confluent_kafka import Consumer, Message

from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.layers import LayeredStore
from tidestore.connectors.log import Appended, LogWriter
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.view import Fold, View
from tidestore.connectors.view_tables import ViewTables
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.events import CopyChanged, Event, PartitionClaimed
from tidestore.schemas.objects import ObjectKey
from tidestore.streams import intake, lanes, mending, mover, sources

T = TypeVar("T")

# The process that a task belongs to.
OWNER: ContextVar[str] = ContextVar("OWNER", default="")

_BEGIN_SECONDS = 1_800_000_000.0
# A real wait is only for threads; nothing here needs one for long.
_DEADLOCK_SECONDS = 5.0


class Clock:
    """Time for the loop and for modules that ask the time; moves only when nothing is ready."""

    def __init__(self) -> None:
        self.now = _BEGIN_SECONDS

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    clock: Clock

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            found = super().select(_DEADLOCK_SECONDS)
            if not found:
                raise AssertionError("everything waits and nothing can happen any more")
            return found
        found = super().select(0)
        if not found and timeout > 0:
            # A float of this size has steps of a quarter of a microsecond: never less than one.
            self.clock.now += max(timeout, 1e-5)
        return found


class StageLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        selector = _JumpingSelector()
        selector.clock = clock
        super().__init__(selector)
        # Timers that are due in this time are due now; floats of this size have coarser steps than
        # the real clock's resolution, so without it a due timer would never come.
        self._clock_resolution = 1e-5
        # Tasks by the process that they belong to: what a task starts is its process's too.
        self.owned: dict[str, weakref.WeakSet[asyncio.Task[Any]]] = {}
        self.set_task_factory(self._make_task)

    def _make_task(self, loop: Any, work: Any, **more: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **more)
        self.owned.setdefault(OWNER.get(), weakref.WeakSet()).add(task)
        return task

    def kill(self, owner: str) -> None:
        """SIGKILL: whatever a process has under way ends where it stands."""

        async def end() -> None:
            tasks = [task for task in self.owned.pop(owner, ()) if not task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run_until_complete(end())

    def time(self) -> float:
        return self.clock.now

    def run(self, work: Awaitable[T]) -> T:
        async def wrapped() -> T:
            return await work

        return self.run_until_complete(wrapped())

    def spin(self, turns: int) -> None:
        """Let tasks take some turns, without time passing."""

        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run_until_complete(turn())

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with all that is due in it."""
        self.run_until_complete(asyncio.sleep(seconds))


def modules_with_a_clock() -> tuple[Any, ...]:
    """Modules of streams/ that ask the time: give each a Clock as its `time`."""
    return (intake, lanes, mending, mover, sources)


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the log holds it."""

    key: str
    value: bytes


@dataclass(slots=True)
class MemoryLog:
    """Topics in memory; None stands where compaction removed a record."""

    partitions: int
    topics: dict[str, list[list[Record | None]]] = field(default_factory=dict)
    # Called after each append: whoever follows at once.
    on_append: Callable[[], object] = lambda: None

    def of(self, topic: str, partition: int) -> list[Record | None]:
        parts = self.topics.setdefault(topic, [[] for _ in range(self.partitions)])
        return parts[partition]

    def append(self, topic: str, partition: int, key: str, event: Event) -> int:
        records = self.of(topic, partition)
        records.append(Record(key, encode(event)))
        self.on_append()
        return len(records) - 1

    def read(self, topic: str, partition: int, start: int) -> Iterator[tuple[int, Record]]:
        records = self.of(topic, partition)
        for offset in range(start, len(records)):
            record = records[offset]
            if record is not None:
                yield offset, record

    def end(self, topic: str, partition: int) -> int:
        return len(self.of(topic, partition))

    def compact(self, topic: str) -> None:
        """Keep the newest record of each key, as Kafka does with closed segments."""
        for partition in range(self.partitions):
            records = self.of(topic, partition)
            newest = {record.key: offset for offset, record in enumerate(records) if record}
            for offset, record in enumerate(records):
                if record is not None and newest[record.key] != offset:
                    records[offset] = None

    def accepted(self, topic: str) -> dict[str, CopyChanged]:
        """The truth about copies: each key's newest record that did not come late."""
        return {event.key: event for event in self.accepted_ever(topic)}

    def accepted_ever(self, topic: str) -> Iterator[CopyChanged]:
        """All records of copies that count, per partition in order.

        Told from the whole topic, in plain words: a record counts unless a claim that was written
        before it is newer than its stamp.
        """
        for partition in range(self.partitions):
            claim = -1
            for offset, record in self.read(topic, partition, 0):
                event = decode(record.value)
                if isinstance(event, PartitionClaimed):
                    claim = offset
                elif isinstance(event, CopyChanged) and event.claim >= claim:
                    yield event


class MemoryWriter(LogWriter):
    """Appends to a MemoryLog. While `gate` is closed, an append is on its way and not there yet."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(KafkaSettings("nowhere"))
        self._log = log
        self.gate = asyncio.Event()
        self.gate.set()

    async def append(self, topic: str, partition: int, key: str, event: Event) -> Appended:
        await asyncio.sleep(0)
        await self.gate.wait()
        offset = self._log.append(topic, partition, key, event)
        await asyncio.sleep(0)  # killed here: it is in the log and nobody was told
        return Appended(partition, offset, 0)

    async def ends(
        self, topic: str, partitions: list[int], *, patience_seconds: float = 0.0
    ) -> dict[int, int]:
        del patience_seconds  # a log in memory is there at once
        return {number: self._log.end(topic, number) for number in partitions}


class MemoryView(View):
    """The product's view, fed by hand instead of by a thread."""

    def __init__(
        self, log: MemoryLog, fold: Fold, topics: list[str], tables: ViewTables | None = None
    ) -> None:
        super().__init__(Path("memory"), fold, KafkaSettings("nowhere"), topics)
        self._log = log
        self.tables = tables or ViewTables(Path(":memory:"), fold)
        self.tables._fold = fold
        self._tables = self.tables
        self._reader = self.tables._db
        self._reader.row_factory = sqlite3.Row
        self._ends = {place: offset for place, (offset, _) in self.tables.offsets().items()}

    def take(self, topic: str, partition: int, limit: int = 1_000_000) -> int:
        """Fold the next records of a partition; how many there were."""
        start = self.offset_next(topic, partition)
        messages: list[object] = []
        for offset, record in self._log.read(topic, partition, start):
            if len(messages) == limit:
                break
            messages.append(_message(topic, partition, offset, record))
        if messages:
            self._take(cast("list[Message]", messages), cast("Consumer", _NoConsumer()))
        elif self._log.end(topic, partition) > start:  # compacted away to the end
            self._ends[topic, partition] = self._log.end(topic, partition)
        self._wake()
        return len(messages)

    def take_all(self) -> int:
        """Fold all that is there."""
        return sum(
            self.take(topic, number)
            for topic in self._topics
            for number in range(self._log.partitions)
        )


class _NoConsumer:
    def pause(self, places: object) -> None:
        """The view stops a partition by itself; nothing fetches ahead here."""


def _message(topic: str, partition: int, offset: int, record: Record) -> object:
    return SimpleNamespace(
        topic=lambda: topic,
        partition=lambda: partition,
        offset=lambda: offset,
        key=record.key.encode,
        value=lambda: record.value,
        error=lambda: None,
        timestamp=lambda: (1, 0),
        leader_epoch=lambda: 0,
    )


class StagedStore(LayeredStore):
    """A store in memory that can be down, slow, or unable to take one key; tells what it got."""

    def __init__(self, name: str, on_put: Callable[[str], None] = lambda _: None) -> None:
        self.memory = MemoryStore(name)
        super().__init__(self.memory)
        self._on_put = on_put
        # Every key that ever became visible here.
        self.taken: set[str] = set()
        self.refused: dict[str, Exception] = {}
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def holds(self, key: str) -> bool:
        return ObjectKey(key) in self.memory._objects

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        before = set(self.memory._objects)
        result = await super()._around(operation, call)
        for key in self.memory._objects.keys() - before:
            self._on_put(key)
            self.taken.add(key)
        return result

    async def put_if_absent(self, key: ObjectKey, *args: Any, **more: Any) -> Any:
        if key in self.refused:
            raise self.refused[key]
        return await super().put_if_absent(key, *args, **more)

    async def upload_if_absent(self, key: ObjectKey, *args: Any, **more: Any) -> Any:
        if key in self.refused:
            raise self.refused[key]
        return await super().upload_if_absent(key, *args, **more)
