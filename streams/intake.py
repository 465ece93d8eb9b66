"""From the log's records to finished ones: many at once, finished in any order, committed in order.

    record --receive--> task: mover --outcome confirmed--> finish --> committable
                          |
                          '-- too slow: pending record confirmed --> finish; the task goes on

R8: a slow object never holds up others. It holds a place among the tasks, but not the partition's
low-water mark: after a moment a durable pending record takes over its duty.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.schemas.canaries import CanarySent
from tidestore.schemas.codec import PoisonedRecordError, UnknownSchemaError, decode
from tidestore.schemas.events import ObjectRedacted, ObjectWritten, RecordPoisoned
from tidestore.schemas.ticks import PartitionTicked
from tidestore.streams.lowwater import LowWater

LOGGER: Final = logging.getLogger("tidestore.intake")

# Records under way at once, over all partitions. With 32 KiB inline each, 16 MiB.
RECORDS_IN_FLIGHT_MAX: Final = 512
# A copy that takes longer gets a pending record of its own.
HAND_OVER_SECONDS: Final = 2.0
# How long such a copy may go on before somebody else tries as well: longer than a request's limit.
LEASE_MS: Final = 120_000
_SWEEP_SECONDS: Final = 0.5
# A record of an unknown schema is looked at again this often; a newer release reads it at once.
_UNKNOWN_SCHEMA_SECONDS: Final = 5.0


class Desk(Protocol):
    """Who brings records to their outcome."""

    async def handle(self, event: ObjectWritten | ObjectRedacted, log_offset: int) -> None:
        """Bring a record to a confirmed outcome, or end without one if the partition was lost."""
        ...

    async def hand_over(self, event: ObjectWritten, log_offset: int, lease_ms: int) -> bool:
        """Make a record's duty durable elsewhere; whether that is confirmed."""
        ...

    def seconds_under_way(self, key: str) -> float:
        """For how long a record has really been at work, waiting for a place not counted."""
        ...

    async def park_unreadable(self, key: str, log_offset: int, reason: str) -> None:
        """Give a key whose record is poisoned its outcome."""
        ...


class Stamps(Protocol):
    """Who knows which partitions may be written for."""

    async def await_stamp(self, partition: int) -> int | None:
        """Wait until the partition is held; None when it is not ours."""
        ...


@dataclass(slots=True)
class _Open:
    """One record under way.

    `mark` is the partition's at that time: another assignment of the same partition has another
    one, which this record may not move.
    """

    partition: int
    offset: int
    mark: LowWater
    event: ObjectWritten | ObjectRedacted | None
    is_handed_over: bool = False


@dataclass(slots=True)
class _Stopped:
    """A partition that stands before a record of a schema which this release does not know."""

    offset: int
    value: bytes
    due: float


class Intake:
    """Takes the log's records for one worker. Belongs to its event loop."""

    def __init__(
        self,
        desk: Desk,
        stamps: Stamps,
        writer: LogWriter,
        *,
        poison_topic: str | None,
        name: str,
        seek: Callable[[int, int], Awaitable[None]],
        on_canary: Callable[[CanarySent], None] | None = None,
    ) -> None:
        self._desk = desk
        self._stamps = stamps
        self._writer = writer
        self._poison_topic = poison_topic
        self._name = name
        self._seek = seek
        self._on_canary = on_canary
        self._marks: dict[int, LowWater] = {}
        self._stopped: dict[int, _Stopped] = {}
        self._open: dict[asyncio.Task[None], _Open] = {}
        self._places = asyncio.Semaphore(RECORDS_IN_FLIGHT_MAX)
        self._handing: set[asyncio.Task[None]] = set()

    def drop(self, partitions: set[int]) -> None:
        """Kafka took these partitions away: their records are somebody else's now.

        Tasks under way go on; what they copy is right, and what they would record is refused for
        want of a stamp.
        """
        for partition in partitions:
            self._marks.pop(partition, None)
            self._stopped.pop(partition, None)

    async def take(self, topic: str, partition: int, offset: int, key: bytes, value: bytes) -> None:
        """Take one record in; waits for a place, and for the claim on its partition."""
        if partition in self._stopped or await self._stamps.await_stamp(partition) is None:
            return  # read again: after a seek, or by the partition's owner
        mark = self._marks.setdefault(partition, LowWater())
        event: ObjectWritten | ObjectRedacted | None = None
        canary: CanarySent | None = None
        reason = ""
        try:
            found = decode(value)
            if isinstance(found, (ObjectWritten, ObjectRedacted)):
                event = found
            elif isinstance(found, CanarySent):
                canary = found
            elif not isinstance(found, PartitionTicked):
                reason = f"holds {type(found).__name__}, which does not belong there"
        except PoisonedRecordError as error:
            reason = str(error)
        except UnknownSchemaError as error:
            # Nothing may be dropped in a rolling upgrade: this partition waits, the others go on.
            LOGGER.error("%s/%d stops at %d: %s", topic, partition, offset, error)
            due = time.monotonic() + _UNKNOWN_SCHEMA_SECONDS
            self._stopped[partition] = _Stopped(offset, value, due)
            return
        if not mark.receive(offset):
            return
        if event is None and not reason:  # no object is meant (connectors/heartbeat.py, canary.py)
            mark.finish(offset)
            if canary is not None and self._on_canary is not None:
                self._on_canary(canary)
            return
        await self._places.acquire()
        work = (
            self._desk.handle(event, offset)
            if event is not None
            else self._set_aside(topic, partition, offset, key, value, reason)
        )
        task = asyncio.create_task(work)
        self._open[task] = _Open(partition, offset, mark, event)
        task.add_done_callback(self._ended)

    def committable(self) -> dict[int, int]:
        """For each partition the offset that may be committed."""
        found = {}
        for partition, mark in self._marks.items():
            offset = mark.committable
            if offset is not None:
                found[partition] = offset
        return found

    @property
    def in_flight(self) -> int:
        """How many records are under way."""
        return len(self._open)

    @property
    def stopped(self) -> dict[int, int]:
        """Partitions that wait for a newer release, and the offset of the record they wait at."""
        return {partition: item.offset for partition, item in self._stopped.items()}

    async def run(self) -> None:
        """Hand over what takes long, and look at stopped partitions again, until cancelled."""
        try:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                self._hand_over_slow()
                await self._retry_stopped()
        finally:
            for task in [*self._open, *self._handing]:
                task.cancel()

    def _hand_over_slow(self) -> None:
        for item in list(self._open.values()):
            if item.event is None or item.is_handed_over:
                continue
            if self._desk.seconds_under_way(item.event.key) > HAND_OVER_SECONDS:
                item.is_handed_over = True
                handing = asyncio.create_task(self._hand_over(item))
                self._handing.add(handing)
                handing.add_done_callback(self._handing.discard)

    async def _retry_stopped(self) -> None:
        now = time.monotonic()
        for partition, item in list(self._stopped.items()):
            if item.due > now:
                continue
            item.due = now + _UNKNOWN_SCHEMA_SECONDS
            try:
                decode(item.value)
            except UnknownSchemaError as error:
                LOGGER.error("partition %d still waits at %d: %s", partition, item.offset, error)
                continue
            except PoisonedRecordError:
                LOGGER.info("partition %d: its schema is known now", partition)
            del self._stopped[partition]
            await self._seek(partition, item.offset)

    async def _hand_over(self, item: _Open) -> None:
        if isinstance(item.event, ObjectWritten) and await self._desk.hand_over(
            item.event, item.offset, LEASE_MS
        ):
            self._finish(item)

    def _ended(self, task: asyncio.Task[None]) -> None:
        item = self._open.pop(task)
        self._places.release()
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:  # not finished: read again after a restart
            LOGGER.error(
                "%s: record %d/%d", self._name, item.partition, item.offset, exc_info=error
            )
            return
        self._finish(item)

    def _finish(self, item: _Open) -> None:
        if self._marks.get(item.partition) is item.mark:
            item.mark.finish(item.offset)

    async def _set_aside(
        self, topic: str, partition: int, offset: int, key: bytes, value: bytes, reason: str
    ) -> None:
        """Poison goes to its topic with its reason, its key is parked, all else goes on (point 9).

        `poison_topic` is None for a reader that leaves this to another.
        """
        text = key.decode("utf-8", "replace")
        LOGGER.error("%s/%d at %d is poisoned: %s", topic, partition, offset, reason)
        record = RecordPoisoned(
            topic=topic,
            partition=partition,
            offset=offset,
            key=text,
            reason=reason,
            met_by=self._name,
            met_at_ms=int(time.time() * 1000),
            raw=value[:900_000],
        )
        while self._poison_topic is not None:
            try:
                await self._writer.append(
                    self._poison_topic, 0, f"{topic}/{partition}/{offset}", record
                )
                break
            except LogError as error:
                LOGGER.warning("cannot set poison aside yet: %s", error)
                await asyncio.sleep(1.0)
        await self._desk.park_unreadable(text, offset, reason)
