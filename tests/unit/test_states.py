"""streams/states.py and streams/copies.py over a real view that a test feeds by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.property.stage import MemoryLog, MemoryView
from tests.unit.made import KEY, copy

from tidestore.schemas.events import (
    CopyChanged,
    CopyState,
    PartitionClaimed,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.streams import states as states_module
from tidestore.streams.copies import CopiesFold, CopiesQueries, FoldNotes
from tidestore.streams.plan import SMALL_BYTES_MAX
from tidestore.streams.states import KnownStates

_TOPIC = "copies"
_UUID = "6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d"
_FILE = f"public/files/{_UUID}.2026-11-23T120000.000000Z"


@dataclass(slots=True)
class Bench:
    """A view of one replica's copies, and what its fold said."""

    log: MemoryLog
    view: MemoryView
    notes: list[FoldNotes] = field(default_factory=list)

    def say(self, record: CopyChanged, partition: int = 0) -> int:
        return self.log.append(_TOPIC, partition, record.key, record)

    def fold(self) -> FoldNotes:
        self.notes.clear()
        self.view.take_all()
        return self.notes[-1] if self.notes else FoldNotes()


@pytest.fixture
def bench() -> Iterator[Bench]:
    log = MemoryLog(2)
    notes: list[FoldNotes] = []
    view = MemoryView(log, CopiesFold(_TOPIC, notes.append), ["redactions", _TOPIC])
    yield Bench(log, view, notes)
    view.tables.close()


def test_what_was_confirmed_is_known_before_the_view_has_it(bench: Bench) -> None:
    """Goal: a file need not wait for its blob's fold. Method: learn, ask, fold, ask again."""
    known = KnownStates(bench.view, _TOPIC)
    assert known.find(KEY) is None
    assert known.find_record(KEY) is None
    record = copy(state=CopyState.PRESENT)
    known.learn(record, 0, bench.say(record))
    assert known.find(KEY) is CopyState.PRESENT
    assert known.states([KEY, "other"]) == {KEY: CopyState.PRESENT}
    bench.fold()
    assert known.find_record(KEY) == record
    assert known._recent == {}, "the view has it now"
    assert known.states([KEY]) == {KEY: CopyState.PRESENT}


def test_the_views_newer_word_beats_an_older_memory(bench: Bench) -> None:
    """Goal: no stale state. Method: another worker's record behind the remembered one, folded."""
    known = KnownStates(bench.view, _TOPIC)
    mine = copy(state=CopyState.PENDING)
    known.learn(mine, 0, bench.say(mine))
    bench.say(copy(state=CopyState.PARKED))
    bench.fold()
    assert known.states([KEY]) == {KEY: CopyState.PARKED}
    assert known.find(KEY) is CopyState.PARKED


def test_memories_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: memory does not grow with the log. Method: sweep at four, folded ones go."""
    monkeypatch.setattr(states_module, "_SWEEP_RECORDS", 4)
    known = KnownStates(bench.view, _TOPIC)
    for number in range(3):
        record = copy(f"k{number}")
        known.learn(record, 0, bench.say(record))
    bench.fold()
    for number in (3, 4):
        record = copy(f"k{number}")
        known.learn(record, 0, bench.say(record))
    assert known._recent.keys() == {"k3", "k4"}
    assert known.find("k0") is CopyState.PRESENT


def test_a_redaction_covers_a_key_and_a_uuid_covers_its_versions(bench: Bench) -> None:
    """Goal: redacted before anything else. Method: by key, by uuid, lifted, older lift."""
    known = KnownStates(bench.view, _TOPIC)
    for target in (KEY, f"public/files/{_UUID}"):
        bench.log.append("redactions", 0, target, RedactionDecided(target, 2, "r", "a", 0, 0))
    bench.fold()
    assert known.is_redacted(KEY)
    assert known.is_redacted(_FILE)
    assert not known.is_redacted(_FILE.replace("6f1c", "0000"))
    assert not known.is_redacted("no key")
    bench.log.append("redactions", 0, KEY, RedactionLifted(KEY, 1, "a", 0))
    bench.fold()
    assert known.is_redacted(KEY), "an older decision was lifted, not this one"
    bench.log.append("redactions", 0, KEY, RedactionLifted(KEY, 2, "a", 0))
    bench.fold()
    assert not known.is_redacted(KEY)


@pytest.mark.parametrize("end", [s for s in CopyState if s.is_settled or s is CopyState.PARKED])
@pytest.mark.parametrize("child_first", [True, False])
def test_a_waiting_parent_is_woken_on_both_edges(
    bench: Bench, end: CopyState, *, child_first: bool
) -> None:
    """Goal: nothing falls between (design point 5). Method: child and parent in both orders."""
    child, parent = copy("child", end), copy("parent", CopyState.WAITING, waits_for="child")
    first, second = ((child, 0), (parent, 1)) if child_first else ((parent, 1), (child, 0))
    bench.say(*first)
    assert bench.fold().wakes == ()
    bench.say(*second)
    assert bench.fold().wakes == ((1, "parent"),)
    assert CopiesQueries(bench.view).waiting_to_wake(1) == ["parent"]
    assert CopiesQueries(bench.view).waiting_to_wake(0) == []


def test_parent_and_child_in_one_batch_wake_each_other(bench: Bench) -> None:
    """Goal: a batch has no blind spot. Method: both records folded at once."""
    bench.say(copy("parent", CopyState.WAITING, waits_for="child"))
    bench.say(copy("child", CopyState.PRESENT))
    assert bench.fold().wakes == ((0, "parent"),)


@pytest.mark.parametrize("state", [CopyState.PENDING, CopyState.WAITING, CopyState.REDACTING])
def test_a_child_that_goes_on_wakes_nobody(bench: Bench, state: CopyState) -> None:
    """Goal: no needless looks. Method: states that are no end."""
    bench.say(copy("parent", CopyState.WAITING, waits_for="child"))
    bench.say(copy("child", state))
    assert bench.fold().wakes == ()
    assert CopiesQueries(bench.view).waiting_to_wake(0) == []


def test_a_parent_parked_with_its_child_wakes_when_the_child_is_there_and_not_before(
    bench: Bench,
) -> None:
    """Goal: a retry of the cause mends its parents, and two parked ones do not spin. Method: both.

    The parent's record may be folded after the child's: then it is the second edge that counts.
    """
    bench.say(copy("child", CopyState.PARKED))
    bench.say(copy("parent", CopyState.PARKED, waits_for="child"))
    assert bench.fold().wakes == ()
    assert CopiesQueries(bench.view).waiting_to_wake(0) == []
    bench.say(copy("child", CopyState.PRESENT))
    assert bench.fold().wakes == ((0, "parent"),)
    bench.say(copy("late", CopyState.PARKED, waits_for="child"))
    assert bench.fold().wakes == ((0, "late"),)
    assert set(CopiesQueries(bench.view).waiting_to_wake(0)) == {"parent", "late"}


def test_a_late_record_is_ignored_and_kept_until_the_right_one_is_said(bench: Bench) -> None:
    """Goal: a frozen worker does no harm, and no word is lost. Method: two claims."""
    queries = CopiesQueries(bench.view)
    bench.log.append(_TOPIC, 0, "!claim/0", PartitionClaimed("a", 0, 0))
    bench.say(copy("k1", claim=0))
    bench.log.append(_TOPIC, 0, "!claim/0", PartitionClaimed("b", 0, 0))
    bench.say(copy("k1", CopyState.PARKED, claim=0))
    bench.say(copy("k2", CopyState.PRESENT, claim=0))
    notes = bench.fold()
    assert list(notes.claims) == [(0, 0, "a"), (0, 2, "b")]
    assert [(place, record.key) for place, record in notes.overruled] == [(0, "k1"), (0, "k2")]
    assert queries.states(["k1", "k2"]) == {"k1": CopyState.PRESENT}
    kept = {record.key: record.state for record in queries.overruled(_TOPIC, 0)}
    assert kept == {"k1": CopyState.PARKED, "k2": CopyState.PRESENT}
    assert queries.overruled(_TOPIC, 1) == []
    bench.say(copy("k2", CopyState.PRESENT, claim=2))
    bench.fold()
    assert [record.key for record in queries.overruled(_TOPIC, 0)] == ["k1"]
    assert queries.states(["k2"]) == {"k2": CopyState.PRESENT}


def test_due_copies_are_found_in_order_on_the_partitions_that_are_asked_for(bench: Bench) -> None:
    """Goal: retries survive a restart. Method: due, not due, another partition, another state."""
    queries = CopiesQueries(bench.view)
    assert queries.next_due_ms([0, 1]) is None
    bench.say(copy("b", CopyState.PENDING, next_try_at_ms=20))
    bench.say(copy("a", CopyState.PENDING, next_try_at_ms=10))
    bench.say(copy("later", CopyState.PENDING, next_try_at_ms=99))
    bench.say(copy("c", CopyState.PENDING, next_try_at_ms=5), 1)
    bench.say(copy("parked", CopyState.PARKED))
    assert bench.fold().has_pending

    def due(partitions: list[int], limit: int, *, is_large: bool = False) -> list[str]:
        found = queries.due(partitions, 50, limit, is_large=is_large)
        return [record.key for record in found]

    assert due([0], 10) == ["a", "b"]
    assert due([0, 1], 2) == ["c", "a"]
    assert (queries.next_due_ms([0]), queries.next_due_ms([0, 1])) == (10, 5)
    bench.say(copy("large", CopyState.PENDING, next_try_at_ms=1, size=SMALL_BYTES_MAX + 1))
    bench.say(copy("most", CopyState.PENDING, next_try_at_ms=2, size=SMALL_BYTES_MAX))
    bench.fold()
    assert (due([0], 1), due([0], 9, is_large=True)) == (["most"], ["large"])
    assert queries.next_due_ms([0]) == 1


def test_many_keys_are_asked_in_portions(bench: Bench) -> None:
    """Goal: a bundle of thousands is one question. Method: more keys than one statement takes."""
    keys = [f"k{number}" for number in range(1_201)]
    for key in keys:
        bench.say(copy(key))
    bench.fold()
    assert CopiesQueries(bench.view).states([*keys, "unknown"]) == dict.fromkeys(
        keys, CopyState.PRESENT
    )
