"""Workers of one replica: they share its partitions, take over, and a frozen one does no harm.

The truth about claims and states is read from the copies topic itself, with a claim book of the
test's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.conftest import Servers, shared_world
from tests.servers.kafka import TestKafka
from tests.world import PARTITIONS, World, gathering, random_body
from tidestore.client import Client
from tidestore.connectors.log import LogWriter
from tidestore.schemas.events import CopyChanged, CopyState, PartitionClaimed
from tidestore.schemas.topics import partition_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

TOPIC = "copies.onprem.1"


@dataclass(slots=True)
class Told:
    """What the copies topic says, read by hand: claims in order, and each key's story."""

    # partition -> (offset, worker's name without its process id)
    newest: dict[int, tuple[int, str]] = field(default_factory=dict)
    # key -> states that counted
    states: dict[str, list[CopyState]] = field(default_factory=dict)
    # key -> whether its last record in the topic is one that counted
    is_last_right: dict[str, bool] = field(default_factory=dict)
    records: dict[str, CopyChanged] = field(default_factory=dict)

    @property
    def owners(self) -> set[str]:
        return {worker for _, worker in self.newest.values()}


def read_told(world: World) -> Told:
    """Fold the topic; Kafka gives the records of one partition in order."""
    told = Told()
    for record in sorted(world.records(TOPIC), key=lambda item: (item.partition, item.offset)):
        event = record.event
        if isinstance(event, PartitionClaimed):
            told.newest[record.partition] = (record.offset, event.worker.split("/")[0])
        elif isinstance(event, CopyChanged):
            is_right = event.claim >= told.newest.get(record.partition, (0, ""))[0]
            told.is_last_right[event.key] = is_right
            if is_right:
                told.states.setdefault(event.key, []).append(event.state)
                told.records[event.key] = event
    return told


@pytest.fixture(scope="module")
def two(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Two workers; each test leaves both alive."""
    started: dict[str, Any] = {"workers": 2, "feeds": 0, "only": ("onprem",)}
    yield from shared_world(kafka, servers, tmp_path_factory, **started)


@pytest.fixture(scope="module")
def one(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """One worker; each test leaves it alive."""
    yield from shared_world(kafka, servers, tmp_path_factory, feeds=0, only=("onprem",))


async def until_owned_by(world: World, *workers: str) -> None:
    """Wait until the newest claims of all partitions are those of just these workers."""

    async def check() -> bool:
        told = await asyncio.to_thread(read_told, world)
        return len(told.newest) == PARTITIONS and told.owners == set(workers)

    await world.until(check, seconds=60)


async def put_blobs(world: World, client: Client, count: int) -> list[str]:
    """Write small blobs, eight at a time."""
    gate = asyncio.Semaphore(8)

    async def one() -> str:
        async with gate:
            return await world.put_blob(client, random_body(600))

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def test_workers_share_partitions_and_the_other_takes_over(two: World) -> None:
    """Goal: more workers of a replica share its work; one that is killed is replaced by the rest.

    Method: two workers, both own some of the partitions; SIGKILL one, the other owns all; start it
    again, both own some. What is written meanwhile arrives.
    """
    world = two
    async with world.client() as client:
        await until_owned_by(world, "onprem-0", "onprem-1")
        keys = await put_blobs(world, client, 40)
        await world.until_present(client, keys, "onprem")
        world.processes["worker-onprem-0"].kill()
        keys += await put_blobs(world, client, 40)
        await until_owned_by(world, "onprem-1")
        await world.until_present(client, keys, "onprem")
        world.restart("worker-onprem-0")
        await until_owned_by(world, "onprem-0", "onprem-1")
        keys += await put_blobs(world, client, 40)
        await world.until_present(client, keys, "onprem")
    told = read_told(world)
    assert all(told.states[key][-1] is CopyState.PRESENT for key in keys)


async def test_a_worker_that_was_frozen_past_its_session_does_no_harm(two: World) -> None:
    """Goal: design point 4, no copy leaves `present`, and each key's last record is a right one.

    Method: SIGSTOP a worker under load until the other owns everything, wake it, and go on.
    """
    world = two
    frozen = world.processes["worker-onprem-0"]
    async with world.client() as client:
        await until_owned_by(world, "onprem-0", "onprem-1")
        before = set(read_told(world).states)
        loading = asyncio.create_task(put_blobs(world, client, 300))
        await world.until(lambda: _has_copied(world, len(before) + 40))
        frozen.freeze()
        keys = await loading
        await until_owned_by(world, "onprem-1")
        await world.until_present(client, keys, "onprem")
        frozen.thaw()
        async with gathering(world.supervise()):
            keys += await put_blobs(world, client, 40)
            await until_owned_by(world, "onprem-0", "onprem-1")
            keys += await put_blobs(world, client, 40)
            await world.until_present(client, keys, "onprem")
            await world.until(lambda: _is_last_right(world, keys))
    told = read_told(world)
    for key in keys:
        story = told.states[key]
        first = story.index(CopyState.PRESENT)
        assert set(story[first:]) == {CopyState.PRESENT}, f"{key} was not present later: {story}"
    contents = world.contents("onprem")
    assert contents.keys() == before | set(keys)
    assert all(contents[key][1] == key.rsplit("/", 1)[-1] for key in keys)


async def _has_copied(world: World, count: int) -> bool:
    return len((await asyncio.to_thread(read_told, world)).states) >= count


async def _is_last_right(world: World, keys: list[str]) -> bool:
    told = await asyncio.to_thread(read_told, world)
    return all(told.is_last_right[key] for key in keys)


@pytest.mark.parametrize("is_owner_alive", [True, False], ids=["owner-alive", "owner-dead"])
async def test_the_right_word_is_said_again_behind_a_late_one(
    one: World, *, is_owner_alive: bool
) -> None:
    """Goal: compaction keeps the last record of a key, so the right one must be the last.

    Method: append what a frozen worker would: a record with a stamp older than the newest claim.
    Readers ignore it; the owner answers it, or the next owner when there is none just then.
    """
    world = one
    async with world.client() as client:
        key = (await put_blobs(world, client, 1))[0]
        await world.until_present(client, [key], "onprem")
        partition = partition_of(key, PARTITIONS)
        told = read_told(world)
        late = replace(
            told.records[key],
            state=CopyState.PARKED,
            claim=told.newest[partition][0] - 1,
            error="said by a worker that had lost the partition",
        )
        if not is_owner_alive:
            world.processes["worker-onprem-0"].kill()
        writer = LogWriter(world.kafka_settings)
        await writer.start()
        await writer.append(world.prefix + TOPIC, partition, key, late)
        await writer.stop()
        if not is_owner_alive:
            assert not read_told(world).is_last_right[key]
            world.restart("worker-onprem-0")
        await world.until(lambda: _is_last_right(world, [key]), seconds=60)
        assert (await world.copies(client, key))["onprem"]["state"] == "present"
    assert CopyState.PARKED not in read_told(world).states[key]
