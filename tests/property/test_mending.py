"""Findings carried out by the product's own worker over a log in memory, whoever dies when."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from tests.property.stage import StagedStore, modules_with_a_clock
from tests.property.worker import COPIES, FINDINGS, Worker
from tests.property.world import Objects, new_stage

from tidestore.connectors import holdings
from tidestore.schemas.checksums import checksums_of, checksums_text
from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.schemas.findings import FindingReported
from tidestore.schemas.objects import PUBLIC, ObjectKey, blob_key
from tidestore.schemas.topics import retry_key

# More turns of the loop than a repair takes.
_TURNS = 40
_BAD = b"not what was written".ljust(60)


class Stage:
    """One blob, present on `onprem`, and a worker that holds everything."""

    def __init__(self) -> None:
        self.clock, self.loop, self.log = new_stage(1)
        self.target, self.origin = StagedStore("onprem"), StagedStore("aws")
        self.objects = Objects(self.loop, self.log, self.origin)
        self.key = self.objects.add_blob(60, is_inline=True)
        self.log.on_append = self._follow
        self.worker: Worker | None = None

    def start(self) -> Worker:
        self.worker = worker = Worker(self.loop, self.log, self.target, [self.origin])
        worker.view.take_all()
        worker.assign({0})
        self.loop.pass_time(1)
        worker.deliver(0, 100)
        self.loop.pass_time(1)
        return worker

    def kill(self) -> None:
        """SIGKILL."""
        worker, self.worker = self.worker, None
        assert worker is not None
        worker.kill()

    def damage(self, kind: str) -> None:
        """Behind our back."""
        key = ObjectKey(self.key)
        self.target.memory._objects.pop(key)
        if kind != "lost":
            # A store tells of rotten bytes what it was told of the whole ones.
            said = self.objects.bodies[self.key] if kind == "rotten" else _BAD
            self.target.memory._store(key, _BAD, checksums_of(said))

    def finding(self, kind: str, **changes: Any) -> FindingReported:
        """About the copy's newest record."""
        copy = self.copy()
        stored = self.target.memory._objects.get(ObjectKey(self.key))
        values: dict[str, Any] = {
            "key": self.key, "replica": "onprem", "incarnation": 1, "kind": kind,
            "changed_at_ms": copy.changed_at_ms, "log_offset": 0, "size": copy.size,
            "sha256": copy.sha256, "content_type": "x/y",
            "checksums": checksums_text(checksums_of(self.objects.bodies[self.key])),
            "origin": "aws", "written_at_ms": 0, "scrub_id": "s", "found_at_ms": 1,
            "first_found_at_ms": 1, "seen_etag": stored.info.etag if stored else "",
        }  # fmt: skip
        return FindingReported(**{**values, **changes})

    def say(self, finding: FindingReported) -> None:
        """As a comparison does."""
        key = retry_key(finding.replica, finding.incarnation, finding.key)
        self.log.append(FINDINGS, 0, key, finding)

    def copy(self) -> CopyChanged:
        return self.log.accepted(COPIES)[self.key]

    def history(self) -> list[CopyState]:
        return [record.state for record in self.log.accepted_ever(COPIES)]

    def is_whole(self) -> bool:
        stored = self.target.memory._objects.get(ObjectKey(self.key))
        return stored is not None and stored.body == self.objects.bodies[self.key]

    def aside(self, word: str) -> list[bytes]:
        """What is kept under a prefix of ours."""
        found = self.target.memory._objects.items()
        return [stored.body for key, stored in found if key.startswith(f".tidestore/{word}/")]

    def _follow(self) -> None:
        # The view's thread is at once with everything.
        if self.worker is not None:
            self.loop.call_soon(self.worker.view.take_all)


@contextlib.contextmanager
def make_stage() -> Iterator[Stage]:
    found = Stage()
    patches: list[Any] = [
        patch.object(module, "time", found.clock) for module in (*modules_with_a_clock(), holdings)
    ]
    for item in patches:
        item.start()
    try:
        yield found
    finally:
        if found.worker is not None:
            found.kill()
        for item in patches:
            item.stop()
        found.loop.close()


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
            assert stage.aside("damaged") == ([] if kind == "lost" else [_BAD])
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
    stage.origin.memory._store(ObjectKey(stage.key), _BAD, checksums_of(_BAD))
    stage.say(stage.finding("rotten"))
    stage.loop.pass_time(1)
    assert stage.copy().state is CopyState.CORRUPT
    assert stage.copy().attempts >= 1
    stage.loop.pass_time(300)
    assert stage.copy().state is CopyState.PARKED
    assert set(stage.history()[1:-1]) == {CopyState.CORRUPT}
    assert stage.target.memory._objects[ObjectKey(stage.key)].body == _BAD


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
