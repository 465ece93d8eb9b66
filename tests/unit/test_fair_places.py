"""Live copies and backlog share the places of a worker as docs/operations.md says."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from tidestore.streams.fair_places import BACKLOG_EVERY, FairPlaces, as_backlog


class Bench:
    """Copies that hold their place until they are let go, in the order in which they got one."""

    def __init__(self, count: int) -> None:
        self.places = FairPlaces(count)
        self.got: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str) -> None:
        """Begin one; those whose name begins with `old` are backlog."""
        self.ends[name] = asyncio.Event()
        with as_backlog() if name.startswith("old") else contextlib.nullcontext():
            self.tasks[name] = asyncio.create_task(self._copy(name))
        await asyncio.sleep(0)

    async def _copy(self, name: str) -> None:
        async with self.places.hold():
            self.got.append(name)
            await self.ends[name].wait()

    async def end(self, name: str) -> None:
        """Let one go; whoever is next has its place then."""
        self.ends[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)


async def test_of_four_places_three_go_to_live_copies_while_they_wait() -> None:
    """Goal: the stated share. Method: a thousand old ones before twelve live ones, one place."""
    bench = Bench(1)
    for number in range(1_000):
        await bench.start(f"old{number}")
    for number in range(12):
        await bench.start(f"live{number}")
    for _ in range(17):
        await bench.end(bench.got[-1])
    after = bench.got[1:]
    live = [name for name in after if name.startswith("live")]
    assert live == [f"live{number}" for number in range(12)], "each in its turn"
    last = after.index("live11") + 1
    assert last <= 12 * BACKLOG_EVERY / (BACKLOG_EVERY - 1), after
    assert after[0] == "live0", "not behind a thousand"
    assert any(name.startswith("old") for name in after[:last]), "the backlog goes on, too"
    for task in bench.tasks.values():
        task.cancel()
    await asyncio.gather(*bench.tasks.values(), return_exceptions=True)


async def test_the_backlog_has_all_places_while_nobody_else_wants_one() -> None:
    """Goal: catching up is not slowed down for nothing. Method: old ones alone, eight places."""
    bench = Bench(8)
    for number in range(20):
        await bench.start(f"old{number}")
    assert len(bench.got) == 8
    for number in range(20):
        await bench.end(f"old{number}")
    assert bench.got == [f"old{number}" for number in range(20)]


@pytest.mark.parametrize("seed", range(20))
async def test_no_place_is_lost_or_doubled_whoever_gives_up(seed: int) -> None:
    """Goal: the bound holds for ever. Method: random copies that come, end and are cancelled."""
    dice, count = random.Random(seed), 3
    places, running, most = FairPlaces(count), 0, 0

    async def copy() -> None:
        nonlocal running, most
        async with places.hold():
            running += 1
            most = max(most, running)
            try:
                for _ in range(dice.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                running -= 1

    tasks = []
    for _ in range(60):
        with as_backlog() if dice.random() < 0.5 else contextlib.nullcontext():
            tasks.append(asyncio.create_task(copy()))
        if dice.random() < 0.5:
            await asyncio.sleep(0)
        if dice.random() < 0.4:
            dice.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == count
    assert running == 0
    async with asyncio.timeout(5), contextlib.AsyncExitStack() as stack:
        for _ in range(count):  # all of them are free again
            await stack.enter_async_context(places.hold())
