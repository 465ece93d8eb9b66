"""Records that cannot be read (design point 9), and topics that are not as they must be."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
)

import tidestore
from tests.conftest import WorldMaker
from tests.servers.processes import Process
from tests.world import PARTITIONS, World, new_uuid, random_body
from tidestore.client import Client
from tidestore.connectors.kafka import QuietLogger
from tidestore.schemas.codec import encode
from tidestore.schemas.events import CopyChanged, ObjectWritten, RecordPoisoned
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.topics import DAY_MS, partition_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

NEXT_SCHEMA_ID = 9_001


def append_raw(world: World, key: str, value: bytes) -> int:
    """Put bytes on the log as any Kafka client could; their partition."""
    producer = Producer(world.kafka_settings.client(), logger=QuietLogger())
    partition = partition_of(key, PARTITIONS)
    producer.produce(world.prefix + "log", value, key.encode(), partition=partition)
    assert producer.flush(20) == 0
    return partition


async def put_on(world: World, client: Client, partition: int) -> str:
    """Write a blob whose key lies on a partition."""
    while True:
        body = random_body(300)
        answer_key = await world.put_blob(client, body)
        if partition_of(answer_key, PARTITIONS) == partition:
            return answer_key


async def test_poison_is_set_aside_with_its_reason_and_the_partition_goes_on(
    make_world: WorldMaker,
) -> None:
    """Goal: a record that breaks under a known schema stops nothing.

    Method: three kinds of broken records on one partition, then a good write behind them.
    """
    world = make_world()
    world.start()
    good = encode(
        ObjectWritten(
            key=ObjectKey("k"),
            size=1,
            sha256="",
            sha1="",
            crc32c="",
            md5="",
            content_type="",
            origin="aws",
            origin_epoch=1,
            written_at_ms=0,
            written_by="",
            request_id="",
        )
    )  # fmt: skip
    key = f"public/files/{new_uuid()}.2026-01-01T000000.000000Z"
    async with world.client() as client:
        partition = partition_of(key, PARTITIONS)
        for value in (good[:-3], good + b"more", b"\x07no header of ours"):
            assert append_raw(world, key, value) == partition
        behind = await put_on(world, client, partition)
        await world.until_everywhere(client, [behind])

        def poisoned() -> list[RecordPoisoned]:
            events = [record.event for record in world.records("poison")]
            return [event for event in events if isinstance(event, RecordPoisoned)]

        async def is_set_aside() -> bool:
            # Each replica's worker says what it met; the origin's has nothing to copy, but reads.
            return len({(event.offset, event.met_by) for event in poisoned()}) >= 9

        await world.until(is_set_aside)
        # It is parked after that; the last of the three is parked for good.
        await world.until(lambda: _is_parked(world, key))
        for event in poisoned():
            assert event.topic == world.prefix + "log"
            assert event.partition == partition
            assert event.key == key
            assert event.reason
        assert {event.raw for event in poisoned()} == {
            good[:-3], good + b"more", b"\x07no header of ours"
        }  # fmt: skip


async def _is_parked(world: World, key: str) -> bool:
    """Whether the newest word on a copy is that it is parked as poison."""
    told = [r.event for r in world.records("copies.gcp.1") if r.key == key]
    last = told[-1] if told else None
    return isinstance(last, CopyChanged) and (last.state.value, last.error_class) == (
        "parked", "poison"
    )  # fmt: skip


def next_release(folder: Path) -> Path:
    """A copy of the product that knows one schema more; the path to put first."""
    source = Path(tidestore.__file__).parent
    target = folder / "tidestore"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    avro = target / "schemas" / "avro"
    shutil.copy(avro / "object_written.v1.avsc", avro / "object_written.v0.avsc")
    ids = json.loads((avro / "ids.json").read_text("utf-8"))
    ids["object_written.v0.avsc"] = NEXT_SCHEMA_ID
    (avro / "ids.json").write_text(json.dumps(ids), "utf-8")
    return folder


async def test_a_schema_of_the_next_release_stops_its_partition_until_it_is_known(
    make_world: WorldMaker, tmp_path: Path
) -> None:
    """Goal: a rolling upgrade drops nothing. Method: a record of a schema id that nobody knows.

    Its partition waits, loudly; the others go on. Then the processes are replaced by a release that
    knows it, and everything that waited arrives.
    """
    world = make_world()
    world.start(feeds=0, only=("onprem",))
    async with world.client() as client:
        body = random_body(900)
        first = await world.put_blob(client, body)
        await world.until_present(client, [first], "onprem")
        record = next(r for r in world.records("log") if r.key == first)
        assert record.event is not None
        value = bytearray(encode(record.event))
        value[1:5] = struct.pack(">I", NEXT_SCHEMA_ID)
        partition = append_raw(world, first, bytes(value))
        stopped = await put_on(world, client, partition)
        others = [await put_on(world, client, (partition + 1) % PARTITIONS)]
        await world.until_present(client, others, "onprem")
        worker, gateway = world.processes["worker-onprem-0"], world.processes["gateway-0"]
        await world.until(lambda: _says(worker, f"schema id {NEXT_SCHEMA_ID} is not known"))
        await world.until(lambda: _says(gateway, f"schema id {NEXT_SCHEMA_ID} is not known"))
        assert not (world.folder / "onprem" / stopped).exists()

    world.environ = {"PYTHONPATH": str(next_release(tmp_path / "next"))}
    for process in (worker, gateway):
        process.end()
    world.add_gateway("0")
    world.add_worker("onprem", "0")
    async with world.client() as client:
        await world.until_present(client, [first, stopped, *others], "onprem")


async def _says(process: Process, text: str) -> bool:
    return text in process.log.read_text("utf-8")


WRONG = {
    "cleanup.policy": ("delete", "compact"),
    "message.timestamp.type": ("CreateTime", "LogAppendTime"),
    "min.compaction.lag.ms": ("0", str(7 * DAY_MS)),
    "max.compaction.lag.ms": (str(300 * DAY_MS), str(14 * DAY_MS)),
}


async def test_a_topic_with_other_settings_is_refused_with_the_command_that_mends_it(
    make_world: WorldMaker,
) -> None:
    """Goal: settings that would lose data are found at every start, by every process.

    Method: four of the log's settings are changed, and a topic gets one more partition.
    """
    world = make_world()
    world.start(feeds=0, only=())
    world.stop()
    admin = AdminClient(world.kafka_settings.client(), logger=QuietLogger())
    entries = [
        ConfigEntry(name, wrong, incremental_operation=AlterConfigOpType.SET)
        for name, (wrong, _) in WRONG.items()
    ]
    resource = ConfigResource(
        ConfigResource.Type.TOPIC, world.prefix + "log", incremental_configs=entries
    )
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(20)
    cursors = NewPartitions(world.prefix + "cursors", PARTITIONS + 1)
    for future in admin.create_partitions([cursors]).values():
        future.result(20)
    for words in (["gateway", "--port", "0"], ["worker", "aws"], ["feeds"]):
        done = subprocess.run(
            [sys.executable, "-m", "tidestore", *words, "--config", str(world.config_path)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode != 0, words
        said = done.stdout + done.stderr
        for name, (wrong, right) in WRONG.items():
            assert f"{name} is {wrong}, not {right}" in said, words
            assert f"--entity-name {world.prefix}log --add-config {name}={right}" in said
        assert f"cursors has {PARTITIONS + 1} partitions, not {PARTITIONS}" in said, words
        assert "Traceback" not in said
