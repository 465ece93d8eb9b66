"""Appending several events of a key in one row, while the broker comes and goes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from tests.golden.samples import SAMPLES
from tests.servers.kafka import TestKafka
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.log import LONG_LINGER_MS, LogWriter
from tidestore.connectors.provision import provision
from tidestore.connectors.tail import read_topic
from tidestore.schemas.events import ChangeAnnounced
from tidestore.schemas.topics import DELETED, TopicSpec

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

_TOPIC = "rows"
_KEYS, _IN_A_ROW = 50, 4
_CHANGE = SAMPLES["change_announced.v1"]


def row(key: str) -> list[ChangeAnnounced]:
    """What is said of a key: sequences 1 to 4."""
    assert isinstance(_CHANGE, ChangeAnnounced)
    return [replace(_CHANGE, key=key, sequence=number + 1) for number in range(_IN_A_ROW)]


async def test_rows_keep_their_order_while_the_broker_is_killed(tmp_path: Path) -> None:
    """Goal: R9's order per key, without waiting for one announcement before the next.

    Method: 50 rows on one partition, a SIGKILL of the broker in the middle of them and a pause
    longer than any other writer's patience for a request; then every key's first appearances must
    be 1, 2, 3, 4, and the last record of each key its last word.
    """
    broker = TestKafka(tmp_path / "kafka")
    broker.start()
    settings = KafkaSettings(broker.bootstrap)
    spec = TopicSpec(_TOPIC, 1, {"cleanup.policy": DELETED})
    await provision(settings, [spec], replication=1)
    writer = LogWriter(settings, linger_ms=LONG_LINGER_MS, is_patient=True)
    await writer.start()
    try:
        say = [
            asyncio.ensure_future(writer.append_row(_TOPIC, 0, f"k{number}", row(f"k{number}")))
            for number in range(_KEYS // 2)
        ]
        await asyncio.wait(say, return_when=asyncio.FIRST_COMPLETED)
        broker.process.kill()
        say += [
            asyncio.ensure_future(writer.append_row(_TOPIC, 0, f"k{number}", row(f"k{number}")))
            for number in range(_KEYS // 2, _KEYS)
        ]
        _, waiting = await asyncio.wait(say, timeout=3)
        assert len(waiting) >= _KEYS // 2, "nobody took them, and nobody gave up"
        broker.start()
        placed = await asyncio.wait_for(asyncio.gather(*say), 60)
        assert len({one.offset for one in placed}) == _KEYS
    finally:
        await writer.stop()
    said: dict[str, list[int]] = defaultdict(list)
    for record in read_topic(settings, _TOPIC):
        assert isinstance(record.event, ChangeAnnounced)
        said[record.key].append(record.event.sequence)
    broker.process.kill()
    assert len(said) == _KEYS
    for key, numbers in said.items():
        assert list(dict.fromkeys(numbers)) == [1, 2, 3, 4], key
        assert numbers[-1] == _IN_A_ROW, key


async def test_an_impatient_writer_says_no_rows() -> None:
    """Goal: a record that expires must not let the next one overtake it. Method: try it."""
    writer = LogWriter(KafkaSettings("127.0.0.1:1"))
    await writer.start()
    with pytest.raises(AssertionError, match="overtake"):
        await writer.append_row(_TOPIC, 0, "k", row("k"))
    await writer.stop()
