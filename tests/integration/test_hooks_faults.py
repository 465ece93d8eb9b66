"""Hooks while gateways die, freeze and come back, and while receivers hang: R8 and R9.

No workers are started: each blob is announced twice, as written and as present at its origin.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import Servers
from tests.integration.shares import until_shared
from tests.servers.kafka import TestKafka
from tests.servers.receiver import Heard, Receiver, hang, hook
from tests.world import PARTITIONS, TOKEN, World, random_body, replica_on
from tidestore.client import ClientError
from tidestore.connectors.log import LogWriter
from tidestore.schemas.events import ChangeAnnounced, CursorMoved
from tidestore.schemas.topics import partition_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def shared(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Two gateways and feeds, for all tests of this module."""
    folder = tmp_path_factory.mktemp("hooks")
    replicas = {
        "aws": replica_on(servers.best("minio", "localbucket"), "aws"),
        "onprem": ((folder / "onprem").as_uri(), {}),
    }
    world = World(folder, kafka, replicas, "aws", settings={"hooks_max": 40})
    world.start(gateways=2, workers=0)
    yield world
    world.stop()


@pytest.fixture
async def pair(shared: World) -> AsyncIterator[World]:
    """The shared world, both gateways alive; afterwards without hooks."""
    yield shared
    for name in ("gateway-0", "gateway-1"):
        if shared.processes[name].exit_code() is not None:
            shared.restart(name)
            shared.processes[name].await_ready()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        base = shared.url("0") + "/v1/hooks"
        for made in await (await session.get(base)).json():
            await session.delete(f"{base}/{made['id']}")


async def write(world: World, gateway: str, count: int) -> list[str]:
    async with world.client(gateway) as client:
        return [await world.put_blob(client, random_body(50)) for _ in range(count)]


async def until_heard(world: World, receiver: Receiver, keys: list[str], seconds: float) -> None:
    """Wait until both announcements of every key came."""

    async def all_came() -> bool:
        seen = {(one.key, one.type) for one in receiver.events()}
        return len({pair for pair in seen if pair[0] in keys}) == 2 * len(keys)

    await world.until(all_came, seconds)


def check_order(receiver: Receiver) -> None:
    """In order per key, repeats aside; a repeat has the same id, sequence and bytes."""
    first: dict[str, Heard] = {}
    sequences: dict[str, list[int]] = defaultdict(list)
    for one in receiver.events():
        if one.id in first:
            assert one.body == first[one.id].body
            continue
        first[one.id] = one
        sequences[one.key].append(one.document["data"]["sequence"])
    for key, found in sequences.items():
        assert found == sorted(found), f"{key} was told out of order: {found}"
        assert len(found) == len(set(found)), f"{key}: one sequence, two ids"


async def test_what_is_older_than_the_window_comes_as_a_summary(shared: World) -> None:
    """Goal: R9: a hook further behind than the window gets each key's state, marked.

    Method: the last word of a key said again as if eight days ago, as compaction leaves it, and a
    hook that asked only for what was said before it; the young one is no summary.
    """
    async with Receiver() as receiver, shared.client() as client:
        made = await client.post("/v1/hooks", hook(receiver.url, "object.written"))
        key = await shared.put_blob(client, random_body(10))

        def said() -> list[ChangeAnnounced]:
            events = [r.event for r in shared.records("changes.public") if r.key == key]
            return [event for event in events if isinstance(event, ChangeAnnounced)]

        def heard(*, is_summary: bool) -> list[Heard]:
            found = receiver.events(key)
            return [one for one in found if ("summary" in one.document["data"]) is is_summary]

        async def is_told() -> bool:
            types = {event.type for event in said()}
            return bool(heard(is_summary=False)) and "object.present" in types

        await shared.until(is_told)
        last = said()[-1]
        old = replace(last, announced_at_ms=last.announced_at_ms - 8 * 24 * 3_600_000)
        writer = LogWriter(shared.kafka_settings)
        await writer.start()
        topic = f"{shared.prefix}changes.public"
        await writer.append(topic, partition_of(key, PARTITIONS), key, old)
        await writer.stop()

        async def is_summed_up() -> bool:
            return bool(heard(is_summary=True))

        await shared.until(is_summed_up)
        told = heard(is_summary=True)[0].document
        assert told["type"] == "object.present"
        assert told["data"]["summary"] is True
        assert told["data"]["sequence"] == last.sequence
        await client.delete(f"/v1/hooks/{made['id']}")


async def test_a_killed_gateway_loses_no_event_and_keeps_the_order(pair: World) -> None:
    """Goal: R9 over a SIGKILL in the middle of deliveries.

    Method: two gateways share the partitions; one is killed when a part was heard, the other one
    takes over; later the first comes back and both go on.
    """

    async def slow(heard: Heard) -> web.StreamResponse:
        await asyncio.sleep(0.02)  # so that deliveries are under way when the kill comes
        return web.Response(status=204)

    await until_shared(pair)
    async with Receiver(slow) as receiver:
        async with pair.client("1") as client:
            await client.post("/v1/hooks", hook(receiver.url))
        writing = asyncio.create_task(write(pair, "1", 150))

        async def some() -> bool:
            return len(receiver.events()) >= 60

        await pair.until(some)
        pair.processes["gateway-0"].kill()
        keys = await writing
        await until_heard(pair, receiver, keys, 60)
        pair.restart("gateway-0")
        pair.processes["gateway-0"].await_ready()
        more = await write(pair, "0", 20)
        await until_heard(pair, receiver, more, 60)
        check_order(receiver)
        repeats = len(receiver.events()) - len({one.id for one in receiver.events()})
        # A cursor is at most a second behind: what was sent within it may come once more.
        assert repeats < 150, f"{repeats} deliveries came twice"


async def test_a_frozen_gateway_is_taken_over_and_does_no_harm_when_it_wakes(pair: World) -> None:
    """Goal: a gateway that is frozen past its session loses its partitions, and that is all.

    Method: SIGSTOP, write, everything is heard; SIGCONT, write, everything is heard; no cursor of
    the sleeper moved one back: what was heard before is not told again.
    """
    await until_shared(pair)
    async with Receiver() as receiver:
        async with pair.client("1") as client:
            await client.post("/v1/hooks", hook(receiver.url))
        before = await write(pair, "1", 20)
        await until_heard(pair, receiver, before, 30)
        pair.processes["gateway-0"].freeze()
        asleep = await write(pair, "1", 30)
        await until_heard(pair, receiver, asleep, 60)
        pair.processes["gateway-0"].thaw()
        awake = await write(pair, "1", 30)
        await until_heard(pair, receiver, awake, 60)
        await until_shared(pair)
        last = await write(pair, "0", 10)
        await until_heard(pair, receiver, last, 60)
        check_order(receiver)
        told = [one.key for one in receiver.events() if one.type == "object.written"]
        assert all(told.count(key) <= 3 for key in [*before, *asleep, *awake, *last])


async def test_twenty_receivers_that_hang_delay_nobody(pair: World) -> None:
    """Goal: R8 for hooks, and hooks_max.

    Method: twenty hooks whose receiver never answers, on every partition, more than there are
    places for new ones; one hook that works hears every event within the hanging ones' time limit.
    """
    async with Receiver(hang) as dead, Receiver() as well, pair.client("0") as client:
        await client.post("/v1/hooks", hook(well.url, "object.written"))
        first = await write(pair, "0", 5)

        async def heard(keys: list[str]) -> bool:
            return {one.key for one in well.events()} >= set(keys)

        await pair.until(lambda: heard(first))
        for _ in range(20):
            await client.post("/v1/hooks", hook(dead.url, "object.written"))
        keys = await write(pair, "0", 40)

        async def hang_all() -> bool:
            return len({one.headers["x-github-hook-id"] for one in dead.events()}) == 20

        await pair.until(hang_all)
        keys += await write(pair, "1", 20)
        begun = time.monotonic()
        await pair.until(lambda: heard(keys))
        last = max(one.moment for one in well.events() if one.key in keys)
        assert last - begun < 12, "it waited for a receiver that hangs: these are given 20 s"
        for _ in range(40 - 21):
            await client.post("/v1/hooks", hook(dead.url, "object.written"))
        with pytest.raises(ClientError) as refused:
            await client.post("/v1/hooks", hook(dead.url, "object.written"))
        assert (refused.value.status, refused.value.code) == (429, "too_many_hooks")
        assert refused.value.hint
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
            assert len(await (await session.get(pair.url("1") + "/v1/hooks")).json()) == 40


async def test_start_cut_and_cursor_survive_the_end_of_every_gateway(pair: World) -> None:
    """Goal: a hook that has heard nothing yet still begins where it was made.

    Method: a hook on a receiver that fails; all gateways end while its first event is owed, and
    come back: it gets what was written after it was made, the retry's attempt counted on, and
    nothing of before.
    """
    earlier = await write(pair, "0", 5)
    is_broken = True

    async def moody(heard: Heard) -> web.StreamResponse:
        return web.Response(status=503 if is_broken else 204)

    async with Receiver(moody) as receiver:
        async with pair.client("0") as client:

            async def announced() -> bool:
                return {record.key for record in pair.records("changes.public")} >= set(earlier)

            await pair.until(announced)
            made = await client.post("/v1/hooks", hook(receiver.url, "object.written"))
            keys = [await pair.put_blob(client, random_body(50)) for _ in range(6)]

        async def is_tried_and_remembered() -> bool:
            moved = [record.event for record in pair.records("cursors")]
            ours = [event for event in moved if isinstance(event, CursorMoved)]
            return any(event.attempt and event.hook_id == str(made["id"]) for event in ours)

        await pair.until(is_tried_and_remembered)
        gateways = [pair.processes[name] for name in ("gateway-0", "gateway-1")]
        for gateway in gateways:
            gateway.terminate()
        for gateway in gateways:
            gateway.await_end()
        is_broken, mended = False, time.monotonic()
        for gateway in gateways:
            gateway.start(wait=False)
        for gateway in gateways:
            gateway.await_ready()

        def taken() -> list[Heard]:
            return [one for one in receiver.events() if one.moment > mended]

        async def came() -> bool:
            return {one.key for one in taken()} >= set(keys)

        await pair.until(came, 60)
        assert not {one.key for one in receiver.events()} & set(earlier)
        again = [one for one in taken() if one.attempt >= 2]
        assert again, "a persisted attempt is counted on after a restart"
