"""Kafka's data and two of three replicas are gone: the third one gives everything back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Servers, WorldMaker
from tests.integration.commands import COMMAND, environ, lines, run
from tests.servers.kafka import TestKafka
from tests.servers.processes import Process
from tests.servers.receiver import Receiver, hook
from tests.world import World, new_uuid, new_version, random_body, replica_on

from tidestore.api.recovery.run import RecoveryRefusedError, RecoverySettings, recover
from tidestore.client import Client, ClientError
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.schemas.datasets import DatasetRegistered
from tidestore.schemas.events import ObjectWritten, RedactionDecided

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

WAIT_SECONDS = 60.0
REASON = "consent withdrawn"


async def write_some(world: World, client: Client) -> dict[str, bytes | None]:
    """Blobs of all sizes, files, a bundle and a collection: key -> what is read there."""
    written: dict[str, bytes | None] = {}
    files = []
    for number in range(12):
        body = random_body((0, 500, 60_000, 9_000_000)[number % 4] if number < 8 else 700)
        uuid, version = await world.put_file(client, body, name=f"f{number}")
        written[f"public/blobs/{hashlib.sha256(body).hexdigest()}"] = body
        written[f"public/files/{uuid}.{version}"] = body
        files.append({"uuid": uuid, "version": version, "name": f"f{number}"})
    alone = random_body(70_000)  # no manifest says what this one must hash to
    written[await world.put_blob(client, alone)] = alone
    version, bundle, collection = new_version(), new_uuid(), new_uuid()
    made = await client.put(f"/v1/bundles/{bundle}", document={"files": files}, version=version)
    written[made["key"]] = None
    contents = [{"kind": "bundle", "uuid": bundle, "version": version}]
    made = await client.put(
        f"/v1/collections/{collection}", document={"contents": contents}, version=version
    )
    written[made["key"]] = None
    return written


def kept_on(folder: Path, topic: str) -> list[dict[str, Any]]:
    """What a folder replica keeps of a state topic."""
    found = (folder / ".tidestore" / "kept" / topic).glob("*")
    return [json.loads(path.read_text("utf-8")) for path in sorted(found)]


def until(condition: Callable[[], bool], claim: str) -> None:
    """Wait for a condition; raises AssertionError."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, claim
        time.sleep(0.05)


def command(world: World) -> list[str]:
    """The words that an operator gives."""
    return ["recover", "--config", str(world.config_path), "--from", "onprem", "--json"]


async def append_decision(world: World, target: str) -> None:
    """A redaction, as an operator's tool would write it."""
    writer = LogWriter(world.kafka_settings)
    await writer.start()
    decided = RedactionDecided(target, 1, REASON, "tester", 1, 2**53)
    await writer.append(f"{world.prefix}redactions", 0, target, decided)
    await writer.stop()


def lose_everything_else(world: World, broker: TestKafka, servers: Servers) -> None:
    """Kafka's data, all views, and two replicas: their buckets are new and empty ones."""
    for process in world.processes.values():
        process.kill()
    broker.process.kill()
    shutil.rmtree(broker.data)
    shutil.rmtree(world.folder / "views")
    aws = servers.best("minio", "localbucket")
    gcp = servers.best("fake-gcs-server", "gcp-storage-emulator")
    world.replicas |= {"aws": replica_on(aws, "aws"), "gcp": replica_on(gcp, "gcp")}


def settings(world: World) -> RecoverySettings:
    """What the command tells a recovery."""
    found = world.config()
    onprem = next(item for item in found.replicas if item.name == "onprem")
    return RecoverySettings(
        kafka=found.kafka, topics=found.topics, name=onprem.name, address=onprem.address,
        replicas=tuple((item.name, item.incarnation) for item in found.replicas),
        origin=found.origin, datasets=found.datasets, data_folder=found.data_folder,
        seal_key=found.seal_key, limits=found.limits,
    )  # fmt: skip


def recover_with_a_kill(world: World, written: set[str]) -> dict[str, Any]:
    """Run it, kill it half way, run it again; the report.

    A pipe under a valid name plays a file that is never read to its end: the run stands before it.
    """
    pipe = world.folder / "onprem" / "public" / "blobs" / ("0" * 64)
    os.mkfifo(pipe)
    log = world.folder / "logs" / "recover.log"
    process = Process("recover", [*COMMAND, *command(world)], log)
    process.start()
    blobs = {key for key in written if "/blobs/" in key}
    until(lambda: process.exit_code() is not None or logged(world) >= blobs, "blobs are appended")
    assert process.exit_code() is None, process.last_words()
    process.kill()
    pipe.unlink()
    assert logged(world) == blobs, "files come after their blobs"
    done = run(world.folder, environ(None, world.folder), *command(world))
    report: dict[str, Any] = lines(done)[0]
    assert report["already"] == {"blob": len(blobs)}
    return report


def logged(world: World) -> set[str]:
    """The keys that the new log has; each once."""
    try:
        records = [r.event for r in world.records("g2.log")]
    except LogError:  # the topic is not there yet
        return set()
    keys = [event.key for event in records if isinstance(event, ObjectWritten)]
    assert len(keys) == len(set(keys)), "an event was appended twice"
    return set(keys)


async def test_a_new_log_comes_from_one_surviving_replica_alone(
    make_world: WorldMaker, servers: Servers, tmp_path: Path
) -> None:
    """Goal: nothing is only in Kafka.

    Method: write, register a hook, redact; delete the broker's data and both buckets; recover from
    the folder with a SIGKILL on the way; start everything, compare every byte through the API and
    on all three replicas, and write on: the hook rings.
    """
    broker = TestKafka(tmp_path / "kafka")
    broker.start()
    world = make_world(broker)
    try:
        async with Receiver() as receiver:
            world.start(feeds=0, only=("onprem",))
            async with world.client() as client:
                written = await write_some(world, client)
                gone = await world.put_blob(client, random_body(300))
                await world.until_present(client, [*written, gone], "onprem")
                await client.post("/v1/hooks", hook(receiver.url, "object.written"))
            await append_decision(world, gone)
            onprem = world.folder / "onprem"
            until(lambda: len(kept_on(onprem, "redactions")) == 1, "the decision is kept")
            until(lambda: len(kept_on(onprem, "hooks")) == 1, "the hook is kept")
            assert receiver.url not in json.dumps(kept_on(onprem, "hooks"))
            lose_everything_else(world, broker, servers)
            broker.start()
            world.origin, world.generation = "onprem", 2
            world.write_config()
            report = recover_with_a_kill(world, set(written))
            assert report["is_whole"], report
            assert report["restored"]["hooks"] == 1
            assert logged(world) == set(written)
            told = [r.event for r in world.records("replicas")]
            assert [e.name for e in told if isinstance(e, DatasetRegistered)] == ["public"]
            world.start()
            async with world.client() as client:
                await world.until_everywhere(client, list(written))
                await check_everything(world, client, written, gone)
                new = await world.put_blob(client, random_body(100))

                async def has_rung() -> bool:
                    return bool(receiver.events(new))

                await world.until(has_rung)
            with pytest.raises(RecoveryRefusedError, match="is not empty"):
                await recover(settings(world), lambda *_: None)
    finally:
        world.stop()
        broker.process.kill()


async def check_everything(
    world: World, client: Client, written: dict[str, bytes | None], gone: str
) -> None:
    """Every byte, through the API and with the clouds' own clients; the redacted one is away."""
    for key, body in written.items():
        _, kind, name = key.split("/")
        identity, _, version = name.partition(".")
        if body is not None:
            path = f"/v1/{kind}/{identity}"
            chunks = [chunk async for chunk in client.read(path, version=version or None)]
            assert b"".join(chunks) == body, key
        else:
            assert await client.get(f"/v1/{kind}/{identity}", version=version)
    until(lambda: not (world.folder / "onprem" / gone).exists(), "what was redacted is removed")
    contents = [world.contents(name) for name in world.replicas]
    assert contents[0] == contents[1] == contents[2]
    assert contents[0].keys() == set(written)
    with pytest.raises(ClientError) as refused:
        await client.get(f"/v1/blobs/{gone.rsplit('/', 1)[-1]}/copies")
    assert refused.value.status == 410
