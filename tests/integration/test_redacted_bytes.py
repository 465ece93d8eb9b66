"""A redacted object's bytes leave the log, read in the broker's own files.

The topic is made and written as the product does it, with windows of seconds instead of days. The
broker cleans more often than it does by itself, every 15 s, and lets go of old files at once.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin import ResourceType as Kind

from tests.servers.kafka import TestKafka
from tests.unit.made import written
from tidestore.connectors.heartbeat import LogHeartbeat
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import provision
from tidestore.schemas.events import ObjectRedacted
from tidestore.schemas.topics import Topics, Windows, partition_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

# A batch's attributes: its lowest bits name the codec (Kafka's protocol, record batch v2).
_LZ4 = 3
_WINDOWS = Windows(replay_ms=400, redaction_ms=4_400)
# What a broker needs beyond the stated time: its cleaner's pause and pass, and a busy machine.
_BROKER_SECONDS = 30.0


def set_config(kafka: TestKafka, kind: Kind, name: str, **values: str) -> None:
    """Change settings of a running broker."""
    entries = [
        ConfigEntry(key.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for key, value in values.items()
    ]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    asked = admin.incremental_alter_configs(
        [ConfigResource(kind, name, incremental_configs=entries)]
    )
    for future in asked.values():
        future.result(20)


def holders(kafka: TestKafka, topic: str, mark: bytes) -> list[str]:
    """Files of a topic in which some bytes stand, those that are about to go among them."""
    found = []
    for path in kafka.data.glob(f"{topic}-*/*"):
        try:
            is_there = mark in path.read_bytes()
        except FileNotFoundError:  # gone between the two
            continue
        if is_there:
            found.append(path.name)
    return found


def batches(path: Path) -> Iterator[tuple[int, int]]:
    """Codec and size of each batch in a segment."""
    data, place = path.read_bytes(), 0
    while place + 61 <= len(data):
        size = struct.unpack_from(">i", data, place + 8)[0] + 12
        yield struct.unpack_from(">h", data, place + 21)[0] & 7, size
        place += size


async def test_a_redacted_object_s_bytes_leave_the_log_of_a_quiet_partition(
    kafka: TestKafka,
) -> None:
    """Goal: the stated time, also where nobody writes any more. Method: read the broker's files.

    Random bytes, so that they stand in the segment as they are. Without the heartbeat they would
    stay in the open segment for ever.
    """
    settings = KafkaSettings(kafka.bootstrap)
    topics = Topics(f"t{secrets.token_hex(4)}.", partitions=2, windows=_WINDOWS)
    specs = [spec for spec in topics.specs([], []) if spec.name == topics.log]
    await provision(settings, specs, replication=1)
    set_config(kafka, Kind.BROKER, "1", log_cleaner_backoff_ms="500")
    set_config(kafka, Kind.TOPIC, topics.log, file_delete_delay_ms="100")
    writer = LogWriter(settings)
    await writer.start()
    heart = LogHeartbeat(settings, topics, writer, "test")
    try:
        secret, kept = os.urandom(2_000), os.urandom(2_000)
        partition = 0
        for body in (secret, kept):
            event = written(body)
            await writer.append(topics.log, partition, event.key, event)
        gone = written(secret)
        redacted = ObjectRedacted(gone.key, 1, "consent withdrawn", "tester", 1)
        await writer.append(topics.log, partition, gone.key, redacted)
        begun = time.monotonic()
        assert holders(kafka, topics.log, secret)
        deadline = begun + _WINDOWS.redaction_ms / 1000 + _BROKER_SECONDS
        ticked: list[int] = []
        while holders(kafka, topics.log, secret):
            assert time.monotonic() < deadline, "redacted bytes are still in the log"
            ticked += await heart.tick_quiet()
        assert partition in ticked, "nothing was needed: this shows nothing"
        assert 1 not in ticked, "an empty partition needs no tick"
        assert len(ticked) <= 2 + (time.monotonic() - begun) * 1000 / _WINDOWS.segment_ms
        assert holders(kafka, topics.log, kept), "what was not redacted must stay"
    finally:
        await writer.stop()


async def test_the_log_lies_compressed_on_the_broker_s_disk(kafka: TestKafka) -> None:
    """Goal: text costs what it is worth. Method: the codec and the size of each batch on disk."""
    settings = KafkaSettings(kafka.bootstrap)
    topics = Topics(f"t{secrets.token_hex(4)}.", partitions=1)
    specs = [spec for spec in topics.specs([], []) if spec.name == topics.log]
    await provision(settings, specs, replication=1)
    writer = LogWriter(settings)
    await writer.start()
    body = b'{"cells": "brain", "donor": 7}' * 1_000
    for number in range(3):
        event = written(body + b"%d" % number)
        await writer.append(topics.log, partition_of(event.key, 1), event.key, event)
    await writer.stop()
    found = [item for path in kafka.data.glob(f"{topics.log}-0/*.log") for item in batches(path)]
    assert found
    assert {codec for codec, _ in found} == {_LZ4}
    assert sum(size for _, size in found) < len(body) / 4, "compressed, but to what avail?"
