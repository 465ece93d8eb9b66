"""The circuit breaker: when it opens, how it probes, what follows when it closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tidestore.connectors.breaker import (
    EDGE_FAILURES_TO_OPEN,
    PROBE_SECONDS_FIRST,
    PROBE_SECONDS_MAX,
    PROBES,
    Breaker,
    BreakingStore,
)
from tidestore.connectors.edges import Edge
from tidestore.connectors.errors import (
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreFaultError,
    StoreFullError,
    StoreThrottledError,
    StoreUnreachableError,
)
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.probes import probe
from tidestore.connectors.store import ByteStream, ObjectInfo
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import ROOM_KEY, WRITE_KEY

DOWN = StoreUnreachableError("put", "aws", "key")


class Bench:
    """A breaker whose probe answers what a list says, and whose time passes at once."""

    def __init__(self, *answers: StoreError | None) -> None:
        self.answers = list(answers)
        self.pauses: list[float] = []
        self.closed = 0
        self.now = 0.0
        edge = Edge("aws", None, self._closed)
        self.breaker = Breaker(self._probe, edge, sleep=self._sleep, clock=lambda: self.now)

    async def _probe(self, why: StoreError) -> None:
        assert why is self.breaker.why_open
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

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
    breaker.succeeded("put")
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

    async def get(self, key: ObjectKey, **more: Any) -> ByteStream:
        if self.is_down:
            raise DOWN
        return await super().get(key, **more)


async def test_an_open_store_fails_at_once_with_what_opened_it_and_is_not_asked() -> None:
    inner, closed = DownStore(), asyncio.Event()
    store = BreakingStore(inner, Edge("aws", None, closed.set))
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
    store = BreakingStore(MemoryStore("aws"), Edge("aws"))
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


async def test_reads_that_work_do_not_hide_that_every_write_is_refused() -> None:
    """Goal: a withdrawn permission pauses the edge. Method: a read between any two refusals."""
    breaker = Bench().breaker
    for _ in range(EDGE_FAILURES_TO_OPEN):
        assert breaker.why_open is None
        breaker.succeeded("head")
        breaker.failed(StoreDeniedError("put", "aws", "key"))
    assert breaker.why_open is not None


async def test_a_store_that_fails_again_at_once_is_left_alone_for_longer_each_time() -> None:
    """Goal: a probe that errs starts no storm. Method: close and open again, three times."""
    bench = Bench(*[None] * 4)
    begun = []
    for _ in range(3):
        fail(bench.breaker, EDGE_FAILURES_TO_OPEN)
        before = len(bench.pauses)
        await bench.run_until_closed()
        begun.append(bench.pauses[before:])
    assert begun == [[], [2.0], [4.0]]
    bench.now += 1_000
    fail(bench.breaker, EDGE_FAILURES_TO_OPEN)
    await bench.run_until_closed()
    assert len(bench.pauses) == 2, "after a long health the first probe comes at once again"


async def test_a_full_store_is_still_read_and_is_asked_rarely() -> None:
    """Goal: class full. Method: only writes are refused; the waits grow to their bound."""
    full = StoreFullError("put", "aws", "key")
    bench = Bench(*[full] * 8, None)
    fail(bench.breaker, EDGE_FAILURES_TO_OPEN, full)
    why_not = bench.breaker.why_not
    assert (why_not("put"), why_not("upload")) == (full, full)
    assert (why_not("get"), why_not("head"), why_not("delete")) == (None, None, None)
    await bench.run_until_closed()
    assert bench.pauses[:2] == [PROBES["full"].first_seconds] * 2
    assert bench.pauses[-1] == PROBES["full"].greatest_seconds


async def test_a_server_that_answers_but_cannot_serve_yet_does_not_close_it() -> None:
    busy = StoreThrottledError("get", "aws", "probe", retry_after_seconds=60)
    bench = Bench(busy, StoreFaultError("get", "aws", "probe"), None)
    fail(bench.breaker, EDGE_FAILURES_TO_OPEN)
    await bench.run_until_closed()
    assert bench.answers == []
    assert bench.closed == 1


class RefusingStore(MemoryStore):
    """Answers every read and refuses every write."""

    refusal: StoreError | None = None
    written: tuple[str, ...] = ()

    async def put_if_absent(self, key: ObjectKey, *args: Any, **more: Any) -> ObjectInfo:
        if self.refusal is not None:
            raise self.refusal
        self.written += (key,)
        return await super().put_if_absent(key, *args, **more)


@pytest.mark.parametrize("kind", [StoreDeniedError, StoreFullError])
async def test_what_was_refused_is_what_a_probe_asks_for(kind: type[StoreError]) -> None:
    """Goal: a store is well when it does what it refused. Method: reads work all the time."""
    why = kind("put", "aws", "key")
    store = RefusingStore("aws")
    store.refusal = why
    with pytest.raises(kind):
        await probe(store, why)
    store.refusal = None
    for _ in range(2):  # the second time the key of the first is taken
        await probe(store, why)
    assert set(store.written) == {WRITE_KEY if kind is StoreDeniedError else ROOM_KEY}
    left = [info.key async for info in store.list()]
    assert left == ([WRITE_KEY] if kind is StoreDeniedError else [])


async def test_a_read_that_was_refused_is_probed_by_reading() -> None:
    store = RefusingStore("aws")
    await probe(store, StoreDeniedError("get", "aws", "key"))
    assert store.written == ()
    await store.put_if_absent(
        ObjectKey(".tidestore/probe"), b"x", checksums_of(b"x"), content_type="a/b"
    )
    await probe(store, StoreUnreachableError("head", "aws", "key"))
