"""streams/backoff.py: when a copy is tried again, and when it is parked."""

from __future__ import annotations

import pytest

from tidestore.connectors import errors
from tidestore.streams.backoff import HOUR_MS, POLICIES, GiveUp, Retry, next_try

_WEEK_MS = 7 * 24 * HOUR_MS
_EDGE = ["network", "throttled", "auth", "full", "bucket", "log"]
_OBJECT = ["missing", "checksum", "fault", "defect"]


def test_every_class_of_error_has_its_policy_on_purpose() -> None:
    """Goal: no class falls through by accident. Method: the error tree against the table."""
    classes = {
        item.error_class
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, errors.StoreError)
    }
    assert classes - POLICIES.keys() == {"exists", "unsupported", "too_large"}
    assert POLICIES.keys() - classes == {"log", "defect"}


@pytest.mark.parametrize("name", ["unsupported", "poison"])
def test_what_can_never_help_is_not_tried(name: str) -> None:
    """Goal: a person sees it at once. Method: the first failure."""
    assert next_try(name, 1, 0, dice=0.5) == GiveUp(1)


@pytest.mark.parametrize("name", _EDGE)
def test_trouble_of_the_edge_is_borne_for_a_week(name: str) -> None:
    """Goal: an outage parks nothing. Method: add up the shortest waits until it gives up."""
    assert 0.4 * _WEEK_MS < _span(name, dice=0.0) < 0.6 * _WEEK_MS
    assert 0.9 * _WEEK_MS < _span(name, dice=0.999) < 1.1 * _WEEK_MS


@pytest.mark.parametrize("name", _OBJECT)
def test_trouble_of_an_object_is_seen_by_a_person_within_the_hour(name: str) -> None:
    """Goal: what will not mend itself is parked. Method: add up the longest waits."""
    assert _span(name, dice=0.999) < HOUR_MS


def _span(name: str, dice: float) -> int:
    now = 0
    for attempt in range(1, 10_000):
        found = next_try(name, attempt, now, dice=dice)
        if isinstance(found, GiveUp):
            assert found.attempts == attempt == POLICIES[name].attempts_max
            return now
        assert found.at_ms > now
        now = found.at_ms
    raise AssertionError("tried for ever")


def test_waits_double_up_to_the_greatest() -> None:
    """Goal: a sick store is left in peace. Method: the first waits at full length."""
    waits = [_wait("network", attempt) for attempt in range(1, 14)]
    assert waits[:4] == [500, 1_000, 2_000, 4_000]
    assert waits[-1] == 300_000
    assert _wait("network", 2_000) == 300_000, "no overflow far out"


def _wait(name: str, attempt: int) -> int:
    found = next_try(name, attempt, 0, dice=1.0)
    assert isinstance(found, Retry)
    return found.at_ms


def test_waits_are_spread_over_half_of_their_length() -> None:
    """Goal: what failed together does not come back together. Method: lowest and middle dice."""
    assert next_try("network", 3, 100, dice=0.0) == Retry(100 + 1_000)
    assert next_try("network", 3, 100, dice=0.5) == Retry(100 + 1_500)


def test_a_stores_own_word_is_a_lower_bound_for_an_hour_at_most() -> None:
    """Goal: Retry-After is honoured, a mad one is not. Method: short, long, endless."""
    assert next_try("throttled", 1, 0, dice=0.0, retry_after_seconds=0.1) == Retry(500)
    assert next_try("throttled", 1, 0, dice=0.0, retry_after_seconds=30.0) == Retry(30_000)
    assert next_try("throttled", 1, 0, dice=0.0, retry_after_seconds=1e9) == Retry(HOUR_MS)


def test_an_unknown_class_is_treated_as_a_fault() -> None:
    """Goal: an adapter's new word breaks nothing. Method: a class that is in no table."""
    assert next_try("exists", 1, 0, dice=0.3) == next_try("fault", 1, 0, dice=0.3)
    assert next_try("new", POLICIES["fault"].attempts_max, 0, dice=0.3) == GiveUp(14)
