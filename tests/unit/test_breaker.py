"""The circuit breaker: when it opens, how it probes, what follows when it closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tidestore.connectors.breaker import (
    EDGE_FAILURES_TO_OPEN,
    PROBE_SECONDS_FIRST,
    PROBE_SECONDS_MAX,
    Breaker,
    BreakingStore,
)
from tidestore.connectors.errors import (
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreFaultError,
    StoreUnreachableError,
)
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.objects import ObjectKey

DOWN = StoreUnreachableError("put", "aws", "key")


class Bench:
    """A breaker whose probe answers what a list says, and whose time passes at once."""

    def __init__(self, *answers: StoreError | None) -> None:
        self.answers = list(answers)
        self.pauses: list[float] = []
        self.closed = 0
        self.breaker = Breaker(self._probe, self._closed, sleep=self._sleep)

    async def _probe(self) -> None:
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def _closed(self) -> None:
        self.closed += 1

    async def run_until_closed(self) -> None:
        task = asyncio.create_task(self.breaker.run())
        while self.breaker.why_open is not None:
            await asyncio.sleep(0)
        task.cancel()


def fail(breaker: Breaker, times: int, error: StoreError = DOWN) -> None:
    for _ in range(times):
        breaker.failed(error)


async def test_it_opens_after_that_many_edge_failures_in_a_row() -> None:
    breaker = Bench().breaker
    fail(breaker, EDGE_FAILURES_TO_OPEN - 1)
    assert breaker.why_open is None
    breaker.succeeded()
    fail(breaker, EDGE_FAILURES_TO_OPEN - 1)
    assert breaker.why_open is None
    fail(breaker, 1)
    assert breaker.why_open is DOWN


async def test_what_is_wrong_with_an_object_never_opens_it() -> None:
    breaker = Bench().breaker
    fail(breaker, 3 * EDGE_FAILURES_TO_OPEN, StoreFaultError("put", "aws", "key"))
    assert breaker.why_open is None


async def test_an_answer_of_any_kind_interrupts_the_row() -> None:
    breaker = Bench().breaker
    fail(breaker, EDGE_FAILURES_TO_OPEN - 1)
    fail(breaker, 1, StoreFaultError("put", "aws", "key"))
    fail(breaker, 1)
    assert breaker.why_open is None


@pytest.mark.parametrize("answer", [None, ObjectMissingError("head", "aws", "probe")])
async def test_it_closes_once_when_the_probe_is_answered(answer: StoreError | None) -> None:
    bench = Bench(DOWN, StoreDeniedError("head", "aws", "probe"), answer)
    fail(bench.breaker, EDGE_FAILURES_TO_OPEN)
    await bench.run_until_closed()
    assert bench.closed == 1
    assert bench.answers == []
    fail(bench.breaker, EDGE_FAILURES_TO_OPEN - 1)
    assert bench.breaker.why_open is None, "the row must begin anew"


async def test_probes_come_quickly_at_first_and_never_rarely() -> None:
    bench = Bench(*[DOWN] * 6, None)
    fail(bench.breaker, EDGE_FAILURES_TO_OPEN)
    await bench.run_until_closed()
    assert bench.pauses[0] == PROBE_SECONDS_FIRST
    assert bench.pauses == sorted(bench.pauses)
    assert max(bench.pauses) == PROBE_SECONDS_MAX


class DownStore(MemoryStore):
    """Cannot be reached while `is_down`; counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__("aws")
        self.is_down = True
        self.asked = 0

    async def head(self, key: ObjectKey) -> ObjectInfo:
        self.asked += 1
        if self.is_down:
            raise DOWN
        return await super().head(key)


async def test_an_open_store_fails_at_once_with_what_opened_it_and_is_not_asked() -> None:
    inner, closed = DownStore(), asyncio.Event()
    store = BreakingStore(inner, closed.set)
    key = ObjectKey("public/blobs/x")
    for _ in range(EDGE_FAILURES_TO_OPEN):
        with pytest.raises(StoreUnreachableError):
            await store.head(key)
    asked = inner.asked
    with pytest.raises(StoreUnreachableError, match="not asked"):
        await store.head(key)
    assert inner.asked == asked
    inner.is_down = False
    probing = asyncio.create_task(store.breaker.run())
    await asyncio.wait_for(closed.wait(), 5)
    with pytest.raises(ObjectMissingError):
        await store.head(key)
    probing.cancel()


async def test_the_failure_of_an_uploads_source_is_not_the_stores() -> None:
    store = BreakingStore(MemoryStore("aws"), lambda: None)
    failure = StoreUnreachableError("get", "origin", "key")

    async def broken() -> AsyncIterator[bytes]:
        yield b"begun"
        raise failure

    for number in range(2 * EDGE_FAILURES_TO_OPEN):
        with pytest.raises(StoreUnreachableError):
            await store.upload_if_absent(
                ObjectKey(f"public/blobs/{number}"), broken(), size=None, content_type="a/b"
            )
    assert store.breaker.why_open is None
