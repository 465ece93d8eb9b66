"""Lateness: ages, reasons and quantiles are counted while records are folded, in any order."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

import pytest
from tests.unit.made import copy, written

from tidestore.api.index import IndexFold
from tidestore.api.lag_tables import BOUNDS_MS, MINUTE_MS, bucket_of, size_class_of
from tidestore.api.lags import Lags, is_kept, quantile
from tidestore.api.lookup import Index as Lookup
from tidestore.connectors.view import Folded
from tidestore.schemas.canaries import CanaryProved, CanarySent
from tidestore.schemas.events import (
    CopyChanged,
    CopyState,
    Event,
    PartitionClaimed,
    ReplicaRegistered,
)
from tidestore.schemas.topics import Topics

TOPICS = {"copies.onprem.1": "onprem"}
NOW_MS = int(time.time() * 1000)


class Index:
    """An index in memory, asked as a view is."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.fold = IndexFold(TOPICS, lambda _: None)
        self.fold.create(self.db)
        self.lags = Lags(self)  # type: ignore[arg-type]

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """See View."""
        return self.db.execute(sql, parameters).fetchall()

    def take(self, *events: Event) -> None:
        """Fold events in one batch."""
        self.fold.fold(self.db, [_folded(n, event) for n, event in enumerate(events)])

    def take_claim(self, offset: int) -> None:
        """Fold a claim on the partition that all records here are of."""
        claim = PartitionClaimed("onprem-1/2", 0, NOW_MS)
        self.fold.fold(self.db, [Folded("copies.onprem.1", 0, offset, "!claim/0", claim, 0)])


def _folded(offset: int, event: Event) -> Folded:
    topic = "copies.onprem.1" if isinstance(event, (CopyChanged, CanaryProved)) else "log"
    return Folded(topic, 0, offset, getattr(event, "key", ""), event, 0)


def _key(number: int) -> str:
    return f"public/blobs/{number:064x}"


def _present(number: int, lag_ms: int, **more: Any) -> CopyChanged:
    values = {"written_at_ms": NOW_MS - lag_ms, "changed_at_ms": NOW_MS, **more}
    return copy(_key(number), CopyState.PRESENT, **values)


def test_what_waits_is_counted_by_its_age() -> None:
    """Goal: age buckets without a scan. Method: objects of known ages; then all but one arrive."""
    index = Index()
    ages = [0, 30_000, 100_000, 600_000, 1_000_000, 3_000_000, 9_000_000, 80_000_000]
    for number, age in enumerate(ages):
        index.take(written(key=_key(number), written_at_ms=NOW_MS - age))
    found = index.lags.of("onprem", NOW_MS).by_age
    assert found == {"1m": 2, "5m": 1, "15m": 1, "60m": 2, "more": 2}
    for number, age in enumerate(ages[:-1]):
        index.take(_present(number, age))
    found = index.lags.of("onprem", NOW_MS).by_age
    assert found == {"1m": 0, "5m": 0, "15m": 0, "60m": 0, "more": 1}


def test_what_fails_is_counted_by_its_reason_until_it_does_not() -> None:
    """Goal: status says why an edge waits. Method: a copy fails in two ways, then arrives."""
    index = Index()
    index.take(written(key=_key(1), written_at_ms=NOW_MS))
    for error_class in ("network", "network", "auth"):
        index.take(copy(_key(1), CopyState.PENDING, error_class=error_class, next_try_at_ms=1))
        assert index.lags.of("onprem", NOW_MS).troubles == {error_class: 1}
    index.take(copy(_key(2), CopyState.PENDING, error_class="slow", next_try_at_ms=1))
    assert index.lags.of("onprem", NOW_MS).troubles == {"auth": 1}, "slow is no trouble"
    index.take(_present(1, 5))
    assert index.lags.of("onprem", NOW_MS).troubles == {}


def test_quantiles_are_of_what_arrived_lately_by_size() -> None:
    """Goal: p50 and p99 per replica and size class. Method: 99 quick ones, a slow and a large."""
    index = Index()
    index.take(*[_present(n, 100 if n else 4_000, size=100) for n in range(100)])
    index.take(_present(200, 60_000, size=20 * 1024 * 1024))
    index.take(_present(201, 9_000, changed_at_ms=NOW_MS - 20 * MINUTE_MS))
    found = index.lags.of("onprem", NOW_MS).quantiles
    assert found.keys() == {"small", "large"}
    assert 0.09 < found["small"][0.5] <= 0.13
    assert found["small"][0.99] <= 0.13
    assert found["large"][0.5] > 30
    index.take(*[_present(300 + n, 4_000, size=100) for n in range(10)])
    assert index.lags.of("onprem", NOW_MS).quantiles["small"][0.99] > 3


def test_a_canary_waits_from_the_first_one_after_the_last_that_was_proved() -> None:
    """Goal: a broken edge is known in time. Method: canaries sent, proved late, lost; two claims.

    One that was lost is made good by a newer one; what was sent before the replica was there is
    nothing that it owes.
    """
    index, minute = Index(), 60_000

    def sent(age_ms: int) -> CanarySent:
        return CanarySent(0, NOW_MS - age_ms, "0")

    def proved(age_ms: int, claim: int = 7) -> CanaryProved:
        return CanaryProved(0, "onprem", 1, claim, NOW_MS - age_ms, NOW_MS - age_ms + 250)

    def state() -> tuple[float | None, float, bool]:
        found = index.lags.of("onprem", NOW_MS, 15 * minute)
        assert is_kept(found, 99.9) is not found.canary.is_overdue
        return (
            found.canary.lag_seconds, found.canary.waiting_seconds / 60, found.canary.is_overdue,
        )  # fmt: skip

    assert state() == (None, 0.0, False), "none was sent"
    index.take(sent(30 * minute))
    index.take(ReplicaRegistered("onprem", 1, "file:///x", NOW_MS - 29 * minute))
    assert state() == (None, 0.0, False), "it was not there yet"
    index.take(*(sent(age * minute) for age in (20, 18, 10)))
    assert state() == (None, 20.0, True)
    index.take(proved(18 * minute))
    assert state() == (0.25, 10.0, False)
    index.take(proved(20 * minute))
    assert state() == (0.25, 10.0, False), "an older one, folded later"
    index.take_claim(offset=9)
    index.take(proved(10 * minute))
    assert state() == (0.25, 10.0, False), "of a worker that had lost the partition"
    index.take(proved(10 * minute, claim=9))
    assert state() == (0.25, 0.0, False)


def test_backfill_has_no_lag() -> None:
    """Goal: a new replica spoils no figure. Method: objects from before it was registered."""
    index = Index()
    index.take(ReplicaRegistered("onprem", 1, "file:///x", NOW_MS - 10_000))
    index.take(ReplicaRegistered("onprem", 1, "file:///x", NOW_MS))  # a later record of that life
    index.take(_present(1, 86_400_000), _present(2, 5_000))
    assert index.lags.of("onprem", NOW_MS).quantiles["small"][0.99] <= 5.0


def test_repeats_and_order_change_nothing() -> None:
    """Goal: every gateway says the same. Method: shuffled batches with repeats, many times."""
    events: list[Event] = []
    for number in range(12):
        lag = 1_000 * (number + 1)
        events += [
            written(key=_key(number), written_at_ms=NOW_MS - lag),
            _present(number, lag), _present(number, lag),
        ]  # fmt: skip
    events += [written(key=_key(99), written_at_ms=NOW_MS - 400_000)]
    told = set()
    for seed in range(30):
        dice, left = random.Random(seed), list(events)
        dice.shuffle(left)
        index = Index()
        while left:
            size = dice.randint(1, 9)
            index.take(*left[:size])
            left = left[size:]
        told.add(str(index.lags.of("onprem", NOW_MS)))
    assert len(told) == 1
    assert "'15m': 1" in told.pop()


@pytest.mark.parametrize(
    ("lag_ms", "bound"), [(0, 5), (5, 5), (6, 10), (999, 1_000), (86_400_000, 86_400_000)]
)
def test_a_lag_falls_below_the_first_bound_that_is_not_smaller(lag_ms: int, bound: int) -> None:
    assert BOUNDS_MS[bucket_of(lag_ms)] == bound


def test_the_edges_of_quantiles_and_sizes() -> None:
    assert quantile({len(BOUNDS_MS): 3}, 0.99) == BOUNDS_MS[-1] / 1000, "a bound, not infinity"
    assert quantile({}, 0.5) == 0.0
    assert [size_class_of(n) for n in (0, 32_768, 32_769, 8 * 2**20, 8 * 2**20 + 1)] == [
        "small", "small", "medium", "medium", "large",
    ]  # fmt: skip


def test_the_objective_counts_what_came_late_and_what_is_overdue() -> None:
    """Goal: 99.9 % within 15 minutes. Method: in time, late, overdue; backfill is neither."""
    index = Index()
    assert index.lags.of("onprem", NOW_MS).in_time == 1.0, "nothing was due"
    index.take(ReplicaRegistered("onprem", 1, "file:///x", NOW_MS - 40 * MINUTE_MS))
    index.take(*[_present(n, 1_000) for n in range(998)])
    index.take(written(key=_key(2_000), written_at_ms=NOW_MS - 90 * MINUTE_MS))
    index.take(written(key=_key(2_001), written_at_ms=NOW_MS - 14 * MINUTE_MS))
    late = index.lags.of("onprem", NOW_MS)
    assert (late.in_time, late.overdue) == (1.0, 0)
    index.take(written(key=_key(2_002), written_at_ms=NOW_MS - 16 * MINUTE_MS))
    late = index.lags.of("onprem", NOW_MS)
    assert (late.overdue, is_kept(late, 99.9), is_kept(late, 99.8)) == (1, False, True)
    index.take(_present(2_002, 16 * MINUTE_MS))
    late = index.lags.of("onprem", NOW_MS)
    assert late.overdue == 0
    assert late.in_time == pytest.approx(998 / 999)
    index.take(_present(2_003, 15 * MINUTE_MS), _present(2_004, 15 * MINUTE_MS))
    assert is_kept(index.lags.of("onprem", NOW_MS), 99.9)


@pytest.mark.parametrize("is_record_first", [False, True])
def test_the_origin_counts_nothing_that_was_redacted_and_nothing_twice(
    is_record_first: bool,  # noqa: FBT001
) -> None:
    """Goal: `present` of the origin is what is there. Method: of two objects one goes and is back.

    The origin's worker knows of a redacted object but the key: its record names no origin.
    """
    index = Index()
    lookup = Lookup(index, None, Topics(), list, catch_up_seconds=1.0)  # type: ignore[arg-type]
    events = [written(key=_key(1), origin="onprem"), written(key=_key(2), origin="onprem")]
    gone = copy(_key(1), CopyState.REDACTED, origin="", sha256="")
    if is_record_first:
        index.take(gone)
        index.take(*events)
    else:
        index.take(*events)
        assert lookup.lag("onprem").present == 2
        index.take(gone)
    assert lookup.lag("onprem").present == 1
    index.take(copy(_key(1), CopyState.PENDING, origin="onprem"))
    assert lookup.lag("onprem").present == 1
    index.take(copy(_key(1), CopyState.PRESENT, origin="onprem"))
    assert lookup.lag("onprem").present == 2
