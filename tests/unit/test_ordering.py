"""streams/ordering.py: ready, blocked by one child, or parked with one."""

from __future__ import annotations

import random

import pytest

from tidestore.schemas.events import CopyState
from tidestore.streams.ordering import Blocked, ChildParked, Ready, readiness

_SETTLED = [state for state in CopyState if state.is_settled]
_OPEN = [s for s in CopyState if not s.is_settled and s is not CopyState.PARKED]


def test_nothing_to_wait_for_is_ready() -> None:
    """Goal: an empty bundle appears. Method: no children."""
    assert readiness("p", [], {}) == Ready(is_incomplete=False)


@pytest.mark.parametrize("state", _SETTLED)
def test_settled_children_let_their_parent_appear(state: CopyState) -> None:
    """Goal: R5, and the parent says what is missing. Method: each settled state beside present."""
    states = {"a": CopyState.PRESENT, "b": state}
    assert readiness("p", ["a", "b"], states) == Ready(state is not CopyState.PRESENT)


@pytest.mark.parametrize("state", [*_OPEN, None])
def test_an_open_child_blocks(state: CopyState | None) -> None:
    """Goal: R5. Method: each state that is not settled, and no state at all."""
    states = {"a": CopyState.PRESENT}
    if state is not None:
        states["b"] = state
    assert readiness("p", ["a", "b"], states) == Blocked("b", 1)


def test_a_parked_child_parks_its_parent_with_its_name() -> None:
    """Goal: a person reads the cause. Method: one parked child among open and present ones."""
    states = {"a": CopyState.PENDING, "b": CopyState.PARKED, "c": CopyState.PRESENT}
    assert readiness("p", ["a", "b", "c"], states) == ChildParked("b")
    assert readiness("p", ["b", "a", "c"], states) == ChildParked("b")


def test_the_awaited_child_is_the_same_each_time_and_counts_are_right() -> None:
    """Goal: a restart waits for the same child. Method: the children in two orders."""
    children = [f"child{number}" for number in range(50)]
    found = readiness("p", children, {})
    assert isinstance(found, Blocked)
    assert found.count == 50
    assert readiness("p", children[::-1], {}) == found
    others = {readiness(f"p{number}", children, {}) for number in range(20)}
    assert len(others) > 5, "manifests do not all wait for one child"


def test_a_bundle_of_ten_thousand_is_looked_at_about_fourteen_times() -> None:
    """Goal: waiting costs a logarithm. Method: settle children in a random order, count looks."""
    chance = random.Random(4)
    children = [f"public/files/{number:08x}" for number in range(10_000)]
    order = children.copy()
    chance.shuffle(order)
    place = {child: number for number, child in enumerate(order)}
    states: dict[str, CopyState] = {}
    looks, settled = 0, 0
    while True:
        looks += 1
        found = readiness("public/bundles/x", children, states)
        if isinstance(found, Ready):
            break
        assert isinstance(found, Blocked)
        upto = place[found.child] + 1  # it settles, and so has whatever came before it
        states.update((child, CopyState.PRESENT) for child in order[settled:upto])
        settled = upto
    assert settled == 10_000
    assert looks <= 40
