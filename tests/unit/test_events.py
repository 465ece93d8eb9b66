"""schemas/events.py: what the states mean."""

from __future__ import annotations

from tidestore.schemas.events import ChangeType, CopyState, RecordPoisoned, TaskState


def test_three_states_of_a_copy_are_settled() -> None:
    """Goal: R5 rests on this set. Method: every state."""
    settled = {state.value for state in CopyState if state.is_settled}
    assert settled == {"present", "excluded", "redacted"}
    assert len(CopyState) == 8


def test_two_states_of_a_task_are_final() -> None:
    """Goal: a finished task is never taken over. Method: every state."""
    assert {state.value for state in TaskState if state.is_final} == {"succeeded", "failed"}


def test_types_of_changes_are_what_hooks_subscribe_to() -> None:
    """Goal: names that outsiders wrote down stay. Method: literal names."""
    assert {kind.value for kind in ChangeType} == {
        "object.written",
        "object.present",
        "object.present_everywhere",
        "object.parked",
        "object.redacted",
        "object.redacted_everywhere",
        "object.lifted",
    }


def test_the_raw_bytes_of_poison_are_not_printed() -> None:
    """Goal: a log line stays a line. Method: repr of a poisoned record."""
    record = RecordPoisoned("t", 0, 0, "k", "r", "w", 0, b"secret bytes")
    assert "secret" not in repr(record)
