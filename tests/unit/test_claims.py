"""connectors/claims.py and holdings.py: who may speak for a partition."""

from __future__ import annotations

import asyncio

import pytest
from tests.property.stage import MemoryLog, MemoryView, MemoryWriter

from tidestore.connectors import holdings as holdings_module
from tidestore.connectors.claims import ClaimBook
from tidestore.connectors.holdings import Holdings
from tidestore.connectors.kafka import LogUnavailableError
from tidestore.connectors.log import Appended
from tidestore.schemas.codec import decode
from tidestore.schemas.events import Event, PartitionClaimed
from tidestore.schemas.topics import claim_key
from tidestore.streams.copies import CopiesFold, FoldNotes

_TOPIC = "copies"


def test_the_story_in_the_docstring() -> None:
    """Goal: late words are known. Method: claims at 40 and 57, words stamped with each."""
    book = ClaimBook()
    assert not book.is_late(0, 0), "nobody has claimed yet"
    assert book.owner(0) is None
    book.claimed(0, 40, "A")
    assert not book.is_late(0, 40)
    book.claimed(0, 57, "B")
    assert book.is_late(0, 40)
    assert not book.is_late(0, 57)
    assert not book.is_late(1, 0), "another partition"
    assert book.owner(0) == "B"


class Desk:
    """One worker's holdings over a log in memory, whose view follows when it is told to."""

    def __init__(self, writer: MemoryWriter | None = None) -> None:
        self.log = MemoryLog(3)
        self.held: list[int] = []
        self.writer = writer or MemoryWriter(self.log)
        self.writer._log = self.log
        self.notes: list[FoldNotes] = []
        self.view = MemoryView(self.log, CopiesFold(_TOPIC, self.notes.append), [_TOPIC])
        self.holdings = Holdings(self.writer, self.view, _TOPIC, "w1", self._on_held)

    async def _on_held(self, partition: int) -> None:
        self.held.append(partition)

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)
            self.view.take_all()


async def test_a_partition_is_held_when_its_claim_is_folded_and_not_before() -> None:
    """Goal: the last owner's words are read first. Method: fold late, look in between."""
    desk = Desk()
    desk.holdings.assign({0, 2})
    for _ in range(10):
        await asyncio.sleep(0)
    (record,) = [record for _, record in desk.log.read(_TOPIC, 0, 0)]
    assert record.key == claim_key(0)
    claim = decode(record.value)
    assert isinstance(claim, PartitionClaimed)
    assert (claim.worker, claim.partition) == ("w1", 0)
    assert desk.holdings.held == []
    assert desk.holdings.stamp(0) is None
    await desk.settle()
    assert desk.holdings.held == [0, 2]
    assert sorted(desk.held) == [0, 2]
    assert await desk.holdings.await_stamp(0) == desk.holdings.stamp(0) == 0
    assert await desk.holdings.await_stamp(1) is None, "not ours, and nothing to wait for"
    await desk.holdings.close()
    assert desk.holdings.held == []
    desk.view.tables.close()


async def test_the_stamp_is_the_claims_own_offset() -> None:
    """Goal: a newer owner has a greater stamp. Method: claim behind other claims."""
    desk = Desk()
    for number in range(3):
        desk.log.append(_TOPIC, 1, claim_key(1), PartitionClaimed("old", 1, number))
    desk.holdings.assign({1})
    await desk.settle()
    assert desk.holdings.stamp(1) == 3
    await desk.holdings.close()
    desk.view.tables.close()


async def test_what_kafka_takes_away_is_not_written_for() -> None:
    """Goal: nobody speaks for what he lost. Method: other assignments."""
    desk = Desk()
    desk.holdings.assign({0})
    await desk.settle()
    desk.holdings.assign({1})
    waiting = asyncio.create_task(desk.holdings.await_stamp(1))
    await asyncio.sleep(0)
    assert desk.holdings.stamp(0) is None
    desk.holdings.assign(set())
    assert await waiting is None
    await desk.settle()
    assert desk.holdings.held == []
    desk.view.tables.close()


async def test_a_foreign_newer_claim_is_answered_and_an_older_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: a woken worker cannot keep a partition. Method: older and newer claims."""
    monkeypatch.setattr(holdings_module, "_RECLAIM_SECONDS", 0.0)
    desk = Desk()
    desk.log.append(_TOPIC, 0, claim_key(0), PartitionClaimed("old", 0, 0))
    desk.holdings.assign({0})
    await desk.settle()
    desk.holdings.claimed(0, 0, "old")
    desk.holdings.claimed(1, 9, "not ours")
    assert desk.holdings.stamp(0) == 1
    desk.log.append(_TOPIC, 0, claim_key(0), PartitionClaimed("woken", 0, 0))
    desk.holdings.claimed(0, 2, "woken")
    assert desk.holdings.stamp(0) is None, "no word until it is ours again"
    await desk.settle()
    assert desk.holdings.stamp(0) == 3
    await desk.holdings.close()
    desk.view.tables.close()


async def test_a_claim_that_was_overtaken_before_it_was_folded_is_not_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: nobody speaks under an overruled claim. Method: a foreign claim while ours is read.

    Held under it, a worker wrote late records and answered each with another one, for ever.
    """
    monkeypatch.setattr(holdings_module, "_RECLAIM_SECONDS", 0.0)
    desk = Desk()
    desk.holdings.assign({0})
    for _ in range(10):
        await asyncio.sleep(0)
    desk.log.append(_TOPIC, 0, claim_key(0), PartitionClaimed("woken", 0, 0))
    desk.view.take_all()
    for partition, offset, worker in desk.notes[-1].claims:
        desk.holdings.claimed(partition, offset, worker)
    await asyncio.sleep(0)
    assert desk.holdings.held == []
    await desk.settle()
    assert desk.holdings.stamp(0) == 2
    await desk.holdings.close()
    desk.view.tables.close()


class BrokenWriter(MemoryWriter):
    """Has no broker at first."""

    failures = 2

    async def append(self, topic: str, partition: int, key: str, event: Event) -> Appended:
        if self.failures:
            self.failures -= 1
            raise LogUnavailableError("no broker")
        return await super().append(topic, partition, key, event)


async def test_a_claim_is_tried_until_the_broker_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a worker outlives a broker's restart. Method: two failed appends."""
    monkeypatch.setattr(holdings_module, "_RETRY_SECONDS", 0.0)
    desk = Desk(BrokenWriter(MemoryLog(3)))
    desk.holdings.assign({0})
    await desk.settle()
    assert desk.holdings.stamp(0) == 0
    await desk.holdings.close()
    desk.view.tables.close()
