"""The lanes of due copies: however many large ones are due, a small one finds its task (R8)."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.made import copy
from tests.unit.test_retries import Bench, Calls, lanes_of

from tidestore.schemas.events import CopyState
from tidestore.streams.copies import FoldNotes
from tidestore.streams.lanes import LARGE_TASKS_MAX
from tidestore.streams.plan import SMALL_BYTES_MAX
from tidestore.streams.states import KnownStates

_COPIES = "copies"


class _Slow(Calls):
    """Holds every copy until it is let go, the large ones apart."""

    def __init__(self) -> None:
        super().__init__()
        self.large = asyncio.Event()

    async def again(self, key: str) -> None:
        if key.startswith("large"):
            await self.large.wait()
        self.done.append(("again", key))

    async def retry(self, key: str, changed_at_ms: int) -> None:
        if key.startswith("large"):
            await self.large.wait()
        self.done.append(("retry", key, changed_at_ms))


def _pending(key: str, size: int, next_try_at_ms: int) -> Any:
    return copy(key, CopyState.PENDING, size=size, next_try_at_ms=next_try_at_ms)


async def test_a_thousand_large_copies_do_not_delay_a_small_one() -> None:
    """Goal: two lanes. Method: let large ones that do not end take all they get; a small one."""
    bench, calls = Bench(), _Slow()
    count = 1_000
    for number in range(count):
        bench.log.append(_COPIES, 1, key := f"large{number}", _pending(key, SMALL_BYTES_MAX + 1, 1))
    bench.copies(_pending("large, the last", SMALL_BYTES_MAX + 1, 1))
    lanes = lanes_of(bench, calls, KnownStates(bench.view, _COPIES))
    try:
        for _ in range(4):  # more rounds than it takes to fill all tasks
            lanes._start_due()
        assert len(lanes._tasks) == LARGE_TASKS_MAX
        bench.copies(_pending("small", SMALL_BYTES_MAX, 50))
        lanes._start_due()
        await lanes._tasks["small"]
        assert calls.done == [("again", "small")]
        calls.large.set()
        await asyncio.gather(*lanes._tasks.values())
        assert len(calls.done) == 1 + LARGE_TASKS_MAX
        await asyncio.sleep(0)  # the last ones' ends are told
        lanes._start_due()
        assert len(lanes._large) == LARGE_TASKS_MAX, "the next ones follow"
    finally:
        for task in lanes._tasks.values():
            task.cancel()
        await asyncio.gather(*lanes._tasks.values(), return_exceptions=True)
        bench.view.tables.close()


async def test_large_copies_that_are_woken_or_asked_for_have_a_bound_too() -> None:
    """Goal: `retry --all` of large copies delays no small one. Method: many of each, none ends.

    The others are tried when the first ones have ended, and each once.
    """
    bench, calls = Bench(), _Slow()
    records = [
        copy(f"large{number}", CopyState.PARKED, size=SMALL_BYTES_MAX + 1, changed_at_ms=70)
        for number in range(3 * LARGE_TASKS_MAX)
    ]
    for record in [*records, copy("small", CopyState.PARKED, size=9, changed_at_ms=70)]:
        bench.copies(record)
    lanes = lanes_of(bench, calls, KnownStates(bench.view, _COPIES))
    running = asyncio.create_task(lanes.run())
    try:
        woken, asked = records[:LARGE_TASKS_MAX], records[LARGE_TASKS_MAX:]
        for record in woken:
            lanes.wake(1, record.key)
        named = [(1, record.key, record.changed_at_ms) for record in asked]
        lanes.notice(FoldNotes(retries=(*named, (1, "small", 70))))
        async with asyncio.timeout(10):
            while not calls.done:
                await asyncio.sleep(0)
        assert calls.done == [("retry", "small", 70)]
        assert len(lanes._large) == LARGE_TASKS_MAX
        calls.large.set()
        async with asyncio.timeout(10):
            while len(calls.done) < 1 + len(records):
                await asyncio.sleep(0)
        expected = [("again", record.key) for record in woken]
        expected += [("retry", record.key, 70) for record in asked]  # type: ignore[misc]
        assert sorted(calls.done[1:], key=str) == sorted(expected, key=str)
    finally:
        running.cancel()
        await asyncio.gather(running, *lanes._tasks.values(), return_exceptions=True)
        bench.view.tables.close()
