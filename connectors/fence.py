"""Closing topics for good: the broker itself refuses whatever is appended, whoever sends it.

A topic whose `max.message.bytes` is 1 takes no batch, since its head alone has 61 bytes. Brokers
take the setting from the cluster's own log of decisions, a moment after it was made; so each
partition is asked until it has refused a record of ours. A later leader reads that log in order:
the setting comes before its own election.

Crash points: each call may be repeated, and changes nothing that is done.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    ResourceType,
)

from tidestore.connectors.kafka import (
    KafkaSettings,
    LogUnavailableError,
    QuietLogger,
    translate_kafka,
)
from tidestore.schemas.codec import encode
from tidestore.schemas.ticks import PartitionTicked
from tidestore.schemas.topics import BYTES_SETTING, CLOSED_BYTES, DELETED, tick_key

_REQUEST_SECONDS: Final = 15
# A broker knows a new setting within milliseconds; one that takes longer is restarting.
_CLOSED_SECONDS_MAX: Final = 60.0
_PROBE_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.05


def topics_of(settings: KafkaSettings) -> dict[str, int]:
    """All topics of the cluster and how many partitions each has. Blocks; raises LogError."""
    try:
        found = _admin(settings).list_topics(timeout=_REQUEST_SECONDS).topics
    except KafkaException as error:
        raise translate_kafka(error) from None
    return {name: len(topic.partitions) for name, topic in found.items()}


def close_topics(settings: KafkaSettings, topics: dict[str, int]) -> None:
    """Close topics and wait until every partition refuses; name -> partitions. Blocks.

    Raises LogError; then some of them may be closed, and calling again closes the others.
    """
    _alter(settings, topics, {BYTES_SETTING: CLOSED_BYTES})
    left = {(name, number) for name, count in topics.items() for number in range(count)}
    deadline = time.monotonic() + _CLOSED_SECONDS_MAX
    while left := _taking(settings, left):
        if time.monotonic() > deadline:
            name, number = min(left)
            raise LogUnavailableError(f"{name}/{number} was closed and still takes records")
        time.sleep(_PAUSE_SECONDS)


def lay_aside(settings: KafkaSettings, topics: Iterable[str], keep_ms: int) -> None:
    """Let the records of closed topics go when they are as old as this. Blocks; raises LogError.

    The topics stay: a producer that was frozen for days would make a deleted one anew, on a broker
    that creates topics by itself, and be told that its record is safe.
    """
    _alter(settings, topics, {"cleanup.policy": DELETED, "retention.ms": str(keep_ms)})


def widen(settings: KafkaSettings, topic: str, partitions: int) -> None:
    """Give a topic so many partitions, if it has fewer. Blocks; raises LogError."""
    admin = _admin(settings)
    try:
        if len(admin.list_topics(topic, timeout=_REQUEST_SECONDS).topics[topic].partitions) < (
            partitions
        ):
            wanted = [NewPartitions(topic, partitions)]
            admin.create_partitions(wanted, request_timeout=_REQUEST_SECONDS)[topic].result()
    except KafkaException as error:
        raise translate_kafka(error) from None


def _taking(settings: KafkaSettings, places: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of these places that did not refuse a record. One that is taken says nothing."""
    taking = set(places)

    def reported(error: KafkaError | None, message: Message) -> None:
        if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            taking.discard((str(message.topic()), int(message.partition() or 0)))

    producer = Producer(
        settings.client({"acks": "all", "delivery.timeout.ms": int(_PROBE_SECONDS * 1000)}),
        logger=QuietLogger(),
    )
    now_ms = int(time.time() * 1000)
    for name, number in places:
        value = encode(PartitionTicked(number, "migrate", now_ms))
        producer.produce(
            name, value, tick_key(number).encode(), partition=number, on_delivery=reported
        )
    producer.flush(2 * _PROBE_SECONDS)
    return taking


def _alter(settings: KafkaSettings, topics: Iterable[str], values: dict[str, str]) -> None:
    entries = [
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in values.items()
    ]
    resources = [
        ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries) for topic in topics
    ]
    if not resources:
        return
    admin = _admin(settings)  # its answers die with it
    try:
        asked = admin.incremental_alter_configs(resources, request_timeout=_REQUEST_SECONDS)
        for future in asked.values():
            future.result()
    except KafkaException as error:
        raise translate_kafka(error) from None


def _admin(settings: KafkaSettings) -> AdminClient:
    return AdminClient(settings.client(), logger=QuietLogger())
