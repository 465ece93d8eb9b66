"""The pace of readers: nothing waits while cores are free."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tidestore.connectors import pace


class _Machine:
    """Cores that are so busy; their clock and ours are moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.idle, self.busy, self.disk = 100.0, 0.0, 0.0, 0.0
        monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(pace, "psutil", SimpleNamespace(cpu_times=self._times))

    def pass_time(self, seconds: float, *, idle_share: float, disk_share: float = 0.0) -> None:
        self.now += seconds
        self.idle += 2 * seconds * idle_share
        self.disk += 2 * seconds * disk_share
        self.busy += 2 * seconds * (1 - idle_share - disk_share)

    def _times(self) -> object:
        # The ninth is guests' time, which is in the first already.
        return _Times((self.busy, 0.0, 0.0, self.idle, self.disk, 0.0, 0.0, 0.0, 9e9, 0.0))


class _Times(tuple[float, ...]):
    __slots__ = ()

    @property
    def idle(self) -> float:
        return self[3]


def test_time_is_short_when_the_cores_hardly_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: gathering is for saturated machines only.

    Method: shares of idle time on either side of the bound, one after another.
    """
    machine, spare = _Machine(monkeypatch), pace.SpareTime()
    assert not spare.is_short(), "nothing is known yet"
    for share, expected in ((0.02, True), (0.5, False), (0.14, True), (0.16, False)):
        machine.pass_time(0.25, idle_share=share)
        assert spare.is_short() is expected, share


def test_a_core_that_waits_for_a_disk_is_not_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: records gather while a store's disk is what everybody waits for.

    Method: hardly any idle time, half of the rest spent on waiting for a disk. (Counted as idle, it
    cost a quarter of the small objects a second: docs/benchmarks.md.)
    """
    machine, spare = _Machine(monkeypatch), pace.SpareTime()
    spare.is_short()
    machine.pass_time(0.25, idle_share=0.1, disk_share=0.45)
    assert spare.is_short()
    machine.pass_time(0.25, idle_share=0.5, disk_share=0.45)
    assert not spare.is_short()


def test_an_old_share_says_nothing_about_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: the first record after a quiet hour of a busy neighbour does not wait.

    Method: a long time without a question, all of it saturated, then one.
    """
    machine, spare = _Machine(monkeypatch), pace.SpareTime()
    spare.is_short()
    machine.pass_time(3_600, idle_share=0.0)
    assert not spare.is_short()
    machine.pass_time(0.3, idle_share=0.0)
    assert spare.is_short()
    machine.pass_time(0.1, idle_share=1.0)
    assert spare.is_short(), "looked at a few times a second at most"
