"""A lone broker loses the tail of its log: what was acknowledged comes back from the origin.

Design point 10. A SIGKILL alone loses nothing that the system has in its page cache, so the power
cut is made by hand: the broker is killed and the last part of its segments is cut off, in the
middle of a batch, as a disk would leave it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tests.conftest import WorldMaker
from tests.servers.kafka import TestKafka
from tests.world import PARTITIONS, World, new_uuid, random_body

from tidestore.client import Client
from tidestore.schemas.events import ObjectWritten

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


def cut_tails(broker: TestKafka, topic: str) -> None:
    """Leave the first 60 % of each partition's segment."""
    for number in range(PARTITIONS):
        segment = broker.data / f"{topic}-{number}" / f"{0:020}.log"
        size = segment.stat().st_size
        with segment.open("r+b") as file:
            file.truncate(size * 6 // 10)


def logged_keys(world: World) -> set[str]:
    """The keys that the log has now."""
    return {r.event.key for r in world.records("log") if isinstance(r.event, ObjectWritten)}


async def write_some(world: World, client: Client, count: int) -> list[str]:
    """Blobs, small and larger than what rides in an event, and a file for each."""
    keys = []
    for number in range(count):
        body = random_body(60_000 if number % 3 == 0 else 500)
        keys.append(await world.put_blob(client, body))
        uuid, version = await world.put_file(client, body, name=f"f{number}")
        keys.append(f"public/files/{uuid}.{version}")
    return keys


async def test_a_cut_tail_is_appended_again_from_the_origin(
    make_world: WorldMaker, tmp_path: Path
) -> None:
    """Goal: nothing acknowledged is missing after a power cut of the only machine.

    Method: write, kill everything, cut the log's tail and the copies' of one replica, start again
    with the unclean stop counted, as `tidestore run` does; then write more, so that other records
    stand where the lost ones stood.
    """
    broker = TestKafka(tmp_path / "kafka")
    broker.start()
    world = make_world(broker)
    try:
        world.start()
        async with world.client() as client:
            keys = await write_some(world, client, 40)
            await world.until_everywhere(client, keys)
        for process in world.processes.values():
            process.kill()
        broker.process.kill()
        cut_tails(broker, f"{world.prefix}log")
        cut_tails(broker, f"{world.prefix}copies.gcp.1")

        assert broker.start(), "the broker must say that its last stop was unclean"
        lost = set(keys) - logged_keys(world)
        assert lost, "nothing was lost, so nothing is tested"
        world.unclean_stops = 1
        world.start()
        async with world.client() as client:
            more = await write_some(world, client, 10)

            async def all_logged() -> bool:
                return logged_keys(world) >= set(keys)

            await world.until(all_logged, seconds=60)
            await world.until_everywhere(client, keys + more, seconds=90)
            listed = [item["key"] async for item in client.pages("/v1/blobs", limit=50)]
        assert set(listed) == {key for key in keys + more if "/blobs/" in key}
        for name in world.replicas:
            found = world.contents(name)
            assert found.keys() == set(keys + more), name
            for key in listed:
                assert found[key][1] == key.rsplit("/", 1)[-1]
    finally:
        world.stop()
        broker.process.kill()


async def test_what_is_dark_and_wrong_is_left_as_it_is(
    make_world: WorldMaker, tmp_path: Path
) -> None:
    """Goal: only objects whose bytes are what their key says get an event; nothing is removed.

    Method: put right and wrong bytes under free keys at the origin, with its own client, then start
    the gateway as after an unclean stop.
    """
    world = make_world(origin="onprem")
    good, bad = random_body(700), random_body(700)
    good_key = f"public/blobs/{hashlib.sha256(good).hexdigest()}"
    bad_key = f"public/blobs/{hashlib.sha256(random_body(9)).hexdigest()}"
    fake_key = f"public/files/{new_uuid()}.2026-01-01T000000.000000Z"
    for key, body in ((good_key, good), (bad_key, bad), (fake_key, b'{"format": "no"}')):
        place = world.folder / "onprem" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(body)
    world.unclean_stops = 1
    world.start()
    async with world.client() as client:
        await world.until(lambda: _is_logged(world, good_key))
        await world.until_everywhere(client, [good_key])
    assert logged_keys(world) == {good_key}
    assert (world.folder / "onprem" / bad_key).read_bytes() == bad
    assert (world.folder / "onprem" / fake_key).exists()


async def _is_logged(world: World, key: str) -> bool:
    return key in logged_keys(world)
