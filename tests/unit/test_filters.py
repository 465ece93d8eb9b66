"""Filters of replicas, as far as they are pure: what is a root, who is waited for, what is due."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from tests.golden.samples import SAMPLES

from tidestore.api.waits import Asked
from tidestore.connectors.credentials import NoKeyring
from tidestore.connectors.directory import Known, served
from tidestore.connectors.view import Folded
from tidestore.local.compare import chosen_contents
from tidestore.schemas.events import (
    ChangeAnnounced,
    CopyChanged,
    CopyState,
    ObjectWritten,
    ReplicaRegistered,
)
from tidestore.schemas.filters import EVERYTHING, ReplicaFilter
from tidestore.schemas.objects import Kind, MalformedError
from tidestore.streams.feeds_view import FeedsFold
from tidestore.streams.ordering import Blocked, Ready, readiness
from tidestore.streams.plan import CopyLater, CopyNow, Exclude, Nothing, Plan, plan_object

BLOB = "lab/blobs/" + 64 * "a"
FILE = "lab/files/6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d.2026-11-23T120000.000001Z"
BUNDLE = FILE.replace("files", "bundles")


def test_a_filter_is_read_and_spelled_in_one_way() -> None:
    """Goal: what a person writes is what is recorded. Method: there and back, in any order."""
    found = ReplicaFilter.parse("kind=bundles,file  dataset=public,lab kind=bundle")
    assert found == ReplicaFilter(frozenset({"lab", "public"}), frozenset({Kind.FILE, Kind.BUNDLE}))
    assert str(found) == "dataset=lab,public kind=file,bundle"
    assert ReplicaFilter.parse(str(found)) == found
    assert ReplicaFilter.parse("") == EVERYTHING
    assert str(EVERYTHING) == ""


@pytest.mark.parametrize(
    "text", ["dataset", "dataset=", "kind=folder", "size=3", "lab", "dataset=No Such", "x" * 1001]
)
def test_a_filter_that_is_not_understood_is_refused(text: str) -> None:
    """Goal: a typing error chooses nothing by accident. Method: such errors."""
    with pytest.raises(MalformedError):
        ReplicaFilter.parse(text)


@pytest.mark.parametrize(
    ("text", "is_root", "may_hold"),
    [
        ("", (True, True, True), True),
        ("dataset=lab", (True, True, True), True),
        ("dataset=public", (False, False, False), False),
        ("kind=bundle", (False, False, True), True),
        ("dataset=lab,public kind=file", (False, True, False), True),
        ("dataset=public kind=file", (False, False, False), False),
    ],
)
def test_roots_are_chosen_by_dataset_and_kind(
    text: str, is_root: tuple[bool, bool, bool], *, may_hold: bool
) -> None:
    """Goal: both together. Method: a blob, a file and a bundle of `lab` through filters."""
    chosen = ReplicaFilter.parse(text)
    assert tuple(chosen.is_root(key) for key in (BLOB, FILE, BUNDLE)) == is_root
    assert {chosen.may_hold(key) for key in (BLOB, FILE, BUNDLE)} == {may_hold}


def plan(text: str, state: CopyState | None, **more: Any) -> Plan:
    sample = SAMPLES["object_written.v1"]
    assert isinstance(sample, ObjectWritten)
    event = replace(sample, key=FILE, origin="aws")
    chosen = ReplicaFilter.parse(text)
    return plan_object(
        event, replica=more.pop("replica", "gcp"), state=state, is_redacted=False, chosen=chosen,
        **more,
    )  # fmt: skip


def test_what_is_no_root_is_excluded_once_and_stays_what_it_became() -> None:
    """Goal: a repeated event undoes nothing. Method: the plan by filter and state."""
    assert isinstance(plan("dataset=public", None), Exclude)
    assert isinstance(plan("kind=bundle", None), Exclude)
    assert isinstance(plan("kind=file", None), (CopyNow, CopyLater))
    for state in CopyState:
        assert isinstance(plan("kind=bundle", state), Nothing), state
    assert isinstance(plan("kind=bundle", None, replica="aws"), Nothing)


def test_a_lift_brings_back_only_what_may_be_there() -> None:
    """Goal: no byte of another dataset comes by a lift. Method: lifted, by filter."""
    gone = CopyState.REDACTED
    assert isinstance(plan("kind=bundle", gone, is_lifted=True), CopyLater)
    assert isinstance(plan("dataset=public", gone, is_lifted=True), Exclude)


def test_an_excluded_child_is_waited_for_and_named_first_where_it_is_taken_in() -> None:
    """Goal: a root waits for what it names. Method: the same children with and without."""
    states = {"a": CopyState.PENDING, "b": CopyState.EXCLUDED, "c": CopyState.PRESENT}
    assert readiness("p", "abc", states, takes_in=True) == Blocked("b", 2)
    assert readiness("p", "abc", states) == Blocked("a", 1)
    assert readiness("p", "bc", states) == Ready(is_incomplete=True)
    assert readiness("p", "bc", states, takes_in=True) == Blocked("b", 1)


def test_a_wait_for_all_passes_over_the_excluded_and_a_hopeless_one_ends() -> None:
    """Goal: nobody waits for what never comes. Method: every way to ask, of three replicas."""
    all_, two, three = Asked(3, 9, is_everywhere=True), Asked(2, 9), Asked(3, 9)
    named = Asked(3, 9, "berlin")
    assert all_.is_met({"a", "b"}, {"berlin"})
    assert not all_.is_met({"a"}, {"berlin"})
    assert not all_.is_in_vain(3, {"berlin"})
    assert two.is_met({"a", "b"}, {"berlin"})
    assert not two.is_in_vain(3, {"berlin"})
    assert not three.is_met({"a", "b"}, {"berlin"})
    assert three.is_in_vain(3, {"berlin"})
    assert not named.is_met({"a", "b"}, {"berlin"})
    assert named.is_in_vain(3, {"berlin"})
    assert not named.is_in_vain(3, {"a"})


def test_what_is_due_on_a_filtered_replica_does_not_follow_its_own_word_alone() -> None:
    """Goal: verify finds a root that was left out wrongly. Method: workers that excluded too much.

    A file that no known manifest names, and that came all the same, is due as well: its bundle may
    be too large to ride in the log.
    """
    other = FILE.replace("6f1c", "7f1c")
    everything = {key: (1, key) for key in (BLOB, FILE, BUNDLE, other)}
    children = {BUNDLE: [FILE], FILE: [BLOB]}
    chosen = ReplicaFilter.parse("kind=bundle")
    assert chosen_contents(everything, chosen, children, set(everything)).keys() == {
        BLOB, FILE, BUNDLE,
    }  # fmt: skip
    assert chosen_contents(everything, chosen, children, set()) == everything


def test_a_filter_of_a_newer_release_is_not_served_as_if_it_were_open() -> None:
    """Goal: what was excluded does not come. Method: a record with words that we do not know."""

    def record(text: str) -> Known:
        return Known(ReplicaRegistered("n", 1, "memory://n", 1, filter=text), 1)

    assert served([], {"n": record("size=small")}, NoKeyring()) == {}
    assert str(served([], {"n": record("kind=file")}, NoKeyring())["n"].filter) == "kind=file"


@pytest.mark.parametrize("is_said_first", [True, False])
def test_the_feed_owes_nothing_for_what_was_excluded_after_it_was_everywhere(
    *, is_said_first: bool
) -> None:
    """Goal: a late replica's filter leaves no debt. Method: fold its word before or after."""
    change = SAMPLES["change_announced.v1"]
    assert isinstance(change, ChangeAnnounced)
    change = replace(change, key=FILE, claim=0, is_everywhere=True, copies=())
    copy = SAMPLES["copy_changed.v2"]
    assert isinstance(copy, CopyChanged)
    copy = replace(copy, key=FILE, claim=0, replica="late", state=CopyState.EXCLUDED)
    events: list[ChangeAnnounced | CopyChanged] = [change, copy]
    if not is_said_first:
        events.reverse()
    db = sqlite3.connect(":memory:")
    db.row_factory = sqlite3.Row
    fold = FeedsFold(lambda _: None, lambda _: None, lambda _: None)
    fold.create(db)

    def owed(event: ChangeAnnounced | CopyChanged) -> int:
        topic = "changes.lab" if isinstance(event, ChangeAnnounced) else "copies.late.1"
        fold.fold(db, [Folded(topic, 0, 1, FILE, event, 0, "")])
        return int(db.execute("SELECT count(*) FROM owed").fetchone()[0])

    assert [owed(event) for event in events][-1] == 0
    present = replace(copy, state=CopyState.PRESENT)
    assert owed(present) == 1, "that it came after all is to be said"
