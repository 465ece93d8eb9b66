"""Whose word about a task counts: leases over a view that a test feeds by hand (design point 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.golden.samples import SAMPLES
from tests.property.stage import MemoryLog, MemoryView

from tidestore.api.tasks import TasksFold
from tidestore.connectors.overruled import QUERY
from tidestore.schemas.events import TaskChanged, TaskState

_TOPIC = "tasks"
_TASK = SAMPLES["task_changed.v1"]
assert isinstance(_TASK, TaskChanged)


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(1)


@pytest.fixture
def view(log: MemoryLog) -> Iterator[MemoryView]:
    found = MemoryView(log, TasksFold(), [_TOPIC])
    yield found
    found.tables.close()


def say(log: MemoryLog, lease: int, owner: str, state: TaskState = TaskState.RUNNING) -> None:
    """Append what a gateway says of the task under its lease."""
    assert isinstance(_TASK, TaskChanged)
    log.append(_TOPIC, 0, _TASK.task_id, replace(_TASK, lease=lease, owner=owner, state=state))


def held(view: MemoryView) -> tuple[int, str, str]:
    """Lease, owner and state that all gateways see."""
    view.take_all()
    (row,) = view.query("SELECT lease, owner, state FROM tasks", ())
    return row["lease"], row["owner"], row["state"]


def test_a_frozen_gateways_word_does_not_undo_its_successors(
    log: MemoryLog, view: MemoryView
) -> None:
    """Goal: a task that was taken over and done stays done.

    Method: the first gateway freezes, another one takes over and ends it, the first one wakes and
    says that it still runs, then that it failed.
    """
    say(log, 1, "first")
    say(log, 2, "second")
    say(log, 2, "second", TaskState.SUCCEEDED)
    assert held(view) == (2, "second", "succeeded")
    for state in (TaskState.RUNNING, TaskState.FAILED):
        say(log, 1, "first", state)
        assert held(view) == (2, "second", "succeeded")


def test_behind_a_late_record_the_right_one_is_owed_until_it_is_said(
    log: MemoryLog, view: MemoryView
) -> None:
    """Goal: compaction keeps the last record of a key, so the right one must be the last.

    Method: a task that is over, a late word by its first owner, and the right record once more.
    """

    def owed() -> list[str]:
        view.take_all()
        return [row[0] for row in view.query(QUERY, (_TOPIC, 0))]

    say(log, 1, "first")
    say(log, 2, "second", TaskState.SUCCEEDED)
    assert owed() == []
    say(log, 1, "first")
    assert len(owed()) == 1
    say(log, 2, "second")
    assert held(view) == (2, "second", "succeeded"), "what is over does not run again"
    say(log, 2, "second", TaskState.SUCCEEDED)
    assert owed() == []
    assert held(view) == (2, "second", "succeeded")


def test_of_two_that_take_the_same_lease_the_first_has_it(log: MemoryLog, view: MemoryView) -> None:
    """Goal: one owner. Method: two take-overs at once; the loser speaks on; its next lease wins."""
    say(log, 1, "gone")
    say(log, 2, "first")
    say(log, 2, "other")
    assert held(view) == (2, "first", "running")
    say(log, 2, "other", TaskState.FAILED)
    assert held(view) == (2, "first", "running")
    say(log, 3, "other")
    assert held(view) == (3, "other", "running")
