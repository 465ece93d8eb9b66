"""More partitions while writers go on: two gateways, one of them frozen, the command killed."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.test_kill import Ledger, send
from tests.conftest import WorldMaker
from tests.integration.commands import COMMAND, environ, lines, run
from tests.servers.processes import Process
from tests.servers.receiver import Receiver, hook
from tests.world import World, gathering, random_body

from tidestore.client import Client
from tidestore.schemas.events import ObjectWritten
from tidestore.schemas.topics import partition_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

PARTITIONS = 7
WRITERS = 4
LOG_SHOW = ("log", "show", "log", "--limit", "0", "--json", "--config")


async def write_on(client: Client, ledger: Ledger) -> None:
    """Write small blobs, one after another, until cancelled."""
    while True:
        body = random_body(300)
        await send(client, ledger, f"blobs/{hashlib.sha256(body).hexdigest()}", body=body)


async def grown(world: World, ledger: Ledger, more: int) -> None:
    """Wait until so many more writes were acknowledged."""
    enough = len(ledger.acknowledged) + more

    async def check() -> bool:
        return len(ledger.acknowledged) >= enough

    await world.until(check, 90)


async def gone_over(world: World, client: Client, old: dict[str, Any]) -> None:
    """Wait until a gateway is in the new generation: one that slept is so soon after it woke."""
    path = f"/v1/blobs/{old['key'].rsplit('/', 1)[-1]}/copies"

    async def check() -> bool:
        return str((await client.get(path))["position"]).startswith("2.")

    await world.until(check, 90)


async def migrate_with_a_kill(world: World) -> dict[str, Any]:
    """Run the command, kill it when it closes the log, run it again; its report."""
    words = ["migrate", "--config", str(world.config_path), "--partitions", str(PARTITIONS)]
    process = Process("migrate", [*COMMAND, *words], world.folder / "logs" / "migrate.log")
    process.start()

    async def is_closing() -> bool:
        return "closing" in process.last_words() or process.exit_code() is not None

    await world.until(is_closing, 90)
    assert process.exit_code() is None, process.last_words()
    process.kill()
    env = environ(None, world.folder)
    done = await asyncio.to_thread(run, world.folder, env, *words, "--json")
    report: dict[str, Any] = lines(done)[0]
    return report


async def test_the_log_gets_more_partitions_while_writers_go_on(
    make_world: WorldMaker, tmp_path: Path
) -> None:
    """Goal: growth loses nothing that was acknowledged, and tells hooks all of it.

    Method: writers at two gateways all the time; one gateway sleeps through the move and wakes; the
    command is killed while the log is closed and given again. Then the new log, the replicas, the
    hook and old positions are compared with what the writers know.
    """
    world = make_world()
    world.start(gateways=2)
    ledger = Ledger()
    async with Receiver() as receiver, world.client("0") as first, world.client("1") as second:
        await first.post("/v1/hooks", hook(receiver.url, "object.written"))
        old = [await first.put(f"/v1/blobs/{sha256_of(b)}", body=b) for b in (b"one", b"two")]
        page = await first.get("/v1/blobs", limit="1")
        async with gathering(
            *(write_on((first, second)[n % 2], ledger) for n in range(WRITERS))
        ) as writers:
            await grown(world, ledger, 40)
            world.processes["gateway-1"].freeze()
            report = await migrate_with_a_kill(world)
            assert report["partitions"] == PARTITIONS
            await grown(world, ledger, 20)
            world.processes["gateway-1"].thaw()
            await grown(world, ledger, 40)
            assert not any(writer.done() for writer in writers)
        written = {*ledger.acknowledged, *(answer["key"] for answer in old)}
        events = [r for r in world.records("g2.log") if isinstance(r.event, ObjectWritten)]
        assert written <= {record.key for record in events}
        assert all(record.partition == partition_of(record.key, PARTITIONS) for record in events)
        for client in (first, second):
            await gone_over(world, client, old[0])
        await world.until_everywhere(first, sorted(written), 90)
        for client in (first, second):
            for answer in old:
                name = answer["key"].rsplit("/", 1)[-1]
                found = await client.get(f"/v1/blobs/{name}/copies", at=answer["position"])
                assert found["position"].startswith("2.")
            rest = await client.get("/v1/blobs", limit="1000", cursor=page["next"])
            assert rest["items"]

        async def all_heard() -> bool:
            return written <= {heard.key for heard in receiver.events()}

        await world.until(all_heard, 90)
        shown = run(world.folder, environ(None, world.folder), *LOG_SHOW, str(world.config_path))
        assert written <= {line["key"] for line in lines(shown)}, "`log` is the one in use"
        contents = {name: world.contents(name) for name in world.replicas}
        assert all(written <= found.keys() for found in contents.values())


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
