"""Retries that were asked for, on the product's own worker over a log in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.property.one_copy import Stage, make_stage
from tests.property.worker import COPIES

from tidestore.connectors.errors import UnsupportedError
from tidestore.schemas.events import CopyState, RetryAsked


@pytest.fixture
def stage() -> Iterator[Stage]:
    """One blob that the target cannot take, so that its copy is parked."""
    with make_stage() as found:
        found.target.refused[found.key] = UnsupportedError("put", "onprem", found.key)
        yield found


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
