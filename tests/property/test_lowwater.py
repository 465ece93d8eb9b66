"""R6: a partition is committed below its oldest unfinished record, whatever ends in which order."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidestore.streams.lowwater import LowWater

# Many short runs; a machine that is shared is slow.
pytestmark = pytest.mark.timeout(300)

_PARTITIONS = 3


class LowWaterMachine(RuleBasedStateMachine):
    """Goal: R6, and nothing stops for ever. Method: a list of what was received, a set of ends."""

    def __init__(self) -> None:
        super().__init__()
        self.marks = [LowWater() for _ in range(_PARTITIONS)]
        self.received: list[list[int]] = [[] for _ in range(_PARTITIONS)]
        self.finished: list[set[int]] = [set() for _ in range(_PARTITIONS)]
        self.committed: list[int] = [-1] * _PARTITIONS

    @rule(partition=st.integers(0, _PARTITIONS - 1), gap=st.sampled_from([0, 0, 0, 1, 2, 1_000]))
    def receive(self, partition: int, gap: int) -> None:
        """The next record that compaction has left."""
        known = self.received[partition]
        offset = known[-1] + 1 + gap if known else gap
        assert self.marks[partition].receive(offset)
        known.append(offset)

    @rule(data=st.data(), partition=st.integers(0, _PARTITIONS - 1))
    def receive_again(self, data: st.DataObject, partition: int) -> None:
        """A reader that went back: what was received before changes nothing."""
        known = self.received[partition]
        if known:
            offset = data.draw(st.integers(0, known[-1]))
            assert not self.marks[partition].receive(offset)

    @rule(data=st.data(), partition=st.integers(0, _PARTITIONS - 1))
    def finish(self, data: st.DataObject, partition: int) -> None:
        """Any record ends, perhaps for the second time."""
        known = self.received[partition]
        if known:
            offset = data.draw(st.sampled_from(known))
            self.marks[partition].finish(offset)
            self.finished[partition].add(offset)

    @precondition(lambda self: any(self.received))
    @rule(partition=st.integers(0, _PARTITIONS - 1))
    def finish_all(self, partition: int) -> None:
        """Everything ends, newest first: the mark reaches the end."""
        for offset in reversed(self.received[partition]):
            self.marks[partition].finish(offset)
            self.finished[partition].add(offset)
        if self.received[partition]:
            assert self.marks[partition].committable == self.received[partition][-1] + 1
            assert self.marks[partition].unfinished == 0

    @invariant()
    def the_mark_is_the_oldest_unfinished_record(self) -> None:
        for number, mark in enumerate(self.marks):
            received, finished = self.received[number], self.finished[number]
            unfinished = [offset for offset in received if offset not in finished]
            assert mark.unfinished == len(unfinished)
            if unfinished:
                assert mark.committable == unfinished[0]
            else:
                assert mark.committable == (received[-1] + 1 if received else None)

    @invariant()
    def the_mark_never_goes_back(self) -> None:
        for number, mark in enumerate(self.marks):
            if mark.committable is not None:
                assert mark.committable >= self.committed[number]
                self.committed[number] = mark.committable


TestLowWater = LowWaterMachine.TestCase
TestLowWater.settings = settings(max_examples=100, stateful_step_count=60)
