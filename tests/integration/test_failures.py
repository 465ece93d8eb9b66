"""What goes wrong with a store or with bytes: nothing bad is ever seen, nothing else is held up."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Servers, WorldMaker
from tests.servers.stores import find_binary, start_fake_gcs, start_gcs_emulator
from tests.world import World, new_uuid, new_version, random_body, replica_on
from tidestore.client import Client
from tidestore.connectors.registry import make_store
from tidestore.schemas.objects import ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


async def test_a_dead_store_delays_only_itself_and_its_copies_follow(
    make_world: WorldMaker, servers: Servers, tmp_path: Path
) -> None:
    """Goal: R3 and R8 over an outage. Method: SIGKILL one replica's server, write, restart it.

    While it is down the others have everything, its copies say why not and when next, and a worker
    that is started again goes on counting where it was. One small object is gone from every store
    when the server is back: its event in the log has the bytes.
    """
    binary = find_binary("fake-gcs-server")
    server = start_fake_gcs(tmp_path, binary) if binary else start_gcs_emulator(tmp_path)
    world = make_world()
    world.replicas["gcp"] = replica_on(server, "gcp")
    world.start(feeds=0)
    try:
        async with world.client() as client:
            keys = [await world.put_blob(client, random_body(500))]
            await world.until_everywhere(client, keys)
            server.process.kill()
            later = [await world.put_blob(client, random_body(40_000)) for _ in range(20)]
            later.append(await world.put_blob(client, random_body(500)))
            await world.until_present(client, later, "onprem")
            await _lose_everywhere(world, later[-1])
            await world.until(lambda: _has_failed(world, client, later, times=3))
            before = (await world.copies(client, later[0]))["gcp"]
            assert before["error_class"] == "network"
            assert before["next_try_at_ms"] > 0
            assert before["error"]
            world.processes["worker-gcp-0"].kill()
            world.restart("worker-gcp-0")
            times = before["attempts"] + 1
            await world.until(lambda: _has_failed(world, client, later[:1], times=times))
            after = (await world.copies(client, later[0]))["gcp"]
            assert after["attempts"] == times, "a restart must neither forget nor skip tries"
            await world.until(lambda: _has_failed(world, client, later, times=6))
            planned = [await _gcp(world, client, key, "next_try_at_ms") for key in later]
            server.process.start()
            await world.until_everywhere(client, keys + later, seconds=90)
            arrived = [await _gcp(world, client, key, "changed_at_ms") for key in later]
        assert max(arrived) < max(planned), "the backlog waited for its next try, not for the store"
        found = world.contents("gcp")
        assert found.keys() == set(keys + later)
        assert all(found[key][1] == key.rsplit("/", 1)[-1] for key in found)
    finally:
        world.stop()
        server.process.end()


async def _lose_everywhere(world: World, key: str) -> None:
    """Take an object out of the two replicas that have it."""
    for replica in world.config().replicas:
        if replica.name != "gcp":
            store = make_store(replica.name, replica.address)
            await store.open()
            await store.delete(ObjectKey(key))
            await store.close()


async def _gcp(world: World, client: Client, key: str, field: str) -> int:
    return int((await world.copies(client, key))["gcp"][field])


async def _has_failed(world: World, client: Client, keys: list[str], *, times: int) -> bool:
    copies = [(await world.copies(client, key))["gcp"] for key in keys]
    return all(copy["state"] == "pending" and copy["attempts"] >= times for copy in copies)


async def test_bytes_that_cannot_be_proved_are_never_seen_and_their_copy_is_parked(
    make_world: WorldMaker,
) -> None:
    """Goal: R4, and R3's other branch. Method: change the only source's bytes before they are read.

    The blob is parked with a reason that a person can read, what refers to it is parked with it and
    names it, and nothing of the three is ever in the bucket. Other objects arrive.
    """
    world = make_world(origin="onprem")
    world.start(feeds=0, only=("aws",))
    worker = world.processes["worker-aws-0"]
    async with world.client() as client:
        good = [await world.put_blob(client, random_body(50_000))]
        await world.until_present(client, good, "aws")
        worker.end()
        body = random_body(50_000)
        blob, file, bundle = await _put_family(world, client, body)
        place = world.folder / "onprem" / blob
        place.chmod(0o644)
        place.write_bytes(bytes([body[0] ^ 1]) + body[1:])
        good.append(await world.put_blob(client, random_body(50_000)))
        world.restart("worker-aws-0")
        await world.until_present(client, good, "aws")

        async def is_parked() -> bool:
            copies = [(await world.copies(client, key))["aws"] for key in (blob, file, bundle)]
            return all(copy["state"] == "parked" for copy in copies)

        await world.until(is_parked, seconds=90)
        told = {key: (await world.copies(client, key))["aws"] for key in (blob, file, bundle)}
    assert told[blob]["error_class"] == "checksum"
    assert "sha256" in told[blob]["error"]
    assert told[blob]["attempts"] > 1
    assert (told[file]["error_class"], told[file]["waits_for"]) == ("child", blob)
    assert (told[bundle]["error_class"], told[bundle]["waits_for"]) == ("child", file)
    assert blob in told[file]["error"]
    assert world.contents("aws").keys() == set(good)


async def _put_family(world: World, client: Client, body: bytes) -> tuple[str, str, str]:
    """A blob, a file of it and a bundle of that; their keys."""
    uuid, version = await world.put_file(client, body)
    bundle_uuid, bundle_version = new_uuid(), new_version()
    document: dict[str, Any] = {"files": [{"uuid": uuid, "version": version, "name": "a.txt"}]}
    await client.put(f"/v1/bundles/{bundle_uuid}", document=document, version=bundle_version)
    sha256 = hashlib.sha256(body).hexdigest()
    return (
        f"public/blobs/{sha256}",
        f"public/files/{uuid}.{version}",
        f"public/bundles/{bundle_uuid}.{bundle_version}",
    )


@pytest.mark.parametrize("size", [700, 60_000], ids=["inline", "from-a-source"])
async def test_damage_under_a_key_is_replaced_and_kept_aside(
    make_world: WorldMaker, size: int
) -> None:
    """Goal: design point 11. Method: other bytes lie under the key before the copy comes.

    Same length and another length. The right bytes take their place, the bad ones are kept.
    """
    world = make_world()
    root = world.folder / "onprem"
    bodies = [random_body(size), random_body(size)]
    bad = [random_body(size), b"short"]
    keys = [f"public/blobs/{hashlib.sha256(body).hexdigest()}" for body in bodies]
    for key, other in zip(keys, bad, strict=True):
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(other)
    world.start(feeds=0, only=("onprem",))
    async with world.client() as client:
        for body in bodies:
            await world.put_blob(client, body)
        await world.until_present(client, keys, "onprem")
    assert [(root / key).read_bytes() for key in keys] == bodies
    kept = [path.read_bytes() for path in (root / ".tidestore" / "damaged").rglob("*@*")]
    assert sorted(kept) == sorted(bad)


async def test_another_replica_serves_when_the_origin_has_lost_its_bytes(
    make_world: WorldMaker,
) -> None:
    """Goal: any replica is a source. Method: lose the origin's bytes once two blobs are copied.

    The small one's are gone, the large one's are wrong; a worker that begins now gets both.
    """
    world = make_world(origin="onprem")
    world.start(feeds=0, only=("aws",))
    bodies = [random_body(60_000), random_body(9 * 1024 * 1024)]
    async with world.client() as client:
        keys = [await world.put_blob(client, body) for body in bodies]
        await world.until_present(client, keys, "aws", seconds=60)
        places = [world.folder / "onprem" / key for key in keys]
        places[0].unlink()
        places[1].chmod(0o644)
        places[1].write_bytes(bytes([bodies[1][0] ^ 1]) + bodies[1][1:])
        world.add_worker("gcp", "0")
        await world.until_present(client, keys, "gcp", seconds=60)
    found = await asyncio.to_thread(world.contents, "gcp")
    assert {key: found[key][1] for key in keys} == {
        key: hashlib.sha256(body).hexdigest() for key, body in zip(keys, bodies, strict=True)
    }
