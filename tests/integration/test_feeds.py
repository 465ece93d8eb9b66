"""The feed over late claims, late words and kills of its workers (R9, design points 4 and 7).

The truth is read from the feed's topic itself, with the rule of claims applied by hand, and from a
hook's receiver.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest

from tests.servers.receiver import Heard, Receiver, hook
from tests.world import PARTITIONS, World, random_body
from tidestore.client import Client
from tidestore.connectors.log import LogWriter
from tidestore.schemas.events import ChangeAnnounced, ChangeType, PartitionClaimed
from tidestore.schemas.topics import claim_key, partition_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]

TOPIC = "changes.public"
WORKER = "feeds-0"
# Written, present on each of three replicas, present everywhere.
CHANGES = 5


@dataclass(slots=True)
class Feed:
    """The topic, read in order: whose word counts, and what was said of each key."""

    # partition -> (offset, worker's name without its process id)
    newest: dict[int, tuple[int, str]] = field(default_factory=dict)
    said: dict[str, list[ChangeAnnounced]] = field(default_factory=dict)
    # key -> whether its last record is one that counts
    is_last_right: dict[str, bool] = field(default_factory=dict)
    late: int = 0


def read_feed(world: World) -> Feed:
    """Fold the topic; Kafka gives the records of one partition in order."""
    feed = Feed()
    for record in sorted(world.records(TOPIC), key=lambda item: (item.partition, item.offset)):
        event = record.event
        if isinstance(event, PartitionClaimed):
            feed.newest[record.partition] = (record.offset, event.worker.split("/")[0])
        elif isinstance(event, ChangeAnnounced):
            is_right = event.claim >= feed.newest.get(record.partition, (0, ""))[0]
            feed.is_last_right[event.key] = is_right
            feed.late += not is_right
            if is_right:
                feed.said.setdefault(event.key, []).append(event)
    return feed


@pytest.fixture
async def world(http_world: World) -> AsyncIterator[World]:
    """The shared world, its feeds worker alive again afterwards."""
    yield http_world
    if http_world.processes[WORKER].exit_code() is not None:
        http_world.restart(WORKER)


@pytest.fixture
async def writer(world: World) -> AsyncIterator[LogWriter]:
    """A writer to topics, as another worker would have."""
    made = LogWriter(world.kafka_settings)
    await made.start()
    yield made
    await made.stop()


def distinct(events: list[Heard]) -> set[str]:
    return {one.id for one in events}


async def until_told(world: World, receiver: Receiver, keys: list[str]) -> None:
    """Wait until a hook heard all there is to tell of some keys."""

    async def is_told() -> bool:
        return all(len(distinct(receiver.events(key))) >= CHANGES for key in keys)

    await world.until(is_told, seconds=60)


def check_feed(feed: Feed, keys: list[str]) -> None:
    """Each change of a key once but for repeats, in order; the last record of a key counts."""
    for key in keys:
        ids: dict[int, set[str]] = {}
        for change in feed.said[key]:
            ids.setdefault(change.sequence, set()).add(change.id)
        assert list(ids) == [1, 2, 3, 4, 5], f"{key}: {feed.said[key]}"
        assert all(len(same) == 1 for same in ids.values()), f"{key}: {ids}"
        assert feed.is_last_right[key]
        assert feed.said[key][-1].is_everywhere


def check_heard(receiver: Receiver, keys: list[str]) -> None:
    """What a hook heard: nothing but that, and in this order."""
    for key in keys:
        told = {one.id: one.document["data"]["sequence"] for one in receiver.events(key)}
        assert list(told.values()) == [1, 2, 3, 4, 5], f"{key}: {told}"


async def put_blobs(world: World, client: Client, count: int) -> list[str]:
    return list(
        await asyncio.gather(*(world.put_blob(client, random_body(300)) for _ in range(count)))
    )


async def test_late_claims_cost_no_word(world: World, writer: LogWriter) -> None:
    """Goal: a woken worker that claims what it has lost does no harm.

    Method: under load, a claim by somebody else on every partition, again and again. The owner
    claims back, and what it said meanwhile, which counts for nothing, is said again.
    """
    async with Receiver() as receiver, world.client() as client:
        made = await client.post("/v1/hooks", hook(receiver.url))
        keys: list[str] = []
        for _ in range(4):
            writing = asyncio.create_task(put_blobs(world, client, 15))
            for partition in range(PARTITIONS):
                claim = PartitionClaimed("feeds-woken/1", partition, int(time.time() * 1000))
                await writer.append(world.prefix + TOPIC, partition, claim_key(partition), claim)
            keys += await writing
        await until_told(world, receiver, keys)

        async def is_settled() -> bool:
            feed = await asyncio.to_thread(read_feed, world)
            owners = {worker for _, worker in feed.newest.values()}
            return owners == {WORKER} and all(feed.is_last_right[key] for key in keys)

        await world.until(is_settled)
        check_feed(read_feed(world), keys)
        check_heard(receiver, keys)
        await client.delete(f"/v1/hooks/{made['id']}")


@pytest.mark.parametrize("is_owner_alive", [True, False], ids=["owner-alive", "owner-dead"])
async def test_the_right_word_is_said_again_behind_a_late_one(
    world: World, writer: LogWriter, *, is_owner_alive: bool
) -> None:
    """Goal: compaction keeps the last record of a key, so the right one must be the last.

    Method: append what a frozen worker would: a record with a stamp older than the newest claim.
    Hooks do not hear it; the owner answers it, or the next owner when there is none just then.
    """
    async with Receiver() as receiver, world.client() as client:
        made = await client.post("/v1/hooks", hook(receiver.url))
        (key,) = await put_blobs(world, client, 1)
        await until_told(world, receiver, [key])
        partition = partition_of(key, PARTITIONS)
        feed = read_feed(world)
        last = feed.said[key][-1]
        late = replace(
            last, id="chg_late", type=ChangeType.PARKED, sequence=last.sequence + 1, replica="gcp",
            claim=feed.newest[partition][0] - 1, reason="said by one that had lost the partition",
        )  # fmt: skip
        if not is_owner_alive:
            world.processes[WORKER].kill()
        await writer.append(world.prefix + TOPIC, partition, key, late)
        if not is_owner_alive:
            assert not read_feed(world).is_last_right[key]
            world.restart(WORKER)

        async def is_answered() -> bool:
            return (await asyncio.to_thread(read_feed, world)).is_last_right[key]

        await world.until(is_answered, seconds=60)
        # Behind the late one on the same partition, so that it was passed when this is heard.
        behind = [await put_on(world, client, partition)]
        await until_told(world, receiver, behind)
        check_feed(read_feed(world), [key, *behind])
        check_heard(receiver, [key, *behind])
        await client.delete(f"/v1/hooks/{made['id']}")


async def put_on(world: World, client: Client, partition: int) -> str:
    """Write a blob whose key lies on a partition."""
    while True:
        key = await world.put_blob(client, random_body(300))
        if partition_of(key, PARTITIONS) == partition:
            return key


async def test_a_killed_feeds_worker_loses_no_change_and_keeps_the_order(world: World) -> None:
    """Goal: R9 over a SIGKILL between copies and feed.

    Method: kill it when a part was told, write on, start it again: every change once but for
    repeats, with the ids it would have had.
    """
    async with Receiver() as receiver, world.client() as client:
        made = await client.post("/v1/hooks", hook(receiver.url))
        writing = asyncio.create_task(put_blobs(world, client, 80))

        async def some() -> bool:
            return len(receiver.events()) >= 40

        await world.until(some)
        world.processes[WORKER].kill()
        keys = [*await writing, *await put_blobs(world, client, 20)]
        told = sum(len(distinct(receiver.events(key))) for key in keys)
        assert told < CHANGES * len(keys), "it was over before the kill"
        world.restart(WORKER)
        await until_told(world, receiver, keys)
        check_feed(read_feed(world), keys)
        check_heard(receiver, keys)
        await client.delete(f"/v1/hooks/{made['id']}")
