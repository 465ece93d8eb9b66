"""Appending to topics, with proof: an append is done when all in-sync brokers have it.

One idempotent librdkafka producer, and one thread that serves its delivery reports. The reports of
a batch wake the event loop once, not once each.

    append() --> librdkafka's queue --> broker
        ^                                  |
        `-- future <-- event loop <-- reports (poll thread)

What happens if we crash between produce and report: the record may or may not be in the log, and
the caller never knew. Every append of ours may therefore be repeated without harm.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tidestore.connectors.kafka import (
    KafkaSettings,
    LogUnavailableError,
    QuietLogger,
    translate_kafka,
)
from tidestore.schemas.codec import encode
from tidestore.schemas.events import Event
from tidestore.schemas.positions import Cut
from tidestore.schemas.topics import RECORD_BYTES_MAX

LOGGER: Final = logging.getLogger("tidestore.log")

# A write that is not in the log after this long is answered with 503 and may be sent again.
APPEND_SECONDS_MAX: Final = 20
# Waiting for others to fill a batch costs latency on an idle system: 1 ms is less than a fetch.
_LINGER_MS: Final = 1
# For receipts and announcements, on which nobody's request waits.
LONG_LINGER_MS: Final = 5
# What may lie in librdkafka's queue. A full queue makes callers wait, then fail: never grow.
_QUEUE_KIB: Final = 64 * 1024
_POLL_SECONDS: Final = 0.2
ENDS_SECONDS_MAX: Final = 10.0
# On a busy machine a new topic may be without a leader for many seconds.
START_PATIENCE_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Appended:
    """Where a record came to stand, and the broker's clock at that moment."""

    partition: int
    offset: int
    timestamp_ms: int


class LogWriter:
    """Appends events. Belongs to the event loop it was started on.

    A patient writer keeps what it was given until a broker takes it, however long that is; its
    appends wait as long. Only so can records be sent without waiting for the one before: one that
    expired in the queue would let the next one overtake it.
    """

    def __init__(
        self, settings: KafkaSettings, *, linger_ms: int = _LINGER_MS, is_patient: bool = False
    ) -> None:
        self._settings = settings
        self._linger_ms = linger_ms
        self._is_patient = is_patient
        self._producer: Producer | None = None
        self._broken: list[Producer] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_stopping = threading.Event()
        self._reports: deque[tuple[asyncio.Future[Appended], KafkaError | None, Message]] = deque()
        self._is_draining = False
        self._admin: AdminClient | None = None

    async def start(self) -> None:
        """Begin serving; needs no broker yet."""
        self._loop = asyncio.get_running_loop()
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._poll, name="log-writer", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Send what is queued, for a few seconds at most, and end."""
        if self._producer is None or self._thread is None:
            return
        producer = self._producer
        await asyncio.to_thread(producer.flush, 5.0)
        self._is_stopping.set()
        await asyncio.to_thread(self._thread.join)
        self._producer = None

    async def append(self, topic: str, partition: int, key: str, event: Event) -> Appended:
        """Append an event and wait until it is acknowledged.

        Raises RecordTooLargeError before anything is sent, LogUnavailableError when no
        acknowledgement came in time (the record may be there all the same), LogRefusedError.
        """
        return await self.append_bytes(topic, partition, key.encode(), encode(event))

    async def append_bytes(self, topic: str, partition: int, key: bytes, value: bytes) -> Appended:
        """Append a record that is encoded already."""
        return await self._confirmed(await self._produce(topic, partition, key, value))

    async def append_row(
        self, topic: str, partition: int, key: str, events: Sequence[Event]
    ) -> Appended:
        """Append several events in their order; where the last one came to stand.

        For patient writers. Raises LogError if one of them failed: then all have to be said again,
        and what got there is there twice.
        """
        assert self._is_patient, "a record that expires lets the next one overtake it"  # noqa: S101
        reports = [
            await self._produce(topic, partition, key.encode(), encode(event)) for event in events
        ]
        placed = [await self._confirmed(report) for report in reports]
        return placed[-1]

    async def _produce(
        self, topic: str, partition: int, key: bytes, value: bytes
    ) -> asyncio.Future[Appended]:
        """Queue a record; waits, for a while, as long as the queue is full."""
        assert self._loop is not None, "start() comes first"  # noqa: S101
        report: asyncio.Future[Appended] = self._loop.create_future()
        deadline = self._loop.time() + APPEND_SECONDS_MAX
        while True:
            producer = self._producer
            if producer is None:
                raise LogUnavailableError("the writer is stopped")
            try:
                producer.produce(
                    topic,
                    value,
                    key,
                    partition=partition,
                    on_delivery=partial(self._reported, report),
                )
            except BufferError:
                if self._loop.time() > deadline:
                    raise LogUnavailableError("the queue to the broker stayed full") from None
                await asyncio.sleep(0.02)
            except KafkaException as error:
                raise translate_kafka(error) from None
            else:
                return report

    async def _confirmed(self, report: asyncio.Future[Appended]) -> Appended:
        if self._is_patient:
            return await report  # ends with the broker's word, or with the producer
        try:
            # librdkafka reports every message within its limit; this is for when it does not.
            return await asyncio.wait_for(report, APPEND_SECONDS_MAX + _GRACE_SECONDS)
        except TimeoutError:
            raise LogUnavailableError("no report came for an append") from None

    async def ends(
        self, topic: str, partitions: list[int], *, patience_seconds: float = ENDS_SECONDS_MAX
    ) -> dict[int, int]:
        """The offset after the last record of each partition; raises LogError.

        At a process' start nobody waits for an answer, and others may be making the topic: then
        START_PATIENCE_SECONDS.
        """
        assert self._loop is not None, "start() comes first"  # noqa: S101
        deadline = self._loop.time() + patience_seconds
        while True:
            try:
                return await self._ends(topic, partitions)
            except LogUnavailableError:
                # A topic that was made a moment ago has no leader yet, nor has one whose broker
                # restarts: both pass in a second or so.
                if self._loop.time() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _ends(self, topic: str, partitions: list[int]) -> dict[int, int]:
        asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in partitions}
        if self._admin is None:
            self._admin = AdminClient(self._settings.client(), logger=QuietLogger())
        try:
            futures = self._admin.list_offsets(asked, request_timeout=5)
            async with asyncio.timeout(ENDS_SECONDS_MAX):
                return {
                    place.partition: (await asyncio.wrap_future(future)).offset
                    for place, future in futures.items()
                }
        except TimeoutError:
            self._admin = None
            raise LogUnavailableError("the broker did not say where the log ends") from None
        except KafkaException as error:
            # librdkafka 2.16 keeps a leader's epoch in the admin client for good: after a broker's
            # restart every request of the old client is fenced. A new client asks anew.
            self._admin = None
            raise translate_kafka(error) from None

    async def cut(self, topic: str, partitions: int, generation: int) -> Cut:
        """The cut that holds all that is in the topic now."""
        ends = await self.ends(topic, list(range(partitions)))
        return Cut(generation, tuple(ends[number] for number in range(partitions)))

    def _new_producer(self) -> Producer:
        return Producer(
            self._settings.client(
                {
                    "acks": "all",
                    "enable.idempotence": True,
                    "linger.ms": self._linger_ms,
                    # 0 is without end
                    "delivery.timeout.ms": 0 if self._is_patient else APPEND_SECONDS_MAX * 1000,
                    "message.max.bytes": RECORD_BYTES_MAX,
                    "queue.buffering.max.kbytes": _QUEUE_KIB,
                    "compression.type": "lz4",
                }
            ),
            logger=QuietLogger(),
        )

    def _poll(self) -> None:
        """The thread: serve reports until stopped; replace a producer that broke for good."""
        while not self._is_stopping.is_set():
            producer = self._producer
            if producer is not None:
                producer.poll(_POLL_SECONDS)
            for broken in list(self._broken):
                # Whatever is still in a broken producer must be reported as failed, not forgotten.
                broken.purge()
                broken.poll(0)
                if len(broken) == 0:
                    self._broken.remove(broken)

    def _reported(
        self, report: asyncio.Future[Appended], error: KafkaError | None, message: Message
    ) -> None:
        """In the poll thread: hand one report over."""
        self._reports.append((report, error, message))
        is_broken = error is not None and error.fatal() and not self._is_stopping.is_set()
        if is_broken and self._producer is not None and self._producer not in self._broken:
            # Idempotence was lost (an unknown sequence after a broker's data loss, say). This
            # producer will never work again; what was in it is reported as failed, one by one.
            LOGGER.warning("the producer broke and is replaced: %s", error)
            self._broken.append(self._producer)
            self._producer = self._new_producer()
        if not self._is_draining and self._loop is not None:
            self._is_draining = True
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        """In the event loop: settle the futures of all reports that came so far."""
        self._is_draining = False
        while self._reports:
            report, error, message = self._reports.popleft()
            if report.done():  # its caller was cancelled; the record is there or not
                continue
            if error is not None:
                report.set_exception(translate_kafka(error))
                continue
            _, timestamp_ms = message.timestamp()
            report.set_result(
                Appended(_known(message.partition()), _known(message.offset()), timestamp_ms)
            )


def _known(value: Any) -> int:
    assert isinstance(value, int), "a delivered message has a place"  # noqa: S101
    return value
