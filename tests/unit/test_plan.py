"""streams/plan.py: the table in its docstring, row by row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.made import KEY, written

from tidestore.schemas.events import CopyState, ObjectRedacted, ObjectWritten
from tidestore.streams.plan import (
    SMALL_BYTES_MAX,
    CopyLater,
    CopyNow,
    Nothing,
    Plan,
    Remove,
    plan_object,
)

_REDACTED = ObjectRedacted(KEY, 1, "consent", "admin", 0)
_LARGE = replace(written(), data=None, size=SMALL_BYTES_MAX + 1)


def _plan(
    event: ObjectWritten | ObjectRedacted,
    *,
    replica: str = "onprem",
    state: CopyState | None = None,
    is_redacted: bool = False,
) -> Plan:
    return plan_object(event, replica=replica, state=state, is_redacted=is_redacted)


def test_the_origin_copies_nothing() -> None:
    """Goal: the event is the proof (R1). Method: the origin's own worker."""
    assert _plan(written(), replica="aws") == Nothing()
    assert _plan(_LARGE, replica="aws") == Nothing()


@pytest.mark.parametrize("state", list(CopyState))
def test_a_repeated_event_changes_nothing(state: CopyState) -> None:
    """Goal: at least once does no harm. Method: every state that a copy can have."""
    assert _plan(written(), state=state) == Nothing()
    assert _plan(_LARGE, state=state) == Nothing()


def test_a_small_object_is_copied_at_once_and_a_large_one_later() -> None:
    """Goal: small never waits for large. Method: both sides of the bound, inline and not."""
    assert _plan(written()) == CopyNow()
    assert _plan(replace(written(), data=None)) == CopyNow()
    assert _plan(replace(_LARGE, size=SMALL_BYTES_MAX)) == CopyNow()
    assert _plan(_LARGE) == CopyLater()
    assert _plan(replace(_LARGE, data=b"it came with the event")) == CopyNow()


_GOING = (CopyState.REDACTING, CopyState.REDACTED)


@pytest.mark.parametrize("replica", ["aws", "onprem"])
@pytest.mark.parametrize("state", [None, *(state for state in CopyState if state not in _GOING)])
def test_a_redaction_removes_in_every_state(replica: str, state: CopyState | None) -> None:
    """Goal: a redaction wins. Method: its event on the origin and elsewhere, in all states."""
    for is_redacted in (True, False):
        plan = _plan(_REDACTED, replica=replica, state=state, is_redacted=is_redacted)
        assert plan == Remove("consent")


@pytest.mark.parametrize("state", _GOING)
def test_a_repeated_redaction_changes_nothing(state: CopyState) -> None:
    """Goal: a receipt stays a receipt. Method: the event again, while it goes and when it is gone.

    It once turned `redacted` back into `redacting`.
    """
    for is_redacted in (True, False):
        assert _plan(_REDACTED, state=state, is_redacted=is_redacted) == Nothing()


@pytest.mark.parametrize("replica", ["aws", "onprem"])
def test_what_is_lifted_comes_back_also_at_the_origin(replica: str) -> None:
    """Goal: a lift is the newer word. Method: the write again, and the old ObjectRedacted again."""
    for state in _GOING:
        plan = plan_object(
            written(), replica=replica, state=state, is_redacted=False, is_lifted=True
        )
        assert plan == CopyLater()
    for present in (None, CopyState.PRESENT):
        plan = plan_object(
            _REDACTED, replica=replica, state=present, is_redacted=False, is_lifted=True
        )
        assert plan == Nothing()
        plan = plan_object(
            _REDACTED, replica=replica, state=present, is_redacted=True, is_lifted=True
        )
        assert plan == Remove("consent"), "redacted again after the lift"


@pytest.mark.parametrize("replica", ["aws", "onprem"])
@pytest.mark.parametrize("state", [None, *CopyState])
def test_a_write_that_comes_after_its_redaction_is_removed(
    replica: str, state: CopyState | None
) -> None:
    """Goal: a frozen gateway brings nothing back. Method: a write of a redacted key."""
    plan = _plan(written(), replica=replica, state=state, is_redacted=True)
    assert isinstance(plan, Remove)
    assert "redacted" in plan.reason
