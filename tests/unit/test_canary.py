"""What a canary does to a replica's store and what is told of it; when one is sent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from tests.property.stage import MemoryLog, MemoryWriter
from tests.unit.test_ticks import Stamps, _seek

from tidestore.api.canary import pause_until_next
from tidestore.connectors.errors import StoreDeniedError
from tidestore.connectors.memory import MemoryStore
from tidestore.schemas.canaries import CanaryProved, CanarySent
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import CANARY_PREFIX
from tidestore.schemas.topics import canary_key
from tidestore.streams.canary import STALE_MS, Canaries
from tidestore.streams.intake import Intake
from tidestore.streams.records import Identity

KEY = ObjectKey(f"{CANARY_PREFIX}2")


class Denying(MemoryStore):
    """Lets nothing be removed; or nothing be read."""

    refuses = "erase"

    async def erase(self, key: ObjectKey) -> int:
        if self.refuses == "erase":
            raise StoreDeniedError("erase", self.name, key)
        return await super().erase(key)

    async def get(self, key: ObjectKey, **more: Any) -> Any:
        if self.refuses == "get":
            raise StoreDeniedError("get", self.name, key)
        return await super().get(key, **more)


class Bench:
    """A worker's canaries on a store in memory."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.log = store, MemoryLog(4)
        held: Any = Stamps()
        identity = Identity("onprem", 3, "copies", 4)
        self.canaries = Canaries(identity, store, MemoryWriter(self.log), held)

    async def take(self, event: CanarySent) -> None:
        """Take one and wait until it is over."""
        self.canaries.take(event)
        await asyncio.gather(*self.canaries._tasks.values())

    def proved(self) -> list[CanaryProved]:
        found = [decode(record.value) for _, record in self.log.read("copies", 2, 0)]
        return [event for event in found if isinstance(event, CanaryProved)]

    async def kept(self) -> list[str]:
        return [info.key async for info in self.store.list()]


def sent(age_ms: int = 0) -> CanarySent:
    return CanarySent(2, int(time.time() * 1000) - age_ms, "gateway-0")


async def test_a_canary_is_proved_and_leaves_nothing() -> None:
    """Goal: the whole way, and no growth. Method: one on an empty store, one on a leftover."""
    bench = Bench(MemoryStore("onprem"))
    first = sent()
    await bench.take(first)
    (told,) = bench.proved()
    assert replace(told, proved_at_ms=0) == CanaryProved(2, "onprem", 3, 2, first.sent_at_ms, 0)
    assert told.proved_at_ms >= first.sent_at_ms
    assert await bench.kept() == []
    left = b"of a worker that was killed"
    await bench.store.put_if_absent(KEY, left, checksums_of(left), content_type="x")
    await bench.take(sent())
    assert len(bench.proved()) == 2
    assert await bench.kept() == []


async def test_a_store_that_lets_nothing_be_removed_keeps_one() -> None:
    """Goal: bounded without the right to remove. Method: erase is refused, five canaries."""
    bench = Bench(Denying("onprem"))
    for _ in range(5):
        await bench.take(sent())
    assert len(bench.proved()) == 5
    assert await bench.kept() == [KEY]


async def test_what_cannot_be_read_back_is_not_proved() -> None:
    """Goal: no proof without the bytes. Method: a store that takes them and gives none."""
    store = Denying("onprem")
    store.refuses = "get"
    bench = Bench(store)
    await bench.take(sent())
    assert bench.proved() == []
    assert await bench.kept() == []


async def test_an_old_canary_is_passed_over() -> None:
    """Goal: a new worker does not prove a week of them. Method: one that is too old."""
    bench = Bench(MemoryStore("onprem"))
    await bench.take(sent(STALE_MS + 1_000))
    assert bench.proved() == []


async def test_a_canary_holds_no_offset_up_and_feeds_pass_over_it() -> None:
    """Goal: a store that is away stops nothing. Method: hand one to an intake of each kind."""
    for wants in (True, False):
        taken: list[CanarySent] = []
        desk: Any = None
        intake = Intake(
            desk, Stamps(), desk, poison_topic=None, name="t", seek=_seek,
            on_canary=taken.append if wants else None,
        )  # fmt: skip
        event = sent()
        await intake.take("log", 2, 41, canary_key(2).encode(), encode(event))
        assert intake.committable() == {2: 42}
        assert taken == ([event] if wants else [])


@pytest.mark.parametrize("now", [0.0, 59.0, 60.0, 119.99, 1_795_500_179.5])
def test_canaries_are_sent_at_multiples_whoever_sends(now: float) -> None:
    """Goal: a hand-over neither doubles nor drops one. Method: the next moment from any other."""
    then = now + pause_until_next(now, 60.0)
    assert then % 60 == pytest.approx(0, abs=1e-3)
    assert 0.6 < then - now <= 120
