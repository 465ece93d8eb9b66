"""Scrub on real stores: damage done behind our back is found, told, and heals by itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Servers, _replicas
from tests.integration.vandals import Person, Vandal
from tests.servers.kafka import TestKafka
from tests.world import World, gathering, random_body
from tidestore.client import Client, ClientError
from tidestore.connectors.conformance.made import key_of
from tidestore.connectors.log import LogWriter
from tidestore.connectors.registry import make_store
from tidestore.connectors.s3 import S3Store
from tidestore.connectors.signing import is_signed
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.events import PartitionClaimed
from tidestore.schemas.findings import FindingReported, ScrubReported
from tidestore.streams.scrub import Outcome
from tidestore.streams.scrub_open import open_scrubber
from tidestore.streams.scrub_timer import ScrubTimer
from tidestore.streams.settings import WorkerSettings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SCRUB_TOML = '[scrub]\nsigning_key = "plain:sign"'


@pytest.fixture(scope="module")
def world(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A store that all tests here share; each leaves every replica whole."""
    folder = tmp_path_factory.mktemp("scrub-world")
    found = World(folder, kafka, _replicas(servers, folder), "aws", extra_toml=SCRUB_TOML)
    found.start(feeds=0)
    yield found
    found.stop()
    sys.stdout.write(found.last_words())
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def vandal(world: World) -> Vandal:
    return Vandal(world)


@pytest.fixture
def person(world: World, tmp_path: Path) -> Person:
    return Person(world, tmp_path)


async def fill(world: World, client: Client, count: int) -> dict[str, bytes]:
    """Blobs on every replica: small, inline and not."""
    bodies = [random_body(200 if number % 2 else 50_000) for number in range(count)]
    keys = await asyncio.gather(*(world.put_blob(client, body) for body in bodies))
    await world.until_everywhere(client, list(keys))
    return dict(zip(keys, bodies, strict=True))


def kinds_of(report: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["kind"] for item in report["findings"]}


@contextlib.asynccontextmanager
async def opened(
    world: World, replica: str, **chosen: Any
) -> AsyncIterator[tuple[WorkerSettings, ObjectStore, LogWriter]]:
    """What a worker of the replica has at hand, with other settings of its scrub."""
    settings = world.config().worker(replica, "test")
    settings = replace(settings, scrub=replace(settings.scrub, **chosen))
    async with contextlib.AsyncExitStack() as stack:
        store = make_store(settings.replica.name, settings.replica.address)
        stack.push_async_callback(store.close)
        await store.open()
        writer = LogWriter(settings.kafka)
        await writer.start()
        stack.push_async_callback(writer.stop)
        yield settings, store, writer


async def scrub(world: World, replica: str, **chosen: Any) -> Outcome:
    """A comparison without a command: the same parts, in this process."""
    async with (
        opened(world, replica, **chosen) as (settings, store, writer),
        contextlib.AsyncExitStack() as stack,
    ):
        scrubber = await open_scrubber(
            settings, store, writer, settings.data_folder, stack, keys_per_second_max=0
        )
        return await scrubber.run()


def digests(bodies: dict[str, bytes]) -> dict[str, str]:
    return {key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}


async def until_whole(world: World, replica: str, bodies: dict[str, bytes]) -> None:
    """Wait until the replica holds all bytes, read with the cloud's own client."""
    wanted = digests(bodies)

    async def check() -> bool:
        found = await asyncio.to_thread(world.contents, replica)
        return {key: found[key][1] for key in wanted if key in found} == wanted

    await world.until(check, seconds=60)


async def test_what_was_lost_or_altered_behind_our_back_heals_by_itself(
    world: World, person: Person, vandal: Vandal
) -> None:
    """Goal: delete and change objects on MinIO (the origin), fake GCS and the folder; all heal.

    Method: the clouds' own clients do the damage; the command tells exactly what was done and the
    workers mend it; a dry run before changes nothing; one after it signs that all is equal. One
    object is damaged on two replicas, so that its first source is a bad one: MinIO's worker hears
    that its bytes were wrong while the folder's were right, and mends before anybody compares.
    """
    async with world.client() as client:
        bodies = await fill(world, client, 24)
        lost, size, same_size, twice, *_ = sorted(bodies)
        vandal.delete("gcp", lost)
        vandal.put("gcp", size, b"short")
        vandal.put("gcp", twice, b"bad here, too")
        vandal.delete("aws", lost)
        vandal.put("aws", same_size, bytes(len(bodies[same_size])))
        vandal.put("aws", twice, b"bad at the origin")
        vandal.delete("onprem", same_size)
        dry = await person.scrub("gcp", "--dry-run", code=1)
        wrong = {lost: "lost", size: "altered", twice: "altered"}
        assert kinds_of(dry) == wrong
        assert (await world.copies(client, lost))["gcp"]["state"] == "present"
        assert kinds_of(await person.scrub("gcp", code=1)) == wrong
        await until_whole(world, "gcp", bodies)
        await until_whole(world, "aws", {twice: bodies[twice]})
        assert suspected(world) == {("aws", twice)}
        await world.until_present(client, [twice], "aws")
        found = await scrub(world, "aws")
        assert {item.key: item.kind for item in found.findings} == {
            lost: "lost", same_size: "altered"
        }  # fmt: skip
        await until_whole(world, "aws", bodies)
        assert [item.key for item in (await scrub(world, "onprem")).findings] == [same_size]
        await until_whole(world, "onprem", bodies)
        await world.until_everywhere(client, list(bodies))
        await check_equal(world, client)
    damaged = [key for key in vandal.keys("aws") if key.startswith(".tidestore/damaged/")]
    assert len(damaged) == 2, "the bad bytes are kept aside"


def suspected(world: World) -> set[tuple[str, str]]:
    """Whose copies of what gave wrong bytes."""
    found = [item.event for item in world.records("findings")]
    told = [item for item in found if isinstance(item, FindingReported)]
    return {(item.replica, item.key) for item in told if item.kind == "suspected"}


async def check_equal(world: World, client: Client) -> None:
    """Every replica is vouched for, in the API too, and the signature holds for these words."""
    reports = {name: (await scrub(world, name)).report for name in world.replicas}
    assert {report.verdict for report in reports.values()} == {"equal"}

    async def is_said() -> bool:
        items = (await client.get("/v1/statements"))["items"]
        return {item["replica"]: item["statement"] for item in items} == {
            name: report.statement for name, report in reports.items()
        }

    await world.until(is_said)
    total = (await client.get("/v1/replicas"))["objects"]
    for item in (await client.get("/v1/statements"))["items"]:
        text, key = item["statement"], item["public_key"]
        assert json.loads(text)["objects"] == total
        assert f"all {total} objects up to cut " in json.loads(text)["said"]
        assert is_signed(text, item["signature"], key)
        assert not is_signed(text.replace("all", "ALL"), item["signature"], key)
    for replica in (await client.get("/v1/replicas"))["replicas"]:
        assert replica["present"] == total, "a mended object at the origin counts once"
        assert (replica["scrub"]["verdict"], replica["scrub"]["equal"]) == ("equal", total)


async def test_too_much_stops_before_anything_is_changed(
    world: World, person: Person, vandal: Vandal
) -> None:
    """Goal: a wrong mount is no work list. Method: much of the folder gone; a person's word.

    Nothing is handed over and no copy changes until somebody raises the bound.
    """
    async with world.client() as client:
        bodies = await fill(world, client, 12)
        known = len(await asyncio.to_thread(world.contents, "onprem"))
        gone = sorted(bodies)[: max(5, known // 5)]
        for key in gone:
            vandal.delete("onprem", key)
        before = len(list(world.records("findings")))
        stopped = await person.scrub("onprem", code=1)
        assert stopped["verdict"] == "stopped"
        assert "more than 10 %" in stopped["reason"]
        assert len(list(world.records("findings"))) == before
        assert (await world.copies(client, gone[0]))["onprem"]["state"] == "present"
        await person.scrub("onprem", "--stop-percent", "100", code=1)
        await until_whole(world, "onprem", bodies)


async def test_what_the_log_does_not_know_is_finished_at_the_origin_and_moved_aside_elsewhere(
    world: World, vandal: Vandal
) -> None:
    """Goal: dark objects. Method: right content at the origin, the same elsewhere, and strangers.

    The origin's gets its event and comes to all replicas. Elsewhere it is told, and moved aside
    once it is old (at once, here). Keys that no object has are left alone.
    """
    body, other = random_body(300), random_body(300)
    key, stray = (f"public/blobs/{hashlib.sha256(each).hexdigest()}" for each in (body, other))
    vandal.put("aws", key, body)
    vandal.put("onprem", stray, other)
    vandal.put("onprem", "notes/readme.txt", b"a person's")
    found = await scrub(world, "aws")
    assert [(item.kind, item.key) for item in found.findings] == [("dark", key)]
    told = await scrub(world, "onprem")
    assert [(item.kind, item.key) for item in told.findings] == [("dark", stray)]
    assert told.report.foreign >= 1
    async with world.client() as client:
        await world.until(lambda: is_known(client, key))
        await world.until_everywhere(client, [key])
    aged = await scrub(world, "onprem", quarantine_hours=0.0)
    assert [(item.kind, item.key) for item in aged.findings] == [("quarantine", stray)]
    root = world.folder / "onprem"

    async def is_aside() -> bool:
        return not (root / stray).exists()

    await world.until(is_aside)
    (kept,) = (root / ".tidestore/quarantine" / stray).parent.iterdir()
    assert kept.read_bytes() == other
    assert (root / "notes/readme.txt").read_bytes() == b"a person's"


async def is_known(client: Client, key: str) -> bool:
    try:
        await client.get(f"/v1/blobs/{key.rsplit('/', 1)[-1]}/copies")
    except ClientError:
        return False
    return True


async def test_bit_rot_that_no_listing_shows_is_found_by_reading_back(
    world: World, person: Person
) -> None:
    """Goal: one flipped bit, same size, no checksum of the store's. Method: the folder replica."""
    async with world.client() as client:
        bodies = await fill(world, client, 4)
    key = min(bodies)
    path = world.folder / "onprem" / key
    path.chmod(0o644)
    path.write_bytes(bytes([bodies[key][0] ^ 1]) + bodies[key][1:])
    assert (await scrub(world, "onprem")).findings == []
    report = await person.scrub("onprem", "--read-back", "1", code=1)
    assert kinds_of(report) == {key: "rotten"}
    assert report["read_back"]["bytes"] >= sum(map(len, bodies.values()))
    await until_whole(world, "onprem", bodies)


async def test_it_happens_by_itself_where_the_first_partition_is_held(world: World) -> None:
    """Goal: the timer. Method: a worker's own, in short turns; without the partition, with it.

    Comparison and reading back are published; what is not due yet is not done again.
    """
    turns: list[bool] = []
    is_ours = False

    def holds() -> bool:
        turns.append(is_ours)
        return is_ours

    async def has_had_turns() -> bool:
        return len(turns) > 3

    async def is_said_anew() -> bool:
        return await said_of(client, "gcp") != before

    async def is_read() -> bool:
        replicas = (await client.get("/v1/replicas"))["replicas"]
        found = next(item for item in replicas if item["name"] == "gcp")
        return found["read_back"] is not None and found["read_back"]["round"] > 1

    async with world.client() as client:
        await fill(world, client, 2)
        before = newest_statement(world, "gcp")
        chosen = {"every_hours": 1e-9, "readback_gb_per_day": 1_000.0}
        async with opened(world, "gcp", **chosen) as (settings, store, writer):
            timer = ScrubTimer(settings, store, writer, holds, first_seconds=0.0, turn_seconds=0.1)
            async with gathering(timer.run()):
                await world.until(has_had_turns)
                assert newest_statement(world, "gcp") == before, "somebody else's turn"
                is_ours = True
                await world.until(is_said_anew)
                await world.until(is_read)
        # What that timer said last may be on its way here still; ours is behind it.
        last = (await scrub(world, "gcp")).report
        turns.clear()
        async with opened(world, "gcp", every_hours=1.0) as (settings, store, writer):
            timer = ScrubTimer(settings, store, writer, holds, first_seconds=0.0, turn_seconds=0.1)
            async with gathering(timer.run()):
                await world.until(has_had_turns)
        assert newest_statement(world, "gcp") == last.statement, "an hour has not passed"


async def test_an_abandoned_upload_is_told_by_the_command_and_aborted_by_the_timer(
    world: World, person: Person
) -> None:
    """Goal: nobody pays for parts for ever. Method: leave one on MinIO; a clock eight days ahead.

    While it is young the command sees it and leaves it.
    """
    async with opened(world, "aws", every_hours=1e-9) as (settings, store, writer):
        made = S3Store("aws", settings.replica.address)
        key = key_of(77)
        place: Any = {"Bucket": made.bucket, "Key": made.full_key(key)}
        token = made.client.create_multipart_upload(**place)["UploadId"]
        report = await person.scrub("aws")
        assert report["uploads"] == {"seen": 1, "abandoned": 0, "aborted": 0, "failed": 0}

        async def is_gone() -> bool:
            return not [upload async for upload in store.open_uploads()]

        assert [(item.key, item.token) async for item in store.open_uploads()] == [(key, token)]
        timer = ScrubTimer(
            settings, store, writer, lambda: True, first_seconds=0.0, turn_seconds=0.1,
            clock=lambda: time.time() + 8 * 86_400,
        )  # fmt: skip
        async with gathering(timer.run()):
            await world.until(is_gone)
        await made.close()


async def said_of(client: Client, replica: str) -> str | None:
    """The statement about a replica, as the API has it."""
    items = (await client.get("/v1/statements"))["items"]
    return next((item["statement"] for item in items if item["replica"] == replica), None)


def newest_statement(world: World, replica: str) -> str | None:
    """The statement about a replica, as the topic has it."""
    found = [item.event for item in world.records("scrubs") if item.key == f"{replica}.1"]
    last = found[-1] if found else None
    return last.statement if isinstance(last, ScrubReported) else None


async def test_a_frozen_owner_neither_stops_the_repair_nor_spoils_it(
    world: World, vandal: Vandal
) -> None:
    """Goal: claims and stamps hold for repairs. Method: SIGSTOP the owner, hand over, wake it.

    The other worker mends; what the frozen one does when it wakes changes nothing.
    """
    world.add_worker("onprem", "1")
    async with world.client() as client:
        await world.until(lambda: has_two_owners(world), seconds=60)
        bodies = await fill(world, client, 5)
        frozen = world.processes["worker-onprem-0"]
        frozen.freeze()
        # One stays: a listing with nothing of ours is no finding, whichever test came first.
        for key in sorted(bodies)[1:]:
            vandal.delete("onprem", key)
        assert len((await scrub(world, "onprem", stop_percent=100)).findings) == 4
        await until_whole(world, "onprem", bodies)
        frozen.thaw()
        async with gathering(world.supervise()):
            await world.until(lambda: has_two_owners(world), seconds=60)
            await world.until_everywhere(client, list(bodies))
            assert (await scrub(world, "onprem")).report.verdict == "equal"
    world.processes["worker-onprem-1"].end()


async def has_two_owners(world: World) -> bool:
    """Whether the newest claims on the folder's copies are of two workers."""
    newest: dict[int, str] = {}
    for record in await asyncio.to_thread(lambda: list(world.records("copies.onprem.1"))):
        if isinstance(record.event, PartitionClaimed):
            newest[record.partition] = record.event.worker.split("/")[0]
    return len(set(newest.values())) == 2
