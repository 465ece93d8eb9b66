"""How an object goes away, and how it never does (R7, design point 3), as far as workers go.

The records are written as an operator's tool would: the decision first, then the log's record.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Servers, WorldMaker, shared_world
from tests.servers.kafka import TestKafka
from tests.world import PARTITIONS, World, random_body
from tidestore.connectors.log import LogWriter
from tidestore.schemas.events import CopyChanged, ObjectRedacted, ObjectWritten, RedactionDecided
from tidestore.schemas.topics import partition_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

REASON = "consent withdrawn"


async def append(world: World, *events: RedactionDecided | ObjectRedacted | ObjectWritten) -> None:
    """Append events to where they belong, each confirmed before the next."""
    writer = LogWriter(world.kafka_settings)
    await writer.start()
    for event in events:
        if isinstance(event, RedactionDecided):
            await writer.append(f"{world.prefix}redactions", 0, event.target, event)
        else:
            partition = partition_of(event.key, PARTITIONS)
            await writer.append(f"{world.prefix}log", partition, event.key, event)
    await writer.stop()


@pytest.fixture(scope="module")
def store(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A store with one worker, which each test leaves alive."""
    yield from shared_world(kafka, servers, tmp_path_factory, feeds=0, only=("onprem",))


def decided(key: str) -> RedactionDecided:
    return RedactionDecided(
        target=key, number=1, reason=REASON, decided_by="tester", decided_at_ms=1,
        purge_after_ms=2**53,
    )  # fmt: skip


def redacted(key: str) -> ObjectRedacted:
    return ObjectRedacted(key=key, number=1, reason=REASON, decided_by="tester", decided_at_ms=1)


def place_of(world: World, key: str) -> Path:
    return world.folder / "onprem" / key


async def test_a_replica_that_was_away_removes_what_was_redacted_meanwhile(store: World) -> None:
    """Goal: late replicas see a redaction, too. Method: redact while one worker is not running."""
    world = store
    worker = world.processes["worker-onprem-0"]
    async with world.client() as client:
        key = await world.put_blob(client, random_body(400))
        kept = await world.put_blob(client, random_body(400))
        await world.until_present(client, [key, kept], "onprem")
        worker.end()
        await append(world, decided(key), redacted(key))
        assert place_of(world, key).exists()
        world.restart("worker-onprem-0")
        await world.until(lambda: _is_gone(world, key))
    assert place_of(world, kept).exists()


async def test_a_removal_that_fails_is_tried_again(store: World) -> None:
    """Goal: no redacted bytes stay because a store had a bad moment.

    Method: something that cannot be removed lies where the object was; once it is the object again,
    the next try comes by itself.
    """
    world = store
    async with world.client() as client:
        key = await world.put_blob(client, random_body(400))
        await world.until_present(client, [key], "onprem")
        place = place_of(world, key)
        aside = place.rename(world.folder / "aside")
        place.mkdir()
        (place / "in the way").touch()
        await append(world, decided(key), redacted(key))
        await world.until(lambda: _has_failed(world, key))
        (place / "in the way").unlink()
        place.rmdir()
        aside.rename(place)
        await world.until(lambda: _is_gone(world, key))


async def _has_failed(world: World, key: str) -> bool:
    found = [r.event for r in world.records("copies.onprem.1") if r.key == key]
    last = found[-1]
    return isinstance(last, CopyChanged) and last.error_class is not None


async def test_a_write_that_comes_after_its_redaction_stays_gone(make_world: WorldMaker) -> None:
    """Goal: redaction beats every write. Method: a frozen gateway's append, after the redaction.

    The replica never had the object: at its first start it meets the write alone, its redaction
    compacted away or behind it.
    """
    world = make_world()
    world.start(feeds=0, only=())
    async with world.client() as client:
        key = await world.put_blob(client, random_body(400))
        written = next(r.event for r in world.records("log") if r.key == key)
        assert isinstance(written, ObjectWritten)
        await append(world, decided(key), redacted(key), written)
        behind = await put_behind(world, key)
        world.add_worker("onprem", "0")
        await world.until_present(client, [behind], "onprem")
        # A receipt although it never was here; one that is behind it need not wait for it.
        await world.until(lambda: _has_receipt(world, key))
    assert not place_of(world, key).exists()
    assert said_of(world, key) <= {"redacting", "redacted"}


def said_of(world: World, key: str) -> set[str]:
    """All states that the replica has told of a key."""
    events = [record.event for record in world.records("copies.onprem.1") if record.key == key]
    return {event.state.value for event in events if isinstance(event, CopyChanged)}


async def _has_receipt(world: World, key: str) -> bool:
    return bool(said_of(world, key))


async def put_behind(world: World, key: str) -> str:
    """Write a blob whose record stands behind that of `key`, on the same partition."""
    async with world.client() as client:
        while True:
            other = await world.put_blob(client, random_body(100))
            if partition_of(other, PARTITIONS) == partition_of(key, PARTITIONS):
                return other


async def test_what_is_missing_in_a_store_is_removed_nowhere(make_world: WorldMaker) -> None:
    """Goal: R7, an absence is no deletion. Method: take an object's bytes away at the origin.

    The replica keeps its copy, before and after its worker has read the whole log again.
    """
    world = make_world(origin="onprem")
    world.start(feeds=0, only=("aws",))
    async with world.client() as client:
        key = await world.put_blob(client, random_body(40_000))
        await world.until_present(client, [key], "aws")
        place_of(world, key).unlink()
        world.processes["worker-aws-0"].end()
        world.unclean_stops = 1  # every view is folded again, every group reads from the start
        world.write_config()
        world.restart("worker-aws-0")
        behind = await put_behind(world, key)
        await world.until_present(client, [behind], "aws")
    assert key in world.contents("aws")


async def _is_gone(world: World, key: str) -> bool:
    return not place_of(world, key).exists()
