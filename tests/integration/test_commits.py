"""How far a group commits on a real broker while one record is not finished (R6).

The same story twice: with Faust's own accounting, and with ours. The first is expected to break the
claim, strictly: should a later Faust keep it, this test says so, and decision 0003 is looked at
again.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.servers.group_reader import SLOW
from tests.servers.kafka import TestKafka
from tests.servers.processes import Process
from tests.world import new_uuid
from tidestore.connectors.kafka import KafkaSettings, QuietLogger
from tidestore.connectors.log import LogWriter
from tidestore.schemas.events import ObjectWritten
from tidestore.schemas.objects import ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

RECORDS = 40
PARTITIONS = 2


class PastUnfinishedError(AssertionError):
    """A group has committed past a record that it has not finished."""


_FAUST = pytest.param(
    "faust",
    marks=pytest.mark.xfail(
        strict=True,
        raises=PastUnfinishedError,
        reason="Faust 0.15.3 commits past the oldest record when nothing was committed before it",
    ),
)


@pytest.mark.parametrize("accounting", [_FAUST, "ours"])
async def test_nothing_is_committed_past_an_unfinished_record(
    accounting: str, kafka: TestKafka, tmp_path: Path
) -> None:
    """Goal: R6. Method: the first record of a partition is never finished, all others are.

    The other partition shows that commits were made since: it is committed to its end, twice. Then
    SIGKILL: the next member must be given the unfinished record again.
    """
    settings = KafkaSettings(kafka.bootstrap)
    topic, group = f"commits-{new_uuid()}", f"group-{new_uuid()}"
    await _write(settings, topic, 0)
    (tmp_path / "slow").touch()
    command = [sys.executable, "-m", "tests.servers.group_reader", accounting]
    command += [kafka.bootstrap, topic, group, str(tmp_path)]
    reader = Process(accounting, command, tmp_path / "reader.log")
    reader.start()
    try:
        await _until(lambda: len(_finished(reader)) == PARTITIONS * RECORDS - 1)
        await _until(lambda: _committed(settings, group, topic)[1] == RECORDS)
        await _write(settings, topic, RECORDS)
        await _until(lambda: _committed(settings, group, topic)[1] == 2 * RECORDS)
        assert SLOW not in _finished(reader)
        committed = _committed(settings, group, topic)[SLOW[0]]
        reader.kill()
        if committed > SLOW[1]:
            raise PastUnfinishedError(f"committed {committed}, but {SLOW[1]} is not finished")
        (tmp_path / "slow").unlink()
        reader.start()
        await _until(lambda: SLOW in _finished(reader))
    finally:
        reader.end(1)


def _finished(reader: Process) -> set[tuple[int, int]]:
    """The records that all lives of the reader have finished."""
    text = reader.log.read_text("utf-8")
    return {(int(p), int(o)) for p, o in re.findall(r"^(\d+) (\d+)$", text, re.MULTILINE)}


async def _write(settings: KafkaSettings, topic: str, start: int) -> None:
    if start == 0:
        admin = AdminClient(settings.client(), logger=QuietLogger())
        admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(20)
    writer = LogWriter(settings)
    await writer.start()
    for partition in range(PARTITIONS):
        for number in range(start, start + RECORDS):
            event = _event(f"key-{number}-{partition}")
            await writer.append(topic, partition, event.key, event)
    await writer.stop()


def _event(key: str) -> ObjectWritten:
    return ObjectWritten(
        key=ObjectKey(key), size=0, sha256="", sha1="", crc32c="", md5="", content_type="",
        origin="a", origin_epoch=1, written_at_ms=0, written_by="", request_id="",
    )  # fmt: skip


def _committed(settings: KafkaSettings, group: str, topic: str) -> list[int]:
    """What the broker holds for the group, by partition; below 0 where nothing was committed."""
    consumer = Consumer(settings.client({"group.id": group}))
    try:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        return [place.offset for place in consumer.committed(places, timeout=10)]
    finally:
        consumer.close()


async def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.1)
