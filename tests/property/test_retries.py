"""Retries that were asked for, on the product's own worker over a log in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from tests.property.stage import StagedStore, modules_with_a_clock
from tests.property.worker import COPIES, RETRIES, Worker
from tests.property.world import Objects, new_stage

from tidestore.connectors import holdings
from tidestore.connectors.errors import UnsupportedError
from tidestore.schemas.events import CopyChanged, CopyState, RetryAsked
from tidestore.schemas.topics import retry_key


class Stage:
    """One blob that the target cannot take, so that its copy is parked."""

    def __init__(self) -> None:
        self.clock, self.loop, self.log = new_stage(1)
        self.target, self.origin = StagedStore("onprem"), StagedStore("aws")
        self.objects = Objects(self.loop, self.log, self.origin)
        self.key = self.objects.add_blob(60, is_inline=True)
        self.target.refused[self.key] = UnsupportedError("put", "onprem", self.key)
        self.log.on_append = self._follow
        self.worker: Worker | None = None

    def start(self) -> Worker:
        """A worker that holds everything, and has read the log."""
        self.worker = worker = Worker(self.loop, self.log, self.target, [self.origin])
        worker.view.take_all()
        worker.assign({0})
        self.loop.pass_time(1)
        worker.deliver(0, 100)
        self.loop.pass_time(1)
        return worker

    def kill(self) -> None:
        """SIGKILL."""
        worker, self.worker = self.worker, None
        assert worker is not None
        worker.kill()

    def say(self, event: RetryAsked) -> None:
        """Append a request, as a gateway does."""
        self.log.append(RETRIES, 0, retry_key(event.replica, event.incarnation, event.key), event)

    def history(self) -> list[CopyState]:
        """The states of the copy, in order."""
        return [record.state for record in self.log.accepted_ever(COPIES)]

    def request(self) -> RetryAsked:
        """A request about the copy's newest record."""
        copy: CopyChanged = self.log.accepted(COPIES)[self.key]
        return RetryAsked(self.key, "onprem", 1, copy.changed_at_ms, "ana", 1)

    def _follow(self) -> None:
        # The view's thread is at once with everything.
        if self.worker is not None:
            self.loop.call_soon(self.worker.view.take_all)


@pytest.fixture
def stage() -> Iterator[Stage]:
    found = Stage()
    patches: list[Any] = [
        patch.object(module, "time", found.clock) for module in (*modules_with_a_clock(), holdings)
    ]
    for item in patches:
        item.start()
    yield found
    if found.worker is not None:
        found.kill()
    for item in patches:
        item.stop()
    found.loop.close()


def test_what_was_asked_is_done_once_however_often_it_is_said(stage: Stage) -> None:
    """Goal: a request is about one record. Method: twice before, once more after it is done."""
    stage.start()
    assert stage.history() == [CopyState.PARKED]
    stage.target.refused.clear()
    request = stage.request()
    stage.say(request)
    stage.say(request)
    stage.loop.pass_time(2)
    stage.say(request)
    stage.loop.pass_time(2)
    assert stage.history() == [CopyState.PARKED, CopyState.PRESENT]
    assert stage.target.holds(stage.key)


def test_a_retry_in_vain_is_parked_again_once_and_may_be_asked_for_again(stage: Stage) -> None:
    """Goal: no endless loop. Method: ask while the cause is still there, then mend, ask anew."""
    stage.start()
    first = stage.request()
    stage.loop.pass_time(1)
    stage.say(first)
    stage.loop.pass_time(3_600)
    stage.say(first)
    stage.loop.pass_time(3_600)
    assert stage.history() == [CopyState.PARKED, CopyState.PARKED]
    stage.target.refused.clear()
    stage.say(stage.request())
    stage.loop.pass_time(1)
    assert stage.history()[-1] is CopyState.PRESENT


def test_a_second_request_that_waited_for_its_turn_finds_its_record_gone(stage: Stage) -> None:
    """Goal: the record is looked up when its turn has come. Method: two at once, in vain."""
    worker = stage.start()
    moment = stage.request().changed_at_ms
    stage.loop.pass_time(1)
    for _ in range(2):
        worker.start(worker.mover.retry(stage.key, moment))
    stage.loop.pass_time(1)
    assert stage.history() == [CopyState.PARKED, CopyState.PARKED]


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_worker_killed_before_or_in_a_retry_does_it_when_it_is_back(
    stage: Stage, *, is_begun: bool
) -> None:
    """Goal: a SIGKILL loses nothing. Method: dead while it is asked, or killed in the middle."""
    stage.start()
    stage.target.refused.clear()
    request = stage.request()
    if is_begun:
        stage.target.gate.clear()
        stage.say(request)
        stage.loop.pass_time(1)
        assert stage.worker is not None
        assert stage.worker.mover.is_busy(stage.key)
        stage.kill()
        stage.target.gate.set()
    else:
        stage.kill()
        stage.say(request)
    assert stage.history() == [CopyState.PARKED]
    stage.start()
    assert stage.history() == [CopyState.PARKED, CopyState.PRESENT]


def test_a_copy_whose_event_nobody_could_read_keeps_its_reason(stage: Stage) -> None:
    """Goal: a retry that cannot help says nothing untrue. Method: poison, asked for."""
    worker = stage.start()
    other = "public/blobs/" + "0" * 64
    worker.start(worker.mover.park_unreadable(other, 9, "bytes are left over"))
    stage.loop.pass_time(1)
    copy = stage.log.accepted(COPIES)[other]
    event = RetryAsked(other, "onprem", 1, copy.changed_at_ms, "ana", 1)
    stage.say(event)
    stage.loop.pass_time(3_600)
    after = stage.log.accepted(COPIES)[other]
    assert after.changed_at_ms > copy.changed_at_ms
    assert (after.state, after.error_class) == (CopyState.PARKED, "poison")
    assert after.error == "bytes are left over"
