"""Reading a topic once, from its beginning to what is its end now: for people and for checks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidestore.connectors.kafka import (
    KafkaSettings,
    LogRefusedError,
    LogUnavailableError,
    QuietLogger,
    translate_kafka,
)
from tidestore.connectors.view import Folded
from tidestore.schemas.codec import CodecError, decode

_REQUEST_SECONDS: Final = 10
# A partition that gives nothing for this long while more is promised is reported, not waited for.
_SILENCE_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.1


def read_topic(settings: KafkaSettings, topic: str, key: str | None = None) -> Iterator[Folded]:
    """All records of a topic, partition by partition; unreadable ones with their reason.

    Blocks. Raises LogError.
    """
    consumer = _consumer(settings)
    try:
        found = consumer.list_topics(topic, timeout=_REQUEST_SECONDS).topics[topic]
        if found.error is not None:
            raise LogRefusedError(f"{topic}: {found.error.str()}")
        for partition in sorted(found.partitions):
            yield from _partition(consumer, topic, partition, key)
    except KafkaException as error:
        raise translate_kafka(error) from None
    finally:
        consumer.close()


def read_record(settings: KafkaSettings, topic: str, partition: int, offset: int) -> Folded | None:
    """The record at one place; None when compaction has taken it. Blocks. Raises LogError."""
    consumer = _consumer(settings)
    try:
        consumer.assign([TopicPartition(topic, partition, offset)])
        message = consumer.poll(_SILENCE_SECONDS)
        if message is None:
            raise LogUnavailableError(f"{topic}/{partition} did not give the record at {offset}")
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            raise translate_kafka(error)
        return _folded(message, topic, partition) if message.offset() == offset else None
    except KafkaException as error:
        raise translate_kafka(error) from None
    finally:
        consumer.close()


def _bounds(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """The first and the next offset; waits while a broker has just started and has no leaders."""
    deadline = time.monotonic() + _REQUEST_SECONDS
    while True:
        try:
            first, end = consumer.get_watermark_offsets(place, timeout=_REQUEST_SECONDS)
        except KafkaException as error:
            if not translate_kafka(error).is_retryable or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
            continue
        return first, end


def _partition(consumer: Consumer, topic: str, partition: int, key: str | None) -> Iterator[Folded]:
    place = TopicPartition(topic, partition)
    first, end = _bounds(consumer, place)
    if first >= end:
        return
    consumer.assign([TopicPartition(topic, partition, first)])
    while True:
        message = consumer.poll(_SILENCE_SECONDS)
        if message is None:
            raise LogRefusedError(f"{topic}/{partition} gave nothing for {_SILENCE_SECONDS:.0f} s")
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return
            raise translate_kafka(error)
        if key is None or _key_of(message) == key:
            yield _folded(message, topic, partition)
        if (message.offset() or 0) + 1 >= end:
            return


def _consumer(settings: KafkaSettings) -> Consumer:
    return Consumer(
        settings.client(
            {
                "group.id": "tidestore-tail",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                # A request that waits for more, as it would for half a second, holds up the one for
                # the next partition.
                "fetch.wait.max.ms": 10,
            }
        ),
        logger=QuietLogger(),
    )


def _key_of(message: Message) -> str:
    return bytes(message.key() or b"").decode("utf-8", "replace")


def _folded(message: Message, topic: str, partition: int) -> Folded:
    raw, event, reason = message.value(), None, "has no value"
    try:
        event = decode(raw) if isinstance(raw, bytes) else None
    except CodecError as failure:
        reason = str(failure)
    _, moment = message.timestamp()
    place = (topic, partition, message.offset() or 0)
    return Folded(*place, _key_of(message), event, moment, "" if event else reason)
