"""The bytes of an event, read again out of a real broker, and whom a worker believes."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import pytest

from tests.servers.kafka import TestKafka
from tests.unit.made import copy, written
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import provision
from tidestore.connectors.reread import LogReread
from tidestore.schemas.events import ObjectWritten
from tidestore.schemas.topics import Topics
from tidestore.streams.carried import Carried

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


async def test_an_event_is_found_again_by_its_place(kafka: TestKafka) -> None:
    """Goal: a copy that comes back needs no store. Method: three events, one without bytes.

    A place that holds another key, and one that holds nothing, give nothing.
    """
    settings = KafkaSettings(kafka.bootstrap)
    topics = Topics(f"t{secrets.token_hex(4)}.", partitions=1)
    specs = [spec for spec in topics.specs([], []) if spec.name == topics.log]
    await provision(settings, specs, replication=1)
    writer = LogWriter(settings)
    await writer.start()
    events = [written(b"one"), written(b"two"), written(b"three", data=None)]
    for event in events:
        await writer.append(topics.log, 0, event.key, event)
    await writer.stop()
    reread = LogReread(settings, topics.log)
    try:
        one, two, three = (event.key for event in events)
        assert (await reread.find(0, 1, two)) == events[1]
        assert (await reread.find(0, 0, one)) == events[0]
        assert await reread.find(0, 2, three) is None
        assert await reread.find(0, 0, two) is None
        assert await reread.find(0, 99, one) is None
        assert (await reread.find(0, 0, one)) == events[0], "trouble with one place is not kept"
    finally:
        await reread.close()


@pytest.mark.parametrize(
    ("changes", "is_found", "is_asked"),
    [
        ({}, True, True),
        ({"sha256": "0" * 64}, False, True),
        ({"size": 2**21}, False, False),
        ({"error_class": "cheaper"}, False, False),
    ],
)
async def test_only_the_wanted_bytes_are_taken(
    changes: dict[str, Any], *, is_found: bool, is_asked: bool
) -> None:
    """Goal: R4, and no question in vain. Method: records that fit the event, and that do not."""
    asked: list[tuple[int, int, str]] = []
    event = written()

    async def reread(partition: int, offset: int, key: str) -> ObjectWritten | None:
        asked.append((partition, offset, key))
        return event

    record = copy(event.key, sha256=event.sha256, log_offset=7)
    found = await Carried(reread, 1).find(replace(record, **changes))
    assert (found is event) is is_found
    assert asked == ([(0, 7, event.key)] if is_asked else [])
