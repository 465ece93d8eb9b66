"""A replica with a filter, on the product's own workers: what is chosen comes, and nothing else.

Two processes share the partitions; what a manifest names lies on those of the other, too. Either
may die at any moment. Watched at every put: an object appears only when all that it names is here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.property.stage import StagedStore, modules_with_a_clock
from tests.property.worker import COPIES, LOG, Worker
from tests.property.world import Objects, new_stage

from tidestore.schemas.events import CopyState
from tidestore.schemas.filters import ReplicaFilter
from tidestore.schemas.objects import Kind

pytestmark = pytest.mark.timeout(300)

_PARTITIONS = 3
_SHARES = ({0}, {1, 2})
_ROUNDS_MAX = 60


class FilteredReplica:
    """The replica `onprem` with a filter; the origin is `aws`."""

    def __init__(self, chosen: ReplicaFilter) -> None:
        self.clock, self.loop, self.log = new_stage(_PARTITIONS)
        self.chosen = chosen
        self.target = StagedStore("onprem", self._saw_put)
        self.origin = StagedStore("aws")
        self.objects = Objects(self.loop, self.log, self.origin)
        self.too_early: list[str] = []
        self.workers = [self._start(number) for number in range(len(_SHARES))]

    def _saw_put(self, key: str) -> None:
        missing = [c for c in self.objects.children.get(key, ()) if not self.target.holds(c)]
        self.too_early += [f"{key} appeared before {child}" for child in missing]

    def _start(self, number: int) -> Worker:
        worker = Worker(
            self.loop, self.log, self.target, [self.origin], name=f"onprem-{number}",
            chosen=self.chosen,
        )  # fmt: skip
        worker.assign(_SHARES[number])
        return worker

    def kill(self, number: int) -> None:
        """SIGKILL; the next process reads the log and its view from the start."""
        self.workers[number].kill()
        self.workers[number] = self._start(number)

    def go_on(self, turns: int) -> int:
        """Some turns of both; how many records were folded."""
        folded = 0
        for worker, share in zip(self.workers, _SHARES, strict=True):
            for partition in share:
                worker.deliver(partition, 2)
            folded += worker.view.take_all()
        self.loop.spin(turns)
        return folded

    def come_to_rest(self) -> None:
        """Until nothing is said any more."""
        for _ in range(_ROUNDS_MAX):
            before = sum(self.log.end(COPIES, number) for number in range(_PARTITIONS))
            for _ in range(20):
                self.go_on(30)
            self.loop.pass_time(10)
            after = sum(self.log.end(COPIES, number) for number in range(_PARTITIONS))
            has_read = all(
                worker.delivered.get(partition, 0) == self.log.end(LOG, partition)
                for worker, share in zip(self.workers, _SHARES, strict=True)
                for partition in share
            )
            if after == before and has_read:
                return
        raise AssertionError("it never comes to rest")

    @property
    def wanted(self) -> set[str]:
        """Roots, and all that they refer to, told in plain words."""
        found = {key for key in self.objects.children if self.chosen.is_root(key)}
        todo = list(found)
        while todo:
            fresh = set(self.objects.children[todo.pop()]) - found
            found |= fresh
            todo += fresh
        return found


@contextmanager
def filtered(chosen: ReplicaFilter) -> Iterator[FilteredReplica]:
    replica = FilteredReplica(chosen)
    patches = [patch.object(item, "time", replica.clock) for item in modules_with_a_clock()]
    for item in patches:
        item.start()
    try:
        yield replica
    finally:
        for worker in replica.workers:
            worker.kill()
        for item in patches:
            item.stop()
        replica.loop.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kinds=st.frozensets(st.sampled_from(list(Kind)), min_size=1, max_size=2), data=st.data())
def test_roots_and_all_they_refer_to_come_and_the_rest_is_excluded(
    kinds: frozenset[Kind], data: st.DataObject
) -> None:
    """Goal: filters keep R3 and R5 over kills. Method: trees, two workers, SIGKILLs between turns.

    Each object is written when what it names is; workers read on between the writes, so that what
    is referred to was excluded long ago, or not read yet.
    """
    with filtered(ReplicaFilter(kinds=kinds)) as replica:
        objects, inline = replica.objects, st.booleans()

        def turn() -> None:
            replica.go_on(data.draw(st.integers(0, 25)))
            if data.draw(st.integers(0, 5)) == 0:
                replica.kill(data.draw(st.integers(0, 1)))

        for _ in range(4):
            blob = objects.add_blob(50, is_inline=data.draw(inline))
            turn()
            objects.add_file(blob, is_inline=data.draw(inline))
            turn()
        for kind, add in ((Kind.FILE, objects.add_bundle), (None, objects.add_collection)):
            keys = objects.keys(kind)
            picked = data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=3, unique=True))
            add(picked, is_inline=data.draw(inline))
            turn()
        replica.come_to_rest()
        wanted = replica.wanted
        records = replica.log.accepted(COPIES)
        states = {key: record.state for key, record in records.items()}
        assert states == {
            key: CopyState.PRESENT if key in wanted else CopyState.EXCLUDED
            for key in objects.children
        }
        assert {key for key in objects.children if replica.target.holds(key)} == wanted
        assert not replica.too_early
        assert not any(record.is_incomplete for record in records.values())
