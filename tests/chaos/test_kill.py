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
from pathlib import Path

import pytest
from tests.conftest import WorldMaker
from tests.servers.kafka import TestKafka
from tests.world import World, new_uuid, new_version, random_body

from tidestore.client import Client, ClientError
from tidestore.schemas.events import ObjectWritten

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

WRITES = 500
WRITERS = 12
# A broker that is killed is back within seconds; a gateway answers 503 after 20.
TRIES = 20
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


async def load(world: World, ledger: Ledger, seed: int, strike: Callable[[], None]) -> None:
    """Write blobs, files and bundles; strike when a third is done."""
    dice = random.Random(seed)
    done = 0
    is_struck = asyncio.Event()

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
            if done >= WRITES // 6:
                is_struck.set()

    async def striker() -> None:
        await is_struck.wait()
        await asyncio.to_thread(strike)

    async with world.client() as client:
        striking = asyncio.create_task(striker())
        share = 2 * WRITES // 3 // WRITERS
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
    for name in world.replicas:
        found = world.contents(name)
        for key, content in ledger.acknowledged.items():
            assert key in found, f"{name} lacks {key}"
            assert found[key] == logged[key], f"{name} differs at {key}"
            if content[0] >= 0:
                assert found[key] == content, f"{name} has other bytes at {key}"
        assert found.keys() <= ledger.acknowledged.keys() | ledger.unknown.keys()


@pytest.mark.parametrize("victim", ["worker-gcp-0", "worker-onprem-0", "gateway-0"])
async def test_a_killed_process_loses_nothing(make_world: WorldMaker, victim: str) -> None:
    """Goal: R1 to R4 and R6 over a SIGKILL. Method: kill at a third of 500 writes, start again."""
    world = make_world()
    world.start()
    ledger = Ledger()

    def strike() -> None:
        world.processes[victim].kill()
        world.restart(victim)

    await load(world, ledger, seed=1, strike=strike)
    assert len(ledger.acknowledged) >= WRITES
    await prove(world, ledger)


async def test_a_killed_broker_loses_nothing(make_world: WorldMaker, tmp_path: Path) -> None:
    """Goal: the same over a SIGKILL of Kafka itself, with every other process left running."""
    broker = TestKafka(tmp_path / "kafka")
    broker.start()
    world = make_world(broker)
    try:
        world.start()
        ledger = Ledger()

        def strike() -> None:
            broker.process.kill()
            broker.start()

        await load(world, ledger, seed=2, strike=strike)
        for name, process in world.processes.items():
            # A worker may end itself when its group is gone for long; its supervisor starts it
            # again, and so do we.
            if process.exit_code() is not None:
                world.restart(name)
        await prove(world, ledger)
    finally:
        world.stop()
        broker.process.end()
