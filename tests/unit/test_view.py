"""connectors/view.py and its tables, fed with records by hand instead of by a broker."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.property.stage import MemoryLog, MemoryView, Record
from tests.unit.made import written

from tidestore.connectors.kafka import LogUnavailableError
from tidestore.connectors.view import Folded
from tidestore.connectors.view_tables import ViewTables
from tidestore.schemas.codec import encode


class ListFold:
    """Keeps keys and reasons, in a table and in a list."""

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.told: list[Folded] = []
        self.breaks = False

    def create(self, db: sqlite3.Connection) -> None:
        db.execute("CREATE TABLE seen (place TEXT PRIMARY KEY, reason TEXT)")
        db.execute("CREATE VIEW reasons AS SELECT reason FROM seen")

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        for record in records:
            place = f"{record.partition}/{record.offset}"
            db.execute("INSERT INTO seen VALUES (?, ?)", (place, record.reason))
        if self.breaks:
            raise ValueError("a defect in the fold")

    def folded(self, records: Sequence[Folded]) -> None:
        self.told.extend(records)


def _places(view: MemoryView) -> list[str]:
    return [row[0] for row in view.query("SELECT place FROM seen ORDER BY place")]


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(2)


def test_records_and_offsets_are_folded_together(log: MemoryLog) -> None:
    """Goal: a view is behind, never wrong. Method: a fold that breaks leaves neither."""
    fold = ListFold()
    view = MemoryView(log, fold, ["log"])
    log.append("log", 0, "k", written())
    view.take("log", 0)
    fold.breaks = True
    log.append("log", 0, "k", written())
    with pytest.raises(ValueError, match="defect"):
        view.take("log", 0)
    assert _places(view) == ["0/0"]
    assert view.tables.offsets() == {("log", 0): (1, 0)}
    assert view.offset_next("log", 0) == 1
    fold.breaks = False
    view.take("log", 0)
    assert _places(view) == ["0/0", "0/1"]
    assert len(fold.told) == 2, "others are told after the commit, once"
    view.tables.close()


def test_a_restarted_view_goes_on_where_its_tables_are(log: MemoryLog) -> None:
    """Goal: nothing is read twice or skipped. Method: a new view on the old tables."""
    for _ in range(3):
        log.append("log", 1, "k", written())
    first = MemoryView(log, ListFold(), ["log"])
    first.take("log", 1, 2)
    again = MemoryView(log, ListFold(), ["log"], first.tables)
    assert again.offset_next("log", 1) == 2
    assert again.take("log", 1) == 1
    assert _places(again) == ["1/0", "1/1", "1/2"]
    again.tables.close()


def test_poison_is_folded_with_its_reason_and_the_partition_goes_on(log: MemoryLog) -> None:
    """Goal: one bad record stops nothing (point 9). Method: broken ones between good ones."""
    log.append("log", 0, "a", written())
    log.of("log", 0).append(Record("b", b"\0\0\0\0\x01broken"))
    log.of("log", 0).append(Record("c", b"not ours"))
    log.append("log", 0, "d", written())
    fold = ListFold()
    view = MemoryView(log, fold, ["log"])
    view.take_all()
    reasons = {record.key: record.reason for record in fold.told}
    assert reasons["a"] == reasons["d"] == ""
    assert "ObjectWritten" in reasons["b"]
    assert "magic byte" in reasons["c"]
    assert [record.event is None for record in fold.told] == [False, True, True, False]
    assert view.offset_next("log", 0) == 4
    view.tables.close()


def test_an_unknown_schema_stops_its_partition_alone(log: MemoryLog) -> None:
    """Goal: a rolling upgrade drops nothing (point 9). Method: a foreign id before good records."""
    log.append("log", 0, "a", written())
    log.of("log", 0).append(Record("new", b"\0\0\0\x03\xe7later"))
    log.append("log", 0, "b", written())
    log.append("log", 1, "c", written())
    view = MemoryView(log, ListFold(), ["log"])
    view.take_all()
    view.take_all()
    assert view.stuck() == {("log", 0): 1}
    assert view.offset_next("log", 0) == 1, "not past the record that nobody can read yet"
    assert _places(view) == ["0/0", "1/0"]
    log.of("log", 0)[1] = Record("new", encode(written()))  # as a newer release reads it
    view._stuck.clear()
    view.take_all()
    assert _places(view) == ["0/0", "0/1", "0/2", "1/0"]
    view.tables.close()


async def test_waiting_for_a_position_ends_when_it_is_folded(log: MemoryLog) -> None:
    """Goal: read your writes. Method: wait, fold one short, fold the rest."""
    view = MemoryView(log, ListFold(), ["log"])
    log.append("log", 0, "k", written())
    log.append("log", 0, "k", written())
    await view.reached("log", {0: 0, 1: 0}, timeout_seconds=0.01)
    waiting = asyncio.create_task(view.reached("log", {0: 2}, timeout_seconds=20))
    await asyncio.sleep(0)
    view.take("log", 0, 1)
    await asyncio.sleep(0)
    assert not waiting.done()
    view.take("log", 0, 1)
    await waiting
    view.tables.close()


async def test_waiting_has_a_bound(log: MemoryLog) -> None:
    """Goal: a stuck index is an answer, not a hang. Method: a position that never comes."""
    view = MemoryView(log, ListFold(), ["log"])
    with pytest.raises(LogUnavailableError, match="behind log"):
        await view.reached("log", {0: 1}, timeout_seconds=0.01)
    view.take_all()  # wakes over the waiter that is gone
    view.tables.close()


async def test_a_stopped_view_tells_its_waiters(log: MemoryLog) -> None:
    """Goal: nobody hangs at the end. Method: stop while somebody waits."""
    view = MemoryView(log, ListFold(), ["log"])
    waiting = asyncio.create_task(view.reached("log", {0: 1}, timeout_seconds=20))
    await asyncio.sleep(0)
    await view.stop()
    with pytest.raises(LogUnavailableError, match="stopped"):
        await waiting


def test_another_version_of_a_fold_begins_anew(tmp_path: Path) -> None:
    """Goal: tables never mean something else. Method: reopen with the same and a newer version."""
    path = tmp_path / "view.sqlite"
    tables = ViewTables(path, ListFold())
    record = Folded("log", 0, 0, "k", written(), 0)
    tables.fold([record], {("log", 0): 1}, {("log", 0): 7})
    tables.close()
    same = ViewTables(path, ListFold())
    assert same.offsets() == {("log", 0): (1, 7)}
    same.close()
    newer = ViewTables(path, ListFold(version=2))
    assert newer.offsets() == {}
    newer.fold([record], {("log", 0): 1}, {("log", 0): 7})
    newer.clear()
    assert newer.offsets() == {}
    newer.close()


def test_a_file_that_is_no_database_is_made_anew(tmp_path: Path) -> None:
    """Goal: Kafka has it all. Method: garbage where the tables should be."""
    path = tmp_path / "view.sqlite"
    path.write_bytes(b"garbage" * 1_000)
    tables = ViewTables(path, ListFold())
    assert tables.offsets() == {}
    tables.close()


def test_tables_of_another_cluster_or_life_are_known(tmp_path: Path) -> None:
    """Goal: point 10, a refilled tail is not believed. Method: several identities."""
    tables = ViewTables(tmp_path / "view.sqlite", ListFold())
    identity = {"unclean_stops": "0", "log": "id1"}
    assert not tables.contradicts(identity)
    tables.set_identity(identity)
    assert not tables.contradicts(identity)
    assert not tables.contradicts({**identity, "new topic": "id9"})
    assert tables.contradicts({**identity, "log": "id2"})
    assert tables.contradicts({**identity, "unclean_stops": "1"})
    # The next life of a replica has another topic; what the earlier one said is forgotten.
    assert tables.contradicts({"unclean_stops": "0", "log of another life": "id3"})
    tables.close()
