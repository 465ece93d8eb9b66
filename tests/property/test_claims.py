"""Claims on the product's own workers: late words of frozen ones never count (design point 4).

Several workers of one replica take partitions from each other. Some are frozen with a record on
its way and wake when somebody else has the partition; some never hear that they lost it and claim
it back. Watched at every step: a view that has read everything agrees with the plain reading of
the topic. At the end, when all have spoken: the owner's record is the last one of its key, also
for whoever reads the topic after compaction.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.property.stage import MemoryView, StagedStore, modules_with_a_clock
from tests.property.worker import COPIES, REDACTIONS, Worker
from tests.property.world import Objects, new_stage

from tidestore.connectors import holdings
from tidestore.schemas.events import CopyChanged, CopyState, PartitionClaimed
from tidestore.schemas.topics import claim_key, partition_of
from tidestore.streams.copies import CopiesFold, CopiesQueries
from tidestore.streams.records import Identity, bare_record, fresh

# Many short runs; a machine that is shared is slow.
pytestmark = pytest.mark.timeout(300)

_PARTITIONS = 2
_WORKERS = 3
_KEYS = 4
_ROUNDS_MAX = 30
_worker = st.integers(0, _WORKERS - 1)
_partition = st.integers(0, _PARTITIONS - 1)
# Outcomes that no lane acts upon by itself: what is written stays until somebody writes again.
_state = st.sampled_from([CopyState.PRESENT, CopyState.EXCLUDED, CopyState.CORRUPT])


class ClaimsMachine(RuleBasedStateMachine):
    """Three workers of the replica `onprem`; Kafka's word reaches each in its own time."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.loop, self.log = new_stage(_PARTITIONS)
        modules = (*modules_with_a_clock(), holdings)
        self._patches: list[Any] = [patch.object(module, "time", self.clock) for module in modules]
        for item in self._patches:
            item.start()
        self.target, self.origin = StagedStore("onprem"), StagedStore("aws")
        objects = Objects(self.loop, self.log, self.origin)
        self.keys = [objects.add_blob(50, is_inline=True) for _ in range(_KEYS)]
        # What Kafka has decided, and what each worker was told so far.
        self.owner = [0] * _PARTITIONS
        self.workers = [self._start(number) for number in range(_WORKERS)]
        self.frozen: set[int] = set()
        self.written = 0

    def _start(self, number: int) -> Worker:
        return Worker(self.loop, self.log, self.target, [self.origin], name=f"onprem-{number}")

    @initialize()
    def the_first_worker_has_everything(self) -> None:
        self.workers[0].assign(set(range(_PARTITIONS)))
        self._talk(5)

    @rule(number=_worker, partition=_partition, tells=st.sampled_from(["both", "new", "none"]))
    def kafka_gives_a_partition(self, number: int, partition: int, tells: str) -> None:
        """To another worker; the old one may not hear of it for a while, nor the new one."""
        before = self.owner[partition]
        self.owner[partition] = number
        if tells != "none":
            self.kafka_speaks_to(number)
        if tells == "both":
            self.kafka_speaks_to(before)

    @rule(number=_worker)
    def kafka_speaks_to(self, number: int) -> None:
        if number not in self.frozen:
            mine = {place for place, owner in enumerate(self.owner) if owner == number}
            self.workers[number].assign(mine)
            self.loop.spin(5)

    @rule(number=_worker, key=st.integers(0, _KEYS - 1), state=_state, turns=st.integers(0, 10))
    def a_worker_records(self, number: int, key: int, state: CopyState, turns: int) -> None:
        """A copy's outcome, by whoever believes to hold its partition."""
        if number in self.frozen:
            return
        self.written += 1
        identity = Identity("onprem", 1, COPIES, _PARTITIONS)
        record = bare_record(identity, self.keys[key], 0, 0)
        worker = self.workers[number]
        text = f"{self.written} by {number}"
        outcome = replace(fresh(record, state), error=text)
        worker.start(worker.rewrite(outcome))
        self.loop.spin(turns)

    @rule(number=_worker, key=st.integers(0, _KEYS - 1), state=_state)
    def freeze(self, number: int, key: int, state: CopyState) -> None:
        """SIGSTOP in the middle of a word: it is on its way until the worker wakes."""
        self.workers[number].writer.gate.clear()
        self.a_worker_records(number, key, state, 10)
        self.frozen.add(number)

    @rule(
        key=st.integers(0, _KEYS - 1),
        state=_state,
        newer=st.none() | _state,
        to=st.integers(1, _WORKERS - 1),
        hears=st.booleans(),
    )
    def an_owner_is_frozen_past_its_session(
        self, key: int, state: CopyState, newer: CopyState | None, to: int, *, hears: bool
    ) -> None:
        """The whole story: another takes over, perhaps speaks, and then the old owner wakes."""
        partition = partition_of(self.keys[key], _PARTITIONS)
        before = self.owner[partition]
        after = (before + to) % _WORKERS
        self.thaw(after, 5)
        self.freeze(before, key, state)
        self.owner[partition] = after
        self.kafka_speaks_to(after)
        self._talk(1, only=after)
        if newer is not None:
            self.a_worker_records(after, key, newer, 10)
        self.thaw(before, 10)
        if hears:
            self.kafka_speaks_to(before)

    @rule(number=_worker, turns=st.integers(0, 20))
    def thaw(self, number: int, turns: int) -> None:
        """SIGCONT: late words come first, then the news."""
        self.frozen.discard(number)
        self.workers[number].writer.gate.set()
        self.loop.spin(turns)

    @rule(number=_worker, partition=_partition, limit=st.integers(1, 4), turns=st.integers(0, 10))
    def a_view_reads_on(self, number: int, partition: int, limit: int, turns: int) -> None:
        if number not in self.frozen:
            self.workers[number].view.take(COPIES, partition, limit)
            self.loop.spin(turns)

    @rule(seconds=st.sampled_from([0.1, 0.8, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.pass_time(seconds)

    @rule(number=_worker)
    def kill(self, number: int) -> None:
        """A worker dies and starts with an empty view, under no partition yet."""
        self.frozen.discard(number)
        self.workers[number].kill()
        self.workers[number] = self._start(number)

    @rule()
    def compact_when_all_is_said(self) -> None:
        """Compaction waits far longer than anybody stays frozen or speechless."""
        self._settle()
        self._agrees(self.log.accepted(COPIES))
        truth = self.log.accepted(COPIES)
        self.log.compact(COPIES)
        self._reads_after_compaction(truth)

    @invariant()
    def a_view_that_read_everything_agrees(self) -> None:
        truth = self.log.accepted(COPIES)
        for worker in self.workers:
            for key in self.keys:
                if self._has_read_all(worker.view):
                    assert CopiesQueries(worker.view).find(key) == truth.get(key)

    def teardown(self) -> None:
        try:
            self._settle()
            truth = self.log.accepted(COPIES)
            self._agrees(truth)
            self._owners_hold()
            self.log.compact(COPIES)
            self._reads_after_compaction(truth)
        finally:
            for worker in self.workers:
                worker.kill()
            self.loop.close()
            for item in self._patches:
                item.stop()

    def _talk(self, rounds: int, only: int | None = None) -> None:
        for _ in range(rounds):
            for number, worker in enumerate(self.workers):
                if only is None or number == only:
                    worker.view.take_all()
            self.loop.pass_time(2.0)

    def _settle(self) -> None:
        """Everybody is awake, has heard Kafka's word, has read and said everything."""
        for number in range(_WORKERS):
            self.thaw(number, 5)
        for number in range(_WORKERS):
            self.kafka_speaks_to(number)
        before = -1
        for _ in range(_ROUNDS_MAX):
            self._talk(2)
            now = sum(self.log.end(COPIES, number) for number in range(_PARTITIONS))
            if now == before:
                return
            before = now
        raise AssertionError("workers answer each other for ever")

    def _owners_hold(self) -> None:
        for partition, number in enumerate(self.owner):
            assert partition in self.workers[number].holdings.held

    def _agrees(self, truth: dict[str, CopyChanged]) -> None:
        for worker in self.workers:
            for key in self.keys:
                assert CopiesQueries(worker.view).find(key) == truth.get(key)
                assert worker.known.find_record(key) == truth.get(key)

    def _reads_after_compaction(self, truth: dict[str, CopyChanged]) -> None:
        fold = CopiesFold(COPIES, lambda _: None)
        view = MemoryView(self.log, fold, [REDACTIONS, COPIES])
        view.take_all()
        for key in self.keys:
            assert CopiesQueries(view).find(key) == truth.get(key), "compaction kept a late record"
        view.tables.close()

    def _has_read_all(self, view: MemoryView) -> bool:
        return all(
            view.offset_next(COPIES, number) == self.log.end(COPIES, number)
            for number in range(_PARTITIONS)
        )


TestClaims = ClaimsMachine.TestCase
TestClaims.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_a_word_that_a_woken_workers_claim_overtook_is_said_again() -> None:
    """Goal: no copy stays unrecorded. Method: a claim of another lands before an owner's record.

    The owner has its record confirmed and goes on in the log; every view ignores the record. It was
    lost for ever when its key had no other.
    """
    machine = ClaimsMachine()
    machine.the_first_worker_has_everything()
    key = machine.keys[0]
    partition = partition_of(key, _PARTITIONS)
    owner = machine.workers[0]
    owner.writer.gate.clear()
    machine.a_worker_records(0, 0, CopyState.PRESENT, 5)
    woken = PartitionClaimed("onprem-1", partition, 0)
    machine.log.append(COPIES, partition, claim_key(partition), woken)
    owner.writer.gate.set()
    machine._settle()
    assert machine.log.accepted(COPIES)[key].state is CopyState.PRESENT
    machine.teardown()
