"""Moving records between topics as they are: read up to the present end, append with proof.

Everything here blocks, and belongs to the one thread of `tidestore migrate`. A record that was
moved says in a header where it stood, so whoever goes on after a crash reads it there: nothing else
has to be remembered.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from tidestore.connectors.kafka import (
    KafkaSettings,
    LogUnavailableError,
    QuietLogger,
    translate_kafka,
)
from tidestore.schemas.topics import RECORD_BYTES_MAX

# Few enough to be in memory whatever their size (16 MiB), enough that a flush costs little each.
BATCH_RECORDS: Final = 1_000
_QUEUE_KIB: Final = 16 * 1024
# A young cluster makes its topic of group offsets when it is first asked.
_REQUEST_SECONDS: Final = 60
# A partition that gives nothing for this long while more is promised is reported, not waited for.
_SILENCE_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.2
_PAUSE_SECONDS: Final = 0.2
_APPEND_SECONDS_MAX: Final = 60.0
_FROM_HEADER: Final = "tidestore-from"
_FROM = re.compile(rb"(\d{1,9})\.(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Raw:
    """One record as it lies there. `origin` is where it stood before it was moved."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None
    origin: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """One record to be appended; `origin` is where it stands now, if it stands anywhere."""

    partition: int
    key: bytes
    value: bytes
    origin: tuple[int, int] | None = None


class Source:
    """Reads one topic, stretch after stretch."""

    def __init__(self, settings: KafkaSettings, topic: str, partitions: int) -> None:
        self._settings = settings
        self._topic = topic
        # Not OFFSET_BEGINNING: a new client asks for that half a second later. What is not there
        # any more is passed over (auto.offset.reset).
        self._next = dict.fromkeys(range(partitions), 0)
        self.ends: dict[int, int] = {}

    def has_read(self, partition: int, offset: int) -> bool:
        """Whether the record at a place was read, if there is one."""
        return self._next.get(partition, 0) > offset

    def read(self) -> Iterator[list[Raw]]:
        """All records from where the last stretch ended up to the present ends, in batches.

        Afterwards `ends` is where each partition ended. Raises LogError.
        """
        consumer = Consumer(
            self._settings.client(
                {
                    "group.id": "tidestore-migrate",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "enable.partition.eof": True,
                    # That a partition has ended is told by a fetch which brings nothing.
                    "fetch.wait.max.ms": 10,
                    "queued.max.messages.kbytes": _QUEUE_KIB,
                }
            ),
            logger=QuietLogger(),
        )
        try:
            consumer.assign([TopicPartition(self._topic, p, at) for p, at in self._next.items()])
            left = set(self._next)
            heard_at = time.monotonic()
            while left:
                batch = []
                first = consumer.poll(_POLL_SECONDS)
                for message in [first, *consumer.consume(BATCH_RECORDS - 1, 0)] if first else []:
                    heard_at = time.monotonic()
                    error = message.error()
                    if error is None:
                        batch.append(self._taken(message))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        partition, offset = _place(message)
                        self._next[partition] = self.ends[partition] = offset
                        left.discard(partition)
                    elif not translate_kafka(error).is_retryable:
                        raise translate_kafka(error)
                if batch:
                    yield batch
                if time.monotonic() - heard_at > _SILENCE_SECONDS:
                    raise LogUnavailableError(f"{self._topic} gave nothing for a while")
        except KafkaException as error:
            raise translate_kafka(error) from None
        finally:
            consumer.close()

    def _taken(self, message: Message) -> Raw:
        partition, offset = _place(message)
        self._next[partition] = offset + 1
        value = message.value()
        return Raw(
            partition,
            offset,
            _bytes(message.key()) or b"",
            _bytes(value) if value is not None else None,
            _origin(message.headers()),
        )


class Target:
    """Appends to topics, a batch at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._producer = Producer(
            settings.client(
                {
                    "acks": "all",
                    "enable.idempotence": True,
                    # Without end: a record that expired would let the next one overtake it.
                    "delivery.timeout.ms": 0,
                    "message.max.bytes": RECORD_BYTES_MAX,
                    "compression.type": "lz4",
                }
            ),
            logger=QuietLogger(),
        )

    def append(self, topic: str, records: Sequence[Moved]) -> list[int]:
        """Append in this order; where each came to stand. Raises LogError: some may be there."""
        offsets = [-1] * len(records)
        failures: list[KafkaError] = []

        def told(error: KafkaError | None, message: Message, *, number: int) -> None:
            if error is not None:
                failures.append(error)
            else:
                offsets[number] = _place(message)[1]

        for number, record in enumerate(records):
            self._producer.produce(
                topic,
                record.value,
                record.key,
                partition=record.partition,
                headers={_FROM_HEADER: b"%d.%d" % record.origin} if record.origin else None,
                on_delivery=partial(told, number=number),
            )
        if self._producer.flush(_APPEND_SECONDS_MAX) or failures:
            self._producer.purge()
            if failures:
                raise translate_kafka(failures[0])
            raise LogUnavailableError(f"{topic} did not take records in time")
        return offsets

    def say(self, topic: str, partition: int, key: str, value: bytes) -> int:
        """Append one record of our own; where it came to stand. Raises LogError."""
        return self.append(topic, [Moved(partition, key.encode(), value)])[0]


def ends_of(settings: KafkaSettings, topic: str, partitions: int) -> dict[int, int]:
    """The offset after the last record of each partition. Raises LogError."""
    admin = AdminClient(settings.client(), logger=QuietLogger())
    asked = {
        TopicPartition(topic, number): OffsetSpec.latest()  # type: ignore[no-untyped-call]
        for number in range(partitions)
    }
    try:
        futures = admin.list_offsets(asked, request_timeout=_REQUEST_SECONDS)
        return {place.partition: future.result().offset for place, future in futures.items()}
    except KafkaException as error:
        raise translate_kafka(error) from None


def group_offsets(settings: KafkaSettings, group: str, topic: str, partitions: int) -> list[int]:
    """How far a consumer group has come on a topic; 0 where it has not begun. Raises LogError."""
    asked = [TopicPartition(topic, number) for number in range(partitions)]
    admin = AdminClient(settings.client(), logger=QuietLogger())

    def ask() -> dict[str, Any]:
        wanted = [ConsumerGroupTopicPartitions(group, asked)]
        return admin.list_consumer_group_offsets(wanted, request_timeout=_REQUEST_SECONDS)

    found = {place.partition: place.offset for place in _patiently(ask)}
    return [max(0, found[number]) for number in range(partitions)]


def begin_group(
    settings: KafkaSettings, group: str, topic: str, offsets: Mapping[int, int]
) -> None:
    """Let a consumer group that has no member yet begin here. Raises LogError."""
    places = [TopicPartition(topic, number, offset) for number, offset in offsets.items()]
    admin = AdminClient(settings.client(), logger=QuietLogger())

    def ask() -> dict[str, Any]:
        wanted = [ConsumerGroupTopicPartitions(group, places)]
        return admin.alter_consumer_group_offsets(wanted, request_timeout=_REQUEST_SECONDS)

    _patiently(ask)


def _patiently(ask: Callable[[], dict[str, Any]]) -> list[TopicPartition]:
    """The answer about a group's places; a coordinator that is not ready yet is asked again.

    An error of a single partition is in the answer and not raised.
    """
    deadline = time.monotonic() + _REQUEST_SECONDS
    while True:
        try:
            (future,) = ask().values()
            places: list[TopicPartition] = future.result().topic_partitions
            errors = [place.error for place in places if place.error is not None]
            if not errors:
                return places
            failure = translate_kafka(errors[0])
        except KafkaException as error:
            failure = translate_kafka(error)
        if not failure.is_retryable or time.monotonic() > deadline:
            raise failure
        time.sleep(_PAUSE_SECONDS)


def _origin(headers: Any) -> tuple[int, int] | None:
    for name, value in headers or []:
        match = _FROM.fullmatch(value) if name == _FROM_HEADER and value else None
        if match is not None:
            return int(match[1]), int(match[2])
    return None


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    assert partition is not None, "a consumed message has a place"  # noqa: S101
    assert offset is not None, "a consumed message has a place"  # noqa: S101
    return partition, offset


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
