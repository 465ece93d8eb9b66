"""How fast a store is asked: halved when it complains, regained by answers, paused as it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from prometheus_client import CollectorRegistry

from tidestore.connectors.edges import Edge, EdgeMetrics
from tidestore.connectors.errors import (
    KeyBusyError,
    ObjectMissingError,
    StoreError,
    StoreThrottledError,
)
from tidestore.connectors.layers import RetryingStore
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.store import ObjectInfo
from tidestore.connectors.throttle import (
    PAUSE_SECONDS_MAX,
    PAUSE_SECONDS_WAITED,
    PausedError,
    Throttle,
    ThrottledStore,
)
from tidestore.connectors.waits import WAIT_SECONDS_MAX, wait_of
from tidestore.schemas.objects import ObjectKey

KEY = ObjectKey("public/blobs/x")
CALLS = 16


class Bench:
    """A throttle whose time passes when it sleeps."""

    def __init__(self) -> None:
        self.now, self.recovered = 1_000.0, 0
        self.throttle = Throttle(
            CALLS, Edge("aws", None, self._recovered),
            clock=lambda: self.now, sleep=self._sleep, dice=lambda: 1.0,
        )  # fmt: skip

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _recovered(self) -> None:
        self.recovered += 1

    async def call(self, *, is_refused: bool = False, wait: float | None = None) -> None:
        """One call, from its turn to its end."""
        begun = await self.throttle.enter()
        if is_refused:
            self.throttle.refused(begun, wait)
        else:
            self.throttle.answered()
        self.throttle.leave()


async def test_a_refusal_halves_the_pace_once_per_round_and_never_stops_it() -> None:
    """Goal: AIMD's second half. Method: refuse all of a round, then many rounds."""
    bench = Bench()
    rounds = [await bench.throttle.enter() for _ in range(8)]
    for begun in rounds:
        bench.throttle.refused(begun, None)
        bench.throttle.leave()
    assert bench.throttle.limit == CALLS / 2, "one round, one halving"
    for _ in range(10):
        bench.now += PAUSE_SECONDS_MAX
        await bench.call(is_refused=True)
    assert bench.throttle.limit == 1.0


async def test_answers_win_the_pace_back_and_what_waited_is_told_once() -> None:
    """Goal: it recovers by itself. Method: answers only, after three refused rounds."""
    bench = Bench()
    for _ in range(3):
        bench.now += PAUSE_SECONDS_MAX
        await bench.call(is_refused=True)
    assert bench.throttle.limit == CALLS / 8
    bench.now += PAUSE_SECONDS_MAX
    calls = 0
    while bench.throttle.limit < CALLS:
        await bench.call()
        calls += 1
        assert calls < CALLS**2, "additive increase has an end"
    assert bench.recovered == 1


async def test_the_stores_own_wait_is_kept_and_nobody_asks_meanwhile() -> None:
    """Goal: Retry-After is honoured. Method: named waits, long and short; later ones count too."""
    bench = Bench()
    await bench.call(is_refused=True, wait=20.0)
    with pytest.raises(PausedError) as caught:
        await bench.throttle.enter()
    assert caught.value.seconds == 20.0
    bench.now += 20.0 - PAUSE_SECONDS_WAITED
    before = bench.now
    await bench.call()
    assert bench.now - before == pytest.approx(PAUSE_SECONDS_WAITED), "a short rest is waited out"


async def test_a_late_refusal_of_the_same_round_still_prolongs_the_pause() -> None:
    bench = Bench()
    first, second = await bench.throttle.enter(), await bench.throttle.enter()
    bench.throttle.refused(first, 2.0)
    bench.throttle.refused(second, 9.0)
    assert bench.throttle.seconds_paused == 9.0
    assert bench.throttle.limit == CALLS / 2


async def test_without_a_named_wait_the_pauses_double_up_to_their_bound() -> None:
    bench, pauses = Bench(), []
    for _ in range(9):
        bench.now += PAUSE_SECONDS_MAX
        await bench.call(is_refused=True)
        pauses.append(bench.throttle.seconds_paused)
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


async def test_no_more_calls_are_under_way_than_the_pace_allows() -> None:
    """Goal: the limit limits. Method: thirty callers at a pace of two; all come through."""
    bench, under_way, most, done = Bench(), 0, 0, 0
    bench.throttle.limit = 2.0

    async def one() -> None:
        nonlocal under_way, most, done
        await bench.throttle.enter()
        under_way += 1
        most = max(most, under_way)
        for _ in range(3):
            await asyncio.sleep(0)
        under_way -= 1
        done += 1
        bench.throttle.leave()

    await asyncio.gather(*(one() for _ in range(30)))
    assert (most, done) == (2, 30)
    assert bench.throttle.in_flight == 0


async def test_a_caller_who_gives_up_passes_its_turn_on() -> None:
    """Goal: no turn is lost. Method: cancel the first of two who wait, as it gets its turn."""
    bench = Bench()
    bench.throttle.limit = 1.0
    await bench.throttle.enter()
    first, second = (asyncio.create_task(bench.throttle.enter()) for _ in range(2))
    await asyncio.sleep(0)
    bench.throttle.leave()
    first.cancel()
    await asyncio.wait_for(second, 5)
    assert first.cancelled()
    assert bench.throttle.in_flight == 1


class Grumpy(MemoryStore):
    """Refuses every call with what it is told to."""

    def __init__(self, refusal: StoreError) -> None:
        super().__init__("aws")
        self.refusal, self.asked = refusal, 0

    async def head(self, key: ObjectKey) -> ObjectInfo:
        del key
        self.asked += 1
        raise self.refusal


async def test_a_refused_store_is_not_asked_again_and_says_when_it_will_be() -> None:
    """Goal: one edge pauses, others do not (R8). Method: quick tries around two stores."""
    registry = CollectorRegistry()
    inner = Grumpy(StoreThrottledError("head", "aws", retry_after_seconds=30.0))
    edge = Edge("aws", EdgeMetrics(registry))
    store = RetryingStore(ThrottledStore(inner, edge, calls_max=CALLS))
    other = RetryingStore(ThrottledStore(MemoryStore("gcp"), Edge("gcp"), calls_max=CALLS))
    for _ in range(5):
        with pytest.raises(StoreThrottledError) as caught:
            await store.head(KEY)
        assert 25 < (caught.value.retry_after_seconds or 0) <= 30
    assert inner.asked == 1
    with pytest.raises(ObjectMissingError):
        await other.head(KEY)
    value = registry.get_sample_value
    assert value("tidestore_edge_throttled_total", {"replica": "aws"}) == 1
    assert value("tidestore_edge_calls_max", {"replica": "aws"}) == CALLS / 2


@pytest.mark.parametrize(
    "refusal",
    [
        KeyBusyError("head", "aws"),
        StoreThrottledError("get", "another"),
        ObjectMissingError("head", "aws"),
    ],
)
async def test_what_is_not_the_stores_complaint_slows_nothing_down(refusal: StoreError) -> None:
    """Goal: only the edge that complains is slowed. Method: a busy key, a source, an answer."""
    inner = Grumpy(refusal)
    store = ThrottledStore(inner, Edge("aws"), calls_max=CALLS)
    for _ in range(3):
        with pytest.raises(type(refusal)):
            await store.head(KEY)
    assert inner.asked == 3
    assert store.throttle.limit == CALLS


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": " 120 "}, 120.0),
        ({"Retry-After": "999999999"}, WAIT_SECONDS_MAX),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:10 GMT"}, 10.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "٣"}, None),
        ({"Other": "7"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    headers: Mapping[str, str] | None, seconds: float | None
) -> None:
    assert wait_of(headers, now=60.0) == seconds
