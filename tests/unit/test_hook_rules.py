"""api/hooks: when a delivery is tried again, what it says, and how its secret is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.golden.samples import SAMPLES

from tidestore.api.hooks.payload import matches, render
from tidestore.api.hooks.schedule import (
    STEPS_SECONDS,
    Again,
    LetGo,
    SwitchOff,
    after_failure,
)
from tidestore.api.hooks.seal import Seal
from tidestore.api.problems import Problem
from tidestore.connectors.credentials import Secret
from tidestore.schemas.events import ChangeAnnounced, ChangeType, CopyState, HookSaved

_WEEK = 7 * 24 * 3600


def _wait(
    attempt: int, status: int | None = 500, dice: float = 0.5, after: float | None = None
) -> float:
    found = after_failure(attempt, status, after, dice=dice)
    assert isinstance(found, Again)
    return found.seconds


def test_waits_grow_from_seconds_to_half_a_day() -> None:
    """Goal: quick for a restart, long for a weekend. Method: the middle of each step."""
    assert [_wait(attempt) for attempt in range(1, 9)] == [*STEPS_SECONDS, 12 * 3600.0]
    assert STEPS_SECONDS[0] == 5.0


def test_waits_are_spread_by_a_fifth() -> None:
    """Goal: no thundering herd. Method: both ends of the dice."""
    assert _wait(2, dice=0.0) == pytest.approx(24.0)
    assert _wait(2, dice=0.9999) == pytest.approx(36.0, rel=1e-3)


def test_a_receivers_own_word_counts_up_to_the_next_step() -> None:
    """Goal: Retry-After is honoured, a mad one is not. Method: short, longer, endless."""
    assert _wait(1, 429, after=1.0) == 5.0
    assert _wait(1, 429, after=20.0) == 20.0
    assert _wait(1, 429, after=1e9) == 30.0


def test_it_is_given_up_after_a_week() -> None:
    """Goal: R9's window, and no eternity. Method: add waits until it is let go."""
    total, attempt = 0.0, 1
    while isinstance(found := after_failure(attempt, None, None, dice=0.5), Again):
        total += found.seconds
        attempt += 1
    assert found == LetGo("not delivered within a week")
    assert _WEEK <= total <= _WEEK + 12 * 3600
    assert attempt < 40


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_refusal_is_let_go_after_five_tries(status: int) -> None:
    """Goal: one bad event does not hold up the rest for a week. Method: both sides of five."""
    assert isinstance(after_failure(4, status, None, dice=0.5), Again)
    assert after_failure(5, status, None, dice=0.5) == LetGo(f"refused 5 times with {status}")


@pytest.mark.parametrize("status", [408, 409, 423, 425, 429, 500, 503, 302, None])
def test_what_may_pass_is_tried_on(status: int | None) -> None:
    """Goal: "not now" is no refusal. Method: passing statuses at the sixth try."""
    assert isinstance(after_failure(6, status, None, dice=0.5), Again)


def test_gone_switches_the_hook_off() -> None:
    """Goal: 410 is for good. Method: at the first try."""
    assert after_failure(1, 410, None, dice=0.5) == SwitchOff()


_CHANGE = SAMPLES["change_announced.v1"]
_HOOK = SAMPLES["hook_saved.v1"]
assert isinstance(_CHANGE, ChangeAnnounced)
assert isinstance(_HOOK, HookSaved)


def test_a_hook_gets_what_it_asked_for_in_its_dataset() -> None:
    """Goal: no other dataset's events. Method: types, the star, datasets, a foreign key."""
    assert isinstance(_CHANGE, ChangeAnnounced)
    assert isinstance(_HOOK, HookSaved)
    assert matches(_HOOK, _CHANGE)
    only = replace(_HOOK, events=("object.written",))
    assert not matches(only, _CHANGE)
    assert matches(only, replace(_CHANGE, type="object.written"))
    assert not matches(replace(_HOOK, dataset="other"), _CHANGE)
    assert not matches(_HOOK, replace(_CHANGE, key="no key"))


def test_a_summary_is_for_whoever_asked_for_anything_it_stands_for() -> None:
    """Goal: R9 beyond the window. Method: the last word of a key, and hooks for what led to it."""
    assert isinstance(_CHANGE, ChangeAnnounced)
    assert isinstance(_HOOK, HookSaved)
    place = replace(_CHANGE.copies[0], state=CopyState.PRESENT)
    last = replace(_CHANGE, type="object.present", copies=(place,), is_everywhere=False)
    hooks = {name: replace(_HOOK, events=(name,)) for name in ChangeType}
    told = {name for name, hook in hooks.items() if matches(hook, last, is_summary=True)}
    assert told == {"object.written", "object.present"}
    assert {name for name, hook in hooks.items() if matches(hook, last)} == {"object.present"}
    everywhere = replace(last, type="object.present_everywhere", is_everywhere=True)
    assert matches(hooks[ChangeType.PRESENT_EVERYWHERE], everywhere, is_summary=True)
    parked = replace(last, copies=(replace(place, state=CopyState.PARKED),))
    assert matches(hooks[ChangeType.PARKED], parked, is_summary=True)
    hidden = replace(last, is_redacted=True, redacted_at_ms=7)
    assert matches(hooks[ChangeType.REDACTED], hidden, is_summary=True)
    assert not matches(hooks[ChangeType.LIFTED], hidden, is_summary=True)
    assert matches(hooks[ChangeType.LIFTED], replace(hidden, is_redacted=False), is_summary=True)
    assert not matches(replace(_HOOK, dataset="other"), last, is_summary=True)
    assert json.loads(render(last, 1, 5, is_summary=True))["data"]["summary"] is True
    assert "summary" not in json.loads(render(last, 1, 5))["data"]


def test_a_body_is_the_same_at_every_attempt_and_says_where_the_write_stands() -> None:
    """Goal: a repeat is known, an older one can be dropped. Method: render twice, read it."""
    assert isinstance(_CHANGE, ChangeAnnounced)
    body = render(_CHANGE, 1, 5)
    assert body == render(_CHANGE, 1, 5)
    document = json.loads(body)
    assert document.keys() == {"type", "timestamp", "data"}
    assert document["timestamp"] == "2026-11-23T12:00:00.009Z"
    data = document["data"]
    assert data["log_position"] == "1.5.70000"
    assert (data["kind"], data["dataset"], data["name"]) == ("file", "public", "読み.fastq.gz")
    assert (data["uuid"], data["version"]) == (
        "6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d",
        "2026-11-23T120000.000001Z",
    )
    assert data["copies"][1]["state"] == "redacting"
    assert "読".encode() in body, "plain UTF-8"
    assert "replica" in data


def test_a_body_leaves_out_what_is_not_known() -> None:
    """Goal: no null that means nothing. Method: a blob's first announcement, and a foreign key."""
    assert isinstance(_CHANGE, ChangeAnnounced)
    blob = replace(
        _CHANGE, key="public/blobs/" + "0" * 64, name=None, replica=None, reason=None, copies=()
    )
    data = json.loads(render(blob, 1, 0))["data"]
    assert not {"name", "replica", "reason", "uuid", "version"} & data.keys()
    assert data["kind"] == "blob"
    assert "kind" not in json.loads(render(replace(blob, key="x"), 1, 0))["data"]


def test_a_secret_opens_with_its_key_for_its_hook_alone() -> None:
    """Goal: the topic is read by many. Method: another key, another hook, a flipped bit."""
    seal = Seal(Secret("key"))
    sealed = seal.close("whsec_x", "h1")
    assert b"whsec_x" not in sealed
    assert seal.close("whsec_x", "h1") != sealed, "never the same twice"
    assert seal.open(sealed, "h1") == Seal(Secret("key")).open(sealed, "h1") == "whsec_x"
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for other, data, hook in (
        (Seal(Secret("k2")), sealed, "h1"),
        (seal, sealed, "h2"),
        (seal, flipped, "h1"),
    ):
        with pytest.raises(ValueError, match="sealed with another key"):
            other.open(data, hook)


def test_without_a_key_there_are_no_hooks() -> None:
    """Goal: no secret lies open by accident. Method: a store without a seal key."""
    with pytest.raises(Problem) as caught:
        Seal(Secret("")).close("x", "h")
    assert caught.value.status == 501
    assert "seal_key" in caught.value.hint
