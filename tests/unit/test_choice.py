"""The order of sources, how long a copy waits, and what a worker remembers of its reads."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidestore.streams.choice import Candidate, order_sources, wait_seconds
from tidestore.streams.metrics import WorkerMetrics
from tidestore.streams.prices import Place, Prices, SourceSettings
from tidestore.streams.reads import Reads

GB = 1_000_000_000
PRICES = Prices(
    {"aws": Place("aws"), "gcp": Place("gcp"), "onprem": Place("onprem")}, SourceSettings()
)


def names(*candidates: Candidate) -> list[str]:
    return [item.name for item in order_sources(candidates)]


def test_price_then_origin_then_latency() -> None:
    """Goal: the order that is documented. Method: candidates that differ in one thing each."""
    assert names(
        Candidate("dear", 0.09, is_origin=True),
        Candidate("slow", 0.0, latency_seconds=0.4),
        Candidate("quick", 0.0, latency_seconds=0.04),
        Candidate("unasked", 0.0),
        Candidate("sure", 0.0, is_origin=False, latency_seconds=0.041),
    ) == ["unasked", "quick", "sure", "slow", "dear"]
    assert names(Candidate("other", 0.0), Candidate("origin", 0.0, is_origin=True)) == [
        "origin", "other"
    ]  # fmt: skip


def test_one_that_is_broken_goes_last_however_cheap() -> None:
    """Goal: health. Method: the cheapest one's breaker is open, the origin's too."""
    assert names(
        Candidate("cheap", 0.0, is_open=True),
        Candidate("origin", 0.09, is_open=True, is_origin=True),
        Candidate("dear", 0.2),
    ) == ["dear", "cheap", "origin"]


def test_a_wait_must_pay_for_its_questions() -> None:
    """Goal: no wait for fractions of a cent. Method: a size at which it does, and one below."""
    found = [
        wait_seconds(PRICES, "gcp", cheap="onprem", instead="aws", size=size, seconds_max=300)
        for size in (GB, 100_000)
    ]
    assert found == [50.0, pytest.approx(10.0, abs=0.1)]
    assert not wait_seconds(PRICES, "onprem", cheap="gcp", instead="aws", size=GB, seconds_max=300)
    small = Prices({"aws": Place("aws"), "g": Place("gcp"), "h": Place("gcp")}, SourceSettings())
    # 0.02 $/GB less: 10 questions cost 4e-6 $, as much as 56 kB save.
    assert not wait_seconds(small, "h", cheap="g", instead="aws", size=40_000, seconds_max=300)
    assert wait_seconds(small, "h", cheap="g", instead="aws", size=100_000, seconds_max=300)


@given(st.integers(1, 10**14), st.floats(0, 86_400))
def test_no_wait_is_longer_than_its_bound(size: int, bound: float) -> None:
    """Goal: the stated bound holds for every size. Method: random ones."""
    found = wait_seconds(PRICES, "gcp", cheap="onprem", instead="aws", size=size, seconds_max=bound)
    assert 0 <= found <= bound


def test_one_bad_answer_does_not_turn_the_order() -> None:
    """Goal: latency is bounded and forgets. Method: a minute among quick answers."""
    reads = Reads("gcp")
    assert reads.latency_seconds("aws") is None
    for seconds in [0.02] * 10 + [60.0] + [0.02] * 15:
        reads.asked("aws", seconds, "found")
    assert reads.latency_seconds("aws") == pytest.approx(0.02, abs=0.1)
    before = reads.latency_seconds("aws")
    reads.asked("aws", 0.0001, "failed")
    assert reads.latency_seconds("aws") == before, "a quick refusal is no quick source"


def test_waiting_in_vain_ends_and_is_tried_again() -> None:
    """Goal: a dead source costs a few waits, then none; later it is found out again.

    Method: a clock of our own; three waits in vain, a minute, one more, then one that came.
    """
    now = 0.0
    reads = Reads("gcp", clock=lambda: now)
    for _ in range(2):
        reads.waited("onprem", is_in_vain=True)
        assert reads.may_wait_for("onprem")
    reads.waited("onprem", is_in_vain=True)
    assert not reads.may_wait_for("onprem")
    assert reads.may_wait_for("azure")
    now = 61.0
    assert reads.may_wait_for("onprem")
    reads.waited("onprem", is_in_vain=True)
    assert not reads.may_wait_for("onprem"), "one more in vain is enough"
    now = 122.0
    reads.waited("onprem", is_in_vain=False)
    reads.waited("onprem", is_in_vain=True)
    assert reads.may_wait_for("onprem"), "the count begins anew once one has come"


async def test_bytes_are_counted_as_they_come() -> None:
    """Goal: a read that breaks off counts for what it was. Method: close it in the middle."""
    metrics = WorkerMetrics()
    reads = Reads("gcp", metrics)
    is_closed = False

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal is_closed
        try:
            for _ in range(3):
                yield b"x" * 10
        finally:
            is_closed = True

    counted = reads.counted("aws", chunks())
    async for _ in counted:
        break
    await counted.aclose()  # type: ignore[attr-defined]
    labels = {"source": "aws", "target": "gcp"}
    assert metrics.registry.get_sample_value("tidestore_source_bytes_total", labels) == 10
    assert is_closed
