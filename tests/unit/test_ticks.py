"""What a quiet partition's tick means to those who read the log: nothing, and it is done with."""

from __future__ import annotations

from typing import Any

from tests.property.stage import MemoryLog, MemoryView
from tests.unit.made import written

from tidestore.api.index import IndexFold
from tidestore.schemas.codec import encode
from tidestore.schemas.ticks import PartitionTicked
from tidestore.schemas.topics import Windows, tick_key
from tidestore.streams.intake import Intake

TICK = PartitionTicked(0, "gateway-0", 1)


class Desk:
    """Takes note of what it is given."""

    def __init__(self) -> None:
        self.parked: list[str] = []

    async def park_unreadable(self, key: str, log_offset: int, reason: str) -> None:
        del log_offset, reason
        self.parked.append(key)


class Stamps:
    async def await_stamp(self, partition: int) -> int | None:
        return partition


async def _seek(partition: int, offset: int) -> None:
    del partition, offset


async def test_a_worker_is_done_with_a_tick_at_once() -> None:
    """Goal: a tick is no poison and holds no offset up. Method: hand one to the intake."""
    desk: Any = Desk()
    writer: Any = None
    intake = Intake(desk, Stamps(), writer, poison_topic=None, name="t", seek=_seek)
    await intake.take("log", 0, 41, tick_key(0).encode(), encode(TICK))
    assert intake.committable() == {0: 42}
    assert intake.in_flight == 0
    assert not desk.parked


def test_the_index_passes_over_a_tick() -> None:
    """Goal: readers see objects alone. Method: fold one between two writes."""
    log = MemoryLog(1)
    view = MemoryView(log, IndexFold({}, lambda _: None), ["log"])
    for key, event in (("a", written(b"1")), (tick_key(0), TICK), ("b", written(b"2"))):
        log.append("log", 0, key, event)
    view.take_all()
    assert len(view.query("SELECT * FROM objects")) == 2
    assert not view.query("SELECT * FROM claims")
    view.tables.close()


def test_a_segment_ends_in_time_for_compaction() -> None:
    """Goal: a redaction's record is in a closed segment well before its time is up.

    Method: the default windows: a record is ticked at twice a segment's time at the latest.
    """
    windows = Windows()
    assert windows.replay_ms + 2 * windows.segment_ms < windows.redaction_ms
    assert 2 * windows.segment_ms <= windows.redaction_ms - windows.replay_ms
