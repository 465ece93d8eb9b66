"""R5 on the product's own worker: a manifest appears only after all its children are settled.

Objects and manifests come in any order on several partitions; stores fail, objects are parked,
retried, excluded, redacted; the process dies at any moment and starts again from what was
committed, with its view or without it. Watched at every single put: R5. Watched at every step: R6.
At the end, when everything is mended: nothing waits for ever, and no lie is left in the records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.property.stage import StagedStore, modules_with_a_clock
from tests.property.worker import COPIES, LOG, Worker
from tests.property.world import Objects, new_stage

from tidestore.connectors.errors import (
    ChecksumMismatchError,
    StoreUnreachableError,
    UnsupportedError,
)
from tidestore.schemas.events import CopyState
from tidestore.schemas.objects import Kind
from tidestore.streams import intake, plan, sources
from tidestore.streams.records import fresh

# Many short runs; a machine that is shared is slow.
pytestmark = pytest.mark.timeout(300)

_PARTITIONS = 3
# What is "large" here, so that the lane for large objects is on the way of some blobs.
_SMALL_BYTES_MAX = 2_000
_ROUNDS_MAX = 40
# The sweep of copies that take long, seldom enough that hours of it cost little.
_SWEEP_SECONDS = 2.5
# Longer than any wait of streams/backoff.py and than the lease of a copy that hangs.
_LONGEST_WAIT_SECONDS = 301.0
_partition = st.integers(0, _PARTITIONS - 1)


class OrderingMachine(RuleBasedStateMachine):
    """One worker of the replica `onprem`; the origin is `aws`."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.loop, self.log = new_stage(_PARTITIONS)
        self._patches: list[Any] = [
            patch.object(module, "time", self.clock) for module in modules_with_a_clock()
        ]
        self._patches += [
            patch.object(module, "SMALL_BYTES_MAX", _SMALL_BYTES_MAX) for module in (plan, sources)
        ]
        self._patches.append(patch.object(intake, "_SWEEP_SECONDS", _SWEEP_SECONDS))
        for item in self._patches:
            item.start()
        self.target = StagedStore("onprem", self._saw_put)
        self.origin = StagedStore("aws")
        self.objects = Objects(self.loop, self.log, self.origin)
        self.too_early: list[str] = []
        self.committed: dict[int, int] = {}
        self.worker = self._start(None)

    def _start(self, tables: Any) -> Worker:
        worker = Worker(
            self.loop,
            self.log,
            self.target,
            [self.origin],
            tables=tables,
            committed=self.committed,
        )
        worker.assign(set(range(_PARTITIONS)))
        return worker

    def _saw_put(self, key: str) -> None:
        for child in self.objects.children.get(key, ()):
            if not self.objects.settled(child, self.target):
                self.too_early.append(f"{key} appeared before {child}")

    # What writers do.

    @initialize(data=st.data())
    def write_a_tree(self, data: st.DataObject) -> None:
        """Something to order in every run: blobs, files of them, a bundle, a collection."""
        inline = st.booleans()
        for _ in range(3):
            blob = self.objects.add_blob(50, is_inline=data.draw(inline))
            self.objects.add_file(blob, is_inline=data.draw(inline))
        old = self.objects.add_blob_here(self.target)
        self.objects.add_file(old, is_inline=data.draw(inline))
        bundle = self.objects.add_bundle(self.objects.keys(Kind.FILE), is_inline=data.draw(inline))
        self.objects.add_collection([bundle, *self.objects.keys(Kind.BLOB)[:1]], is_inline=True)

    @rule(is_large=st.booleans(), is_inline=st.booleans())
    def write_blob(self, is_large: bool, is_inline: bool) -> None:  # noqa: FBT001
        size = 3_000 if is_large else 50
        self.objects.add_blob(size, is_inline=is_inline and not is_large)

    @precondition(lambda self: self.objects.keys(Kind.BLOB))
    @rule(data=st.data(), is_inline=st.booleans())
    def write_file(self, data: st.DataObject, is_inline: bool) -> None:  # noqa: FBT001
        blob = data.draw(st.sampled_from(self.objects.keys(Kind.BLOB)))
        self.objects.add_file(blob, is_inline=is_inline)

    @precondition(lambda self: self.objects.keys(Kind.FILE))
    @rule(data=st.data(), is_inline=st.booleans())
    def write_bundle(self, data: st.DataObject, is_inline: bool) -> None:  # noqa: FBT001
        keys = self.objects.keys(Kind.FILE)
        files = data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=4, unique=True))
        self.objects.add_bundle(files, is_inline=is_inline)

    @precondition(lambda self: self.objects.keys())
    @rule(data=st.data())
    def write_collection(self, data: st.DataObject) -> None:
        keys = self.objects.keys()
        members = data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=4, unique=True))
        self.objects.add_collection(members, is_inline=True)

    @rule(data=st.data(), partition=_partition)
    def append_again(self, data: st.DataObject, partition: int) -> None:
        offsets = [offset for offset, _ in self.log.read(LOG, partition, 0)]
        if offsets:
            records = self.log.of(LOG, partition)
            records.append(records[data.draw(st.sampled_from(offsets))])

    # What Kafka, stores and people do.

    @rule(partition=_partition, limit=st.integers(1, 5), turns=st.integers(0, 30))
    def deliver(self, partition: int, limit: int, turns: int) -> None:
        self.worker.deliver(partition, limit)
        self.loop.spin(turns)

    @rule(partition=_partition, limit=st.integers(1, 5), turns=st.integers(0, 30))
    def fold(self, partition: int, limit: int, turns: int) -> None:
        self.worker.view.take("redactions", 0)
        self.worker.view.take(COPIES, partition, limit)
        self.loop.spin(turns)

    @rule()
    def fold_all(self) -> None:
        self.worker.view.take_all()
        self.loop.spin(20)

    @rule(seconds=st.sampled_from([0.05, 0.6]))
    def a_moment_passes(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    @rule(seconds=st.sampled_from([3.0, 130.0, _LONGEST_WAIT_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        """In so much time the view follows."""
        with self._following():
            self.loop.pass_time(seconds)

    @rule()
    def commit(self) -> None:
        self.committed.update(self.worker.intake.committable())

    @precondition(lambda self: self.objects.keys())
    @rule(data=st.data())
    def a_copy_breaks(self, data: st.DataObject) -> None:
        """Parked after some tries, or at once."""
        key = data.draw(st.sampled_from(self.objects.keys()))
        kind = data.draw(st.sampled_from([ChecksumMismatchError, UnsupportedError]))
        self.target.refused[key] = kind("put", "onprem", key, detail="test")

    @rule()
    def copies_are_mended(self) -> None:
        self.target.refused.clear()

    @rule()
    def the_store_goes_down(self) -> None:
        self.target.failure = StoreUnreachableError("any", "onprem", detail="test")

    @rule()
    def the_store_comes_back(self) -> None:
        self.target.failure = None
        self.target.gate.set()

    @rule()
    def the_store_hangs(self) -> None:
        self.target.gate.clear()

    @rule()
    def appends_hang(self) -> None:
        self.worker.writer.gate.clear()

    @rule()
    def appends_go_on(self) -> None:
        self.worker.writer.gate.set()

    @rule(data=st.data(), turns=st.integers(0, 30))
    def a_person_retries(self, data: st.DataObject, turns: int) -> None:
        parked = self._keys_in(CopyState.PARKED)
        if parked:
            self.worker.start(self.worker.mover.again(data.draw(st.sampled_from(parked))))
            self.loop.spin(turns)

    @rule(data=st.data(), turns=st.integers(0, 30))
    def a_parked_copy_is_excluded(self, data: st.DataObject, turns: int) -> None:
        parked = [key for key in self._keys_in(CopyState.PARKED) if not self.objects.children[key]]
        if parked:
            record = self.log.accepted(COPIES)[data.draw(st.sampled_from(parked))]
            self.worker.start(self.worker.rewrite(fresh(record, CopyState.EXCLUDED)))
            self.loop.spin(turns)

    @precondition(lambda self: self.objects.keys(Kind.BLOB))
    @rule(data=st.data())
    def redact(self, data: st.DataObject) -> None:
        self.objects.redact(data.draw(st.sampled_from(self.objects.keys(Kind.BLOB))))

    @rule(turns=st.integers(0, 30))
    def redactions_are_completed(self, turns: int) -> None:
        self._complete_redactions()
        self.loop.spin(turns)

    # Death.

    @rule(keeps_view=st.booleans())
    def kill(self, keeps_view: bool) -> None:  # noqa: FBT001
        self.worker.kill()
        self.target.gate.set()
        self.worker = self._start(self.worker.view.tables if keeps_view else None)

    # What must be true.

    @invariant()
    def no_manifest_was_put_before_its_children(self) -> None:
        assert not self.too_early, self.too_early

    @invariant()
    def nothing_is_committed_without_an_outcome(self) -> None:
        told = {
            record.key
            for number in range(_PARTITIONS)
            for _, record in self.log.read(COPIES, number, 0)
        }
        for partition, offset_next in self.worker.intake.committable().items():
            for offset, record in self.log.read(LOG, partition, 0):
                assert offset >= offset_next or record.key in told | self.objects.written_here

    def teardown(self) -> None:
        try:
            if not self.too_early:
                self._mend_everything()
                self._nothing_waits()
        finally:
            self.worker.kill()
            self.loop.close()
            for item in self._patches:
                item.stop()

    def _mend_everything(self) -> None:
        self.target.failure = None
        self.target.refused.clear()
        self.target.gate.set()
        self.worker.writer.gate.set()
        for _ in range(_ROUNDS_MAX):
            before = self._ends()
            for partition in range(_PARTITIONS):
                self.worker.deliver(partition, 1_000)
            self._complete_redactions()
            for key, record in self.log.accepted(COPIES).items():
                # People retry causes; what was parked for its child must come by itself.
                if record.state is CopyState.PARKED and record.error_class != "child":
                    self.worker.start(self.worker.mover.again(key))
            with self._following():
                self.loop.pass_time(_LONGEST_WAIT_SECONDS)
            if self._ends() == before and self.worker.has_idle_intake():
                break

    @contextlib.contextmanager
    def _following(self) -> Iterator[None]:
        """The view's thread folds whatever is appended, a moment later."""
        self.worker.view.take_all()
        self.log.on_append = lambda: self.loop.call_soon(self.worker.view.take_all)
        yield
        self.log.on_append = lambda: None

    def _nothing_waits(self) -> None:
        records = self.log.accepted(COPIES)
        for key in self.objects.children:
            record = records.get(key)
            if record is None and key in self.objects.written_here:
                continue  # the event is the proof
            assert record is not None, f"{key} has no outcome"
            assert record.state.is_settled, f"{key} stays {record.state} for {record.waits_for}"
            if record.state is CopyState.PRESENT:
                assert self.target.holds(key)
        assert self.worker.intake.in_flight == 0
        for partition in range(_PARTITIONS):
            end = self.log.end(LOG, partition)
            assert self.worker.intake.committable().get(partition, end) == end
        assert not self.too_early, self.too_early

    def _complete_redactions(self) -> None:
        """Write `redacted` where the bytes are gone: the redaction's second look."""
        for key in self._keys_in(CopyState.REDACTING):
            if not self.target.holds(key):
                record = self.log.accepted(COPIES)[key]
                self.worker.start(self.worker.rewrite(fresh(record, CopyState.REDACTED)))

    def _keys_in(self, state: CopyState) -> list[str]:
        return sorted(
            key for key, record in self.log.accepted(COPIES).items() if record.state is state
        )

    def _ends(self) -> list[int]:
        return [self.log.end(COPIES, number) for number in range(_PARTITIONS)]


TestOrdering = OrderingMachine.TestCase
TestOrdering.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_parent_parked_with_its_child_is_woken_also_by_the_next_owner() -> None:
    """Goal: R3, no parent stays parked for a child that is there. Method: kill between the two.

    The child is retried by a person and becomes present; the worker dies before it tries the
    parent, which was parked for the child's sake.
    """
    machine = OrderingMachine()
    blob = machine.objects.add_blob(50, is_inline=True)
    file = machine.objects.add_file(blob, is_inline=True)
    machine.target.refused[blob] = UnsupportedError("put", "onprem", blob)
    for partition in range(_PARTITIONS):
        machine.worker.deliver(partition, 10)
    with machine._following():
        machine.loop.pass_time(5.0)
    assert machine._keys_in(CopyState.PARKED) == sorted([blob, file])
    machine.commit()
    machine.target.refused.clear()
    machine.worker.start(machine.worker.mover.again(blob))
    machine.loop.spin(60)
    assert machine._keys_in(CopyState.PRESENT) == [blob]
    machine.worker.view.take_all()
    machine.kill(keeps_view=True)
    machine.teardown()
    assert machine.target.holds(file)
