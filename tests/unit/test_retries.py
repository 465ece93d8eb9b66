"""Requests to try a parked copy again, as a worker's view folds them, over a log in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.property.stage import MemoryLog, MemoryView
from tests.unit.made import copy

from tidestore.schemas.events import CopyState, RetryAsked
from tidestore.schemas.topics import retry_key
from tidestore.streams.copies import CopiesFold, CopiesQueries, FoldNotes
from tidestore.streams.lanes import Lanes
from tidestore.streams.states import KnownStates

_COPIES, _RETRIES = "copies", "retries"
_PARKED = copy("k", CopyState.PARKED, changed_at_ms=70)


class Bench:
    """A view of `onprem.1`, its log, and what the last fold said."""

    def __init__(self) -> None:
        self.log = MemoryLog(2)
        self._notes: list[FoldNotes] = []
        fold = CopiesFold(_COPIES, self._notes.append)
        self.view = MemoryView(self.log, fold, [_RETRIES, _COPIES])
        self.queries = CopiesQueries(self.view)

    def copies(self, record: Any, partition: int = 1) -> FoldNotes:
        """Say a copy's record, and fold it."""
        self.log.append(_COPIES, partition, record.key, record)
        return self._fold()

    def ask(self, **changes: Any) -> FoldNotes:
        """Ask for a retry of the parked copy, and fold that."""
        values = {"key": "k", "replica": "onprem", "incarnation": 1, "changed_at_ms": 70}
        event = RetryAsked(**{**values, "asked_by": "a", "asked_at_ms": 5, **changes})
        key = retry_key(event.replica, event.incarnation, event.key)
        self.log.append(_RETRIES, 0, key, event)
        return self._fold()

    def _fold(self) -> FoldNotes:
        self._notes.clear()
        self.view.take_all()
        return self._notes[-1] if self._notes else FoldNotes()


@pytest.fixture
def bench() -> Iterator[Bench]:
    found = Bench()
    yield found
    found.view.tables.close()


def test_a_request_is_found_whichever_of_the_two_records_is_folded_second(bench: Bench) -> None:
    """Goal: a gateway that is ahead of the worker loses nothing. Method: both orders."""
    bench.copies(_PARKED)
    assert bench.ask().retries == ((1, "k", 70),)
    assert bench.ask(changed_at_ms=90).retries == (), "that record is not here yet"
    assert bench.copies(copy("k", CopyState.PARKED, changed_at_ms=90)).retries == ((1, "k", 90),)


def test_whoever_takes_the_partition_finds_the_request(bench: Bench) -> None:
    """Goal: a SIGKILL between ask and act loses nothing. Method: ask the view, per partition."""
    bench.copies(_PARKED)
    bench.ask()
    assert bench.queries.asked_again(1) == [("k", 70)]
    assert bench.queries.asked_again(0) == []


@pytest.mark.parametrize("state", [s for s in CopyState if s is not CopyState.PARKED])
def test_any_outcome_ends_a_request(bench: Bench, state: CopyState) -> None:
    """Goal: it is done once. Method: every other state after it, then asked again for the same."""
    bench.copies(_PARKED)
    bench.ask()
    assert bench.copies(copy("k", state, changed_at_ms=80)).retries == ()
    assert bench.queries.asked_again(1) == []
    assert bench.ask().retries == (), "the same request once more, late"


def test_parked_again_is_another_record(bench: Bench) -> None:
    """Goal: one request does not become an endless retry. Method: park anew, ask anew."""
    bench.copies(_PARKED)
    bench.ask()
    assert bench.copies(copy("k", CopyState.PARKED, changed_at_ms=80)).retries == ()
    assert bench.queries.asked_again(1) == []
    assert bench.ask(changed_at_ms=80).retries == ((1, "k", 80),)
    assert bench.queries.asked_again(1) == [("k", 80)]


@pytest.mark.parametrize("other", [{"replica": "aws"}, {"incarnation": 2}, {"key": "other"}])
def test_requests_about_others_are_nothing_here(bench: Bench, other: dict[str, Any]) -> None:
    """Goal: each replica does its own. Method: another replica, another life, another key.

    A later one about somebody else must not hide ours either.
    """
    bench.copies(_PARKED)
    assert bench.ask(**other).retries == ()
    assert bench.queries.asked_again(1) == []
    bench.ask()
    bench.ask(**other)
    assert bench.queries.asked_again(1) == [("k", 70)]


class Calls:
    """A mover that notes what it is asked to do, and holdings of both partitions."""

    held = (0, 1)

    def __init__(self) -> None:
        self.done: list[tuple[object, ...]] = []

    def is_busy(self, key: str) -> bool:
        return False

    def stamp(self, partition: int) -> int:
        return 0

    async def again(self, key: str) -> None:
        self.done.append(("again", key))

    async def retry(self, key: str, changed_at_ms: int) -> None:
        self.done.append(("retry", key, changed_at_ms))


def lanes_of(bench: Bench, calls: Any, known: KnownStates) -> Lanes:
    return Lanes(_COPIES, calls, bench.queries, known, calls)


async def test_a_copy_that_was_just_parked_is_not_tried_once_more_by_its_stale_record(
    bench: Bench,
) -> None:
    """Goal: parked once is parked. Method: the view has it due, the worker knows it is parked.

    A second parked record would make a request that names the first one void.
    """
    bench.copies(copy("k", CopyState.PENDING, next_try_at_ms=1))
    known, calls = KnownStates(bench.view, _COPIES), Calls()
    lanes = lanes_of(bench, calls, known)
    lanes._start_due()
    await asyncio.gather(*lanes._tasks.values())
    assert calls.done == [("again", "k")]
    known.learn(_PARKED, 1, bench.log.append(_COPIES, 1, "k", _PARKED))
    lanes._start_due()
    await asyncio.gather(*lanes._tasks.values())
    assert calls.done == [("again", "k")]


async def test_a_request_starts_one_retry_of_the_record_that_was_meant(bench: Bench) -> None:
    """Goal: asked is done, by both ways to hear of it. Method: the fold's notes, a partition."""
    bench.copies(_PARKED)
    calls = Calls()
    lanes = lanes_of(bench, calls, KnownStates(bench.view, _COPIES))
    notes = bench.ask()
    lanes.notice(notes)
    lanes.notice(notes)
    lanes._start_asked()
    await asyncio.gather(*lanes._tasks.values())
    assert calls.done == [("retry", "k", 70)]
    await lanes_of(bench, calls, KnownStates(bench.view, _COPIES)).held(0)
    other = lanes_of(bench, calls, KnownStates(bench.view, _COPIES))
    await other.held(1)
    other._start_asked()
    await asyncio.gather(*other._tasks.values())
    assert calls.done == [("retry", "k", 70)] * 2
