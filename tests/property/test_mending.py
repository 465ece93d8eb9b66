"""Findings carried out by the product's own worker over a log in memory, whoever dies when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.property.one_copy import BAD, Stage, make_stage
from tests.property.worker import COPIES

from tidestore.connectors.errors import StoreUnreachableError
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import CopyState
from tidestore.schemas.findings import FindingReported
from tidestore.schemas.objects import PUBLIC, ObjectKey, blob_key
from tidestore.streams import mending
from tidestore.streams.failure import DAMAGED

# More turns of the loop than a repair takes.
_TURNS = 40


@pytest.fixture
def stage() -> Iterator[Stage]:
    with make_stage() as found:
        yield found


@pytest.mark.parametrize("kind", ["lost", "altered", "rotten"])
def test_damage_is_mended_whenever_the_owner_is_killed(kind: str) -> None:
    """Goal: every crash point of a repair. Method: SIGKILL after each turn of the loop, in turn.

    The next owner finds what is left to do; nobody hands it over again. What was bad is kept, and
    whoever read in between read `corrupt`, never wrong bytes called present again.
    """
    points = set()
    for turns in range(_TURNS):
        with make_stage() as stage:
            stage.start()
            stage.damage(kind)
            stage.say(stage.finding(kind))
            stage.loop.spin(turns)
            stage.kill()
            points.add((tuple(stage.history()), stage.is_whole(), len(stage.aside("damaged"))))
            stage.start()
            stage.loop.pass_time(30)
            assert stage.is_whole(), turns
            assert stage.history()[0] is CopyState.PRESENT
            assert stage.history()[-1] is CopyState.PRESENT
            assert CopyState.CORRUPT in stage.history()
            assert stage.aside("damaged") == ([] if kind == "lost" else [BAD])
    assert len(points) >= 3, "the kills fell between the steps"


def test_a_finding_that_comes_twice_or_late_does_nothing(stage: Stage) -> None:
    """Goal: a finding is about one record. Method: the same again, one about an older record."""
    stage.start()
    stage.damage("lost")
    finding = stage.finding("lost")
    stage.say(finding)
    stage.loop.pass_time(5)
    assert stage.history() == [CopyState.PRESENT, CopyState.CORRUPT, CopyState.PRESENT]
    stage.say(finding)
    stage.say(stage.finding("altered", changed_at_ms=5))
    stage.say(stage.finding("lost", replica="gcp"))
    stage.say(stage.finding("lost", incarnation=2))
    stage.loop.pass_time(5)
    assert len(stage.history()) == 3


def test_what_no_replica_has_stays_corrupt_then_is_parked_and_the_bad_bytes_stay(
    stage: Stage,
) -> None:
    """Goal: nothing is made worse for want of a source. Method: the only source is bad, too.

    It is not called pending, which would let a later try believe the store's word.
    """
    stage.start()
    stage.damage("rotten")
    stage.origin.memory._store(ObjectKey(stage.key), BAD, checksums_of(BAD))
    stage.say(stage.finding("rotten"))
    stage.loop.pass_time(1)
    assert stage.copy().state is CopyState.CORRUPT
    assert stage.copy().attempts >= 1
    stage.loop.pass_time(300)
    assert stage.copy().state is CopyState.PARKED
    assert set(stage.history()[1:-1]) == {CopyState.CORRUPT}
    assert stage.target.memory._objects[ObjectKey(stage.key)].body == BAD


def park_damaged(stage: Stage) -> None:
    """A rotten copy, whose only source is bad as well: tried in vain until it is parked."""
    stage.start()
    stage.damage("rotten")
    stage.origin.memory._objects.pop(ObjectKey(stage.key))
    stage.origin.memory._store(ObjectKey(stage.key), BAD, checksums_of(BAD))
    stage.say(stage.finding("rotten"))
    stage.loop.pass_time(301)
    assert (stage.copy().state, stage.copy().error_class) == (CopyState.PARKED, DAMAGED)


@pytest.mark.parametrize("is_source_down", [False, True])
def test_a_retry_of_what_was_parked_as_rotten_reads_it_back_before_it_says_present(
    stage: Stage, *, is_source_down: bool
) -> None:
    """Goal: a store that vouches for rotten bytes is not believed. Method: retry, source still bad.

    The target's own checksum is the right one, its bytes are not. A first try that fails for the
    network's sake must not make the next one forget what it is about. With a good source it heals.
    """
    park_damaged(stage)
    if is_source_down:
        stage.target.failure = StoreUnreachableError("head", "onprem", stage.key)
    stage.say(stage.request())
    stage.loop.pass_time(1)
    stage.target.failure = None
    stage.loop.pass_time(300)
    assert CopyState.PRESENT not in stage.history()[1:]
    assert (stage.copy().state, stage.copy().error_class) == (CopyState.PARKED, DAMAGED)
    stage.origin.memory._objects.pop(ObjectKey(stage.key))
    body = stage.objects.bodies[stage.key]
    stage.origin.memory._store(ObjectKey(stage.key), body, checksums_of(body))
    stage.say(stage.request())
    stage.loop.pass_time(5)
    assert stage.copy().state is CopyState.PRESENT
    assert stage.is_whole()
    assert stage.aside("damaged") == [BAD]


def test_a_retry_of_a_damaged_copy_survives_its_worker() -> None:
    """Goal: asked for once, done once. Method: SIGKILL after each turn of the loop, in turn.

    Made right meanwhile by a person: read back, found right, present, nothing replaced.
    """
    ended = set()
    for turns in range(0, 16, 3):
        with make_stage() as each:
            park_damaged(each)
            body = each.objects.bodies[each.key]
            each.target.memory._objects.pop(ObjectKey(each.key))
            each.target.memory._store(ObjectKey(each.key), body, checksums_of(body))
            each.say(each.request())
            each.loop.spin(turns)
            each.kill()
            ended.add(each.history()[-1])
            each.start()
            each.loop.pass_time(30)
            assert each.history()[-1] is CopyState.PRESENT, turns
            assert each.is_whole()
    assert len(ended) >= 2, "the kills fell between the steps"


def test_a_false_finding_costs_a_look_and_changes_no_bytes(stage: Stage) -> None:
    """Goal: R7, a listing is no proof. Method: call a whole object lost, altered and rotten."""
    stage.start()
    before = stage.target.memory._objects[ObjectKey(stage.key)]
    for kind in ("lost", "altered", "rotten"):
        stage.say(stage.finding(kind))
        stage.loop.pass_time(5)
        assert stage.copy().state is CopyState.PRESENT
    assert stage.target.memory._objects[ObjectKey(stage.key)] is before
    assert stage.aside("damaged") == []


def test_a_redacted_object_is_not_brought_back_by_a_finding(stage: Stage) -> None:
    """Goal: a redaction beats repair. Method: lost, and redacted before the owner gets to it."""
    stage.start()
    stage.damage("lost")
    finding = stage.finding("lost")
    stage.objects.redact(stage.key)
    stage.say(finding)
    stage.loop.pass_time(30)
    assert not stage.target.holds(stage.key)
    assert CopyState.CORRUPT not in stage.history()


def test_what_was_redacted_and_is_still_there_is_removed(stage: Stage) -> None:
    """Goal: unfinished redactions. Method: decided, removed, and put there again by somebody."""
    worker = stage.start()
    stage.objects.redact(stage.key)
    worker.deliver(0, 100)
    stage.loop.pass_time(3_600)
    assert stage.copy().state is CopyState.REDACTED
    assert not stage.target.holds(stage.key)
    body = stage.objects.bodies[stage.key]
    stage.target.memory._store(ObjectKey(stage.key), body, checksums_of(body))
    stage.say(stage.finding("unredacted"))
    stage.loop.pass_time(30)
    assert not stage.target.holds(stage.key)


def test_an_old_dark_object_is_moved_aside_and_a_known_one_never(stage: Stage) -> None:
    """Goal: quarantine keeps the bytes. Method: unknown; known meanwhile; another one meanwhile."""
    stage.start()
    for body, is_moved in ((b"dark", True), (b"replaced since", False)):
        key = blob_key(PUBLIC, checksums_of(body).sha256)
        info = stage.target.memory._store(key, body, checksums_of(body))
        etag = info.etag if is_moved else "another"
        stage.say(stage.finding("quarantine", key=key, changed_at_ms=0, seen_etag=etag))
        stage.loop.pass_time(5)
        assert stage.target.holds(key) is not is_moved
    assert stage.aside("quarantine") == [b"dark"]
    stage.say(stage.finding("quarantine"))
    stage.say(stage.finding("quarantine", changed_at_ms=0))
    stage.loop.pass_time(5)
    assert stage.is_whole(), "it has a record"


def test_an_order_to_move_aside_that_waited_for_its_worker_is_not_carried_out(
    stage: Stage,
) -> None:
    """Goal: a paused replica that is resumed. Method: an order of two hours ago, a worker's start.

    The log may know the object by now, and gateways may write here. The next comparison tells.
    """
    key = blob_key(PUBLIC, checksums_of(b"dark").sha256)
    info = stage.target.memory._store(key, b"dark", checksums_of(b"dark"))
    stage.start()
    order = stage.finding("quarantine", key=key, changed_at_ms=0, seen_etag=info.etag)
    stage.kill()
    stage.say(order)
    stage.loop.pass_time(7_200)
    stage.start()
    stage.loop.pass_time(30)
    assert stage.target.holds(key)
    stage.say(replace(order, found_at_ms=int(stage.clock.now * 1000)))
    stage.loop.pass_time(5)
    assert not stage.target.holds(key)


def suspect(stage: Stage, **changes: object) -> FindingReported:
    """What a worker of another replica says: it knows nothing of the copy's records."""
    return stage.finding("suspected", changed_at_ms=0, seen_etag="", **changes)


def test_a_suspected_copy_is_mended_whenever_its_owner_is_killed() -> None:
    """Goal: every crash point. Method: rotten, told by somebody else, SIGKILL after each turn."""
    points = set()
    for turns in range(0, _TURNS, 2):
        with make_stage() as each:
            each.start()
            each.damage("rotten")
            each.say(suspect(each))
            each.loop.spin(turns)
            each.kill()
            points.add((tuple(each.history()), each.is_whole()))
            each.start()
            each.loop.pass_time(30)
            assert each.is_whole(), turns
            assert each.history()[-1] is CopyState.PRESENT
            assert CopyState.CORRUPT in each.history()
            assert each.aside("damaged") == [BAD]
    assert len(points) >= 3, "the kills fell between the steps"


def test_a_suspicion_costs_a_read_and_proves_nothing(stage: Stage) -> None:
    """Goal: what others say is looked at, never believed. Method: right; gone; redacted; old.

    One that is right stays present without a record; one that is gone is copied again.
    """
    stage.start()
    stage.say(suspect(stage))
    stage.loop.pass_time(5)
    assert stage.history() == [CopyState.PRESENT]
    stage.damage("rotten")
    stage.say(suspect(stage, found_at_ms=int(stage.clock.now * 1000) - 25 * 3_600_000))
    stage.loop.pass_time(5)
    assert stage.history() == [CopyState.PRESENT], "a comparison has looked since"
    stage.damage("lost")
    stage.say(suspect(stage))
    stage.loop.pass_time(5)
    assert stage.history() == [CopyState.PRESENT, CopyState.CORRUPT, CopyState.PRESENT]
    assert stage.is_whole()
    stage.damage("rotten")
    stage.objects.redact(stage.key)
    stage.say(suspect(stage))
    stage.loop.pass_time(5)
    assert stage.history().count(CopyState.CORRUPT) == 1


def test_however_many_findings_there_are_few_are_held_and_all_are_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: any number of findings. Method: bounds of a few, forty lost, a kill in the middle."""
    monkeypatch.setattr(mending, "_ASKED_MAX", 6)
    monkeypatch.setattr(mending, "_PORTION", 4)
    with make_stage() as stage:
        keys = [stage.objects.add_blob(60, is_inline=True) for _ in range(40)]
        worker = stage.start()
        records = stage.log.accepted(COPIES)
        for key in keys:
            stage.target.memory._objects.pop(ObjectKey(key))
            copy = records[key]
            stage.say(
                stage.finding(
                    "lost", key=key, changed_at_ms=copy.changed_at_ms, sha256=copy.sha256,
                    checksums=copy.checksums,
                )
            )  # fmt: skip
        held = []
        for _ in range(12):
            stage.loop.spin(1)
            held.append(len(worker.mender._asked))
        assert 0 < max(held) <= 6
        stage.kill()
        done = sum(stage.target.holds(key) for key in keys)
        assert done < 40, "the kill came too late to be one"
        stage.start()
        stage.loop.pass_time(30)
        assert all(stage.target.holds(key) for key in keys)
        assert {stage.log.accepted(COPIES)[key].state for key in keys} == {CopyState.PRESENT}
