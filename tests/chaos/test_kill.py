"""SIGKILL under load: what was acknowledged is on every replica, byte for byte; nothing else is.

The truth is a ledger that the writers keep outside of the system. Replicas are read with the
clouds' own clients, the log with a plain consumer.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from tests.conftest import WorldMaker
from tests.servers.kafka import TestKafka
from tests.world import World, gathering, new_uuid, new_version, random_body

from tidestore.client import Client, ClientError
from tidestore.schemas.events import ObjectWritten

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

WRITES = 500
WRITERS = 12
# Half a minute: what is killed is back within seconds, on a busy machine too.
TRIES = 100
PAUSE_SECONDS = 0.3


@dataclass(slots=True)
class Ledger:
    """What the writers know: acknowledged keys with their content, and those of unknown outcome."""

    acknowledged: dict[str, tuple[int, str]] = field(default_factory=dict)
    unknown: dict[str, tuple[int, str]] = field(default_factory=dict)


async def send(
    client: Client,
    ledger: Ledger,
    path: str,
    *,
    body: bytes | None = None,
    document: object = None,
    version: str | None = None,
) -> None:
    """Send one write until it is answered or has failed for good, as a real writer would."""
    key = f"public/{path}" + (f".{version}" if version else "")
    content = (-1, "") if body is None else (len(body), hashlib.sha256(body).hexdigest())
    ledger.unknown[key] = content
    for _ in range(TRIES):
        try:
            answer = await client.put(f"/v1/{path}", body=body, document=document, version=version)
        except ClientError as error:
            if error.status not in (0, 500, 502, 503):
                raise
            await asyncio.sleep(PAUSE_SECONDS)  # a writer's own pause between tries
            continue
        assert answer["key"] == key
        ledger.acknowledged[key] = content
        ledger.unknown.pop(key, None)  # two writers may have written the same empty blob
        return
    raise AssertionError(f"{path} was never answered")


async def load(world: World, ledger: Ledger, seed: int, *strikes: Callable[[], None]) -> None:
    """Write blobs, files and bundles; the strikes come one by one while that goes on."""
    dice = random.Random(seed)
    share = 2 * WRITES // 3 // WRITERS
    done = 0
    is_due = [asyncio.Event() for _ in strikes]

    async def writer(client: Client, count: int) -> None:
        nonlocal done
        files: list[dict[str, str]] = []
        for number in range(count):
            body = random_body(dice.choice([0, 100, 4096, 40_000, 300_000]))
            sha256 = hashlib.sha256(body).hexdigest()
            await send(client, ledger, f"blobs/{sha256}", body=body)
            identity, version, name = new_uuid(), new_version(), f"f{number}"
            document: dict[str, object] = {"blob": sha256, "name": name}
            await send(client, ledger, f"files/{identity}", document=document, version=version)
            files.append({"uuid": identity, "version": version, "name": name})
            if number % 10 == 9:
                bundle: dict[str, object] = {"files": files}
                path = f"bundles/{new_uuid()}"
                await send(client, ledger, path, document=bundle, version=version)
                files = []
            done += 1
            for place, event in enumerate(is_due, 1):
                if done >= place * share * WRITERS // (len(is_due) + 2):
                    event.set()

    async def striker() -> None:
        for event, strike in zip(is_due, strikes, strict=True):
            await event.wait()
            await asyncio.to_thread(strike)

    async with world.client() as client:
        striking = asyncio.create_task(striker())
        await asyncio.gather(*(writer(client, share) for _ in range(WRITERS)))
        await striking


async def prove(world: World, ledger: Ledger) -> None:
    """Nothing acknowledged is missing anywhere, nothing differs, nothing is there unasked."""
    async with world.client() as client:
        await world.until_everywhere(client, list(ledger.acknowledged), seconds=90)
    logged = {
        record.event.key: (record.event.size, record.event.sha256)
        for record in world.records("log")
        if isinstance(record.event, ObjectWritten)
    }
    read = [asyncio.to_thread(world.contents, name) for name in world.replicas]
    for name, found in zip(world.replicas, await asyncio.gather(*read), strict=True):
        for key, content in ledger.acknowledged.items():
            assert key in found, f"{name} lacks {key}"
            assert found[key] == logged[key], f"{name} differs at {key}"
            if content[0] >= 0:
                assert found[key] == content, f"{name} has other bytes at {key}"
        assert found.keys() <= ledger.acknowledged.keys() | ledger.unknown.keys()


async def test_killed_processes_lose_nothing(make_world: WorldMaker) -> None:
    """Goal: R1 to R4 and R6 over a SIGKILL of each kind of process.

    Method: over 500 writes; kill a worker of a cloud, that of the folder, and the gateway, one
    after the other while it goes on, and start each again.
    """
    world = make_world()
    world.start(feeds=0)
    ledger = Ledger()

    def strike(victim: str) -> None:
        world.processes[victim].kill()
        world.restart(victim)

    victims = ("worker-gcp-0", "worker-onprem-0", "gateway-0")
    await load(world, ledger, 1, *(partial(strike, victim) for victim in victims))
    assert len(ledger.acknowledged) >= WRITES
    await prove(world, ledger)


async def test_a_killed_broker_loses_nothing(make_world: WorldMaker, tmp_path: Path) -> None:
    """Goal: the same over a SIGKILL of Kafka itself, with every other process left running."""
    broker = TestKafka(tmp_path / "kafka")
    broker.start()
    world = make_world(broker)
    try:
        world.start(feeds=0)
        ledger = Ledger()

        def strike() -> None:
            broker.process.kill()
            broker.start()

        await load(world, ledger, 2, strike)
        # A worker may end itself when its group is gone for long.
        async with gathering(world.supervise()):
            await prove(world, ledger)
    finally:
        world.stop()
        broker.process.kill()
