"""Records of the state topics as objects: named, sealed, read back, and put into a new log."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tidestore.api.recovery.findings import Findings
from tidestore.api.recovery.state import KeptState, read_state, restore_state
from tidestore.connectors.credentials import Secret
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.sealing import RecordSeal
from tidestore.connectors.view import Folded, View
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.codec import encode
from tidestore.schemas.datasets import DatasetRegistered, dataset_key
from tidestore.schemas.events import (
    Event,
    HookRemoved,
    HookSaved,
    OriginChosen,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.schemas.generations import GenerationChanged, generation_key
from tidestore.schemas.kept import Kept, kept_bytes, kept_key, newest_of, read_kept
from tidestore.schemas.objects import MalformedError, ObjectKey
from tidestore.schemas.own_keys import KEPT_PREFIX
from tidestore.schemas.topics import ORIGIN_KEY
from tidestore.streams.keeping import Keeper, KeptFold

SEAL = RecordSeal(Secret("a key"))
HOOK = HookSaved(
    "7", "https://example.org/?token=x", ("*",), "public", b"sealed", True, "1:9.9", "me", 1, 1
)
DECIDED = RedactionDecided("public/files/a", 1, "withdrawn", "me", 1, 2)

KEPT = some.builds(
    Kept,
    topic=some.sampled_from(["hooks", "redactions"]),
    key=some.text(min_size=1, max_size=3),
    generation=some.integers(1, 9),
    offset=some.integers(0, 99),
    appended_at_ms=some.integers(0, 99),
    value=some.binary(max_size=9),
    is_sealed=some.booleans(),
)


def kept(topic: str, key: str, event: Event, at: int = 1, *, generation: int = 1) -> Kept:
    """A record as a worker keeps it."""
    value = encode(event)
    if topic == "hooks":
        value = SEAL.close(value, f"{topic}/{key}")
    return Kept(topic, key, generation, at, at, value, topic == "hooks")


async def stored(*records: Kept) -> MemoryStore:
    """A replica with records."""
    store = MemoryStore("onprem")
    for record in records:
        body = kept_bytes(record)
        await store.put_if_absent(kept_key(record), body, checksums_of(body), content_type="")
    return store


@given(KEPT)
def test_a_record_reads_back_as_it_was(record: Kept) -> None:
    """Goal: nothing is lost in the writing. Method: any record, there and back."""
    assert read_kept(kept_key(record), kept_bytes(record)) == record


@given(KEPT, some.data())
def test_a_record_with_one_changed_byte_is_refused(record: Kept, data: some.DataObject) -> None:
    """Goal: a changed record decides nothing. Method: flip a bit anywhere."""
    body = bytearray(kept_bytes(record))
    body[data.draw(some.integers(0, len(body) - 1))] ^= 1
    with pytest.raises(MalformedError):
        read_kept(kept_key(record), bytes(body))


@given(some.lists(KEPT, max_size=12))
def test_the_newest_record_of_each_key_counts_whatever_the_order(records: list[Kept]) -> None:
    """Goal: a listing's order decides nothing. Method: shuffled, against a fold in order."""
    expected: dict[tuple[str, str], tuple[int, int]] = {}
    for record in sorted(records, key=lambda record: record.place):
        expected[record.topic, record.key] = record.place
    found = newest_of(records)
    assert {(record.topic, record.key): record.place for record in found} == expected
    assert [record.place for record in found] == sorted(record.place for record in found)


def test_who_has_no_key_reads_no_hook() -> None:
    """Goal: a bucket's owner learns no address. Method: look for it, and open with other keys."""
    record = kept("hooks", "7", HOOK)
    assert b"example.org" not in record.value
    assert kept_bytes(record) == kept_bytes(kept("hooks", "7", HOOK)), "two writers, one object"
    assert SEAL.open(record.value, "hooks/7") == encode(HOOK)
    for seal, name in ((RecordSeal(Secret("b")), "hooks/7"), (SEAL, "hooks/8")):
        with pytest.raises(ValueError, match="another key"):
            seal.open(record.value, name)
    with pytest.raises(ValueError, match="no seal_key"):
        RecordSeal(Secret("")).open(record.value, "hooks/7")


async def restored(
    state: KeptState, known: dict[str, dict[str, Event]] | None = None
) -> tuple[dict[tuple[str, str], Event], int]:
    """What a recovery appends to the topics, and the epoch."""
    appended: dict[tuple[str, str], Event] = {}

    async def append(topic: str, key: str, event: Event) -> None:
        appended[topic, key] = event

    epoch = await restore_state(
        state, known or {}, append, Findings("onprem", 2), replica="onprem", partitions=3
    )
    return appended, epoch


async def test_decisions_come_back_redactions_first_and_hooks_hear_from_the_beginning() -> None:
    """Goal: what people decided is not only in Kafka. Method: of each, one that stands and one not.

    The removed hook and the lifted redaction stay away; the origin is chosen under a newer epoch.
    """
    store = await stored(
        kept("hooks", "7", HOOK),
        kept("hooks", "8", dataclasses.replace(HOOK, hook_id="8")),
        kept("hooks", "8", HookRemoved("8", "me", 2), 2),
        kept("redactions", "public/files/a", DECIDED),
        kept("redactions", "public/files/b", dataclasses.replace(DECIDED, target="b")),
        kept("redactions", "public/files/b", RedactionLifted("b", 1, "me", 2), 2),
        kept("replicas", ORIGIN_KEY, OriginChosen("aws", 4, 1), generation=3),
    )
    findings = Findings("onprem", 4)
    state = await read_state(store, SEAL, findings)
    assert findings.is_whole
    assert state.generation == 3
    assert list(state.redactions) == ["public/files/a"]
    appended, epoch = await restored(state)
    assert list(appended) == [
        ("redactions", "public/files/a"), ("hooks", "7"), ("replicas", ORIGIN_KEY)
    ]  # fmt: skip
    assert appended["hooks", "7"] == dataclasses.replace(HOOK, start_cut="2:0.0.0")
    chosen = appended["replicas", ORIGIN_KEY]
    assert isinstance(chosen, OriginChosen)
    assert (chosen.replica, chosen.epoch, epoch) == ("onprem", 5, 5)


async def test_datasets_come_back_and_log_generations_do_not() -> None:
    """Goal: a dataset without objects is not forgotten, a move between lost logs is.

    Method: a record of each. What old positions meant is gone with the log that they were carried
    into: a later generation begins, and refuses them.
    """
    moved = GenerationChanged(2, 24, "open", 1, 12, "r", 1, "1:9", "2:9")
    store = await stored(
        kept("replicas", dataset_key("lab"), DatasetRegistered("lab", 1, "0")),
        kept("replicas", generation_key(2), moved, 2, generation=2),
    )
    state = await read_state(store, SEAL, Findings("onprem", 3))
    assert (state.datasets, state.generation) == ({"lab"}, 2)
    appended, _ = await restored(state)
    assert list(appended) == [("replicas", dataset_key("lab")), ("replicas", ORIGIN_KEY)]


async def test_a_second_run_restores_nothing_twice() -> None:
    """Goal: resumable. Method: run again on what the first has appended."""
    state = await read_state(
        await stored(
            kept("hooks", "7", HOOK), kept("redactions", "a", DECIDED),
            kept("replicas", ORIGIN_KEY, OriginChosen("aws", 4, 1)),
        ), SEAL, Findings("onprem", 2),
    )  # fmt: skip
    appended, epoch = await restored(state)
    known: dict[str, dict[str, Event]] = {}
    for (topic, key), event in appended.items():
        known.setdefault(topic, {})[key] = event
    again, same_epoch = await restored(state, known)
    assert (again, same_epoch) == ({}, epoch)


async def test_what_cannot_be_read_is_named() -> None:
    """Goal: a missing hook is seen by a person. Method: sealed with another key."""
    store = await stored(kept("hooks", "7", HOOK), kept("redactions", "a", DECIDED))
    findings = Findings("onprem", 2)
    state = await read_state(store, RecordSeal(Secret("b")), findings)
    assert [key for key, _ in findings.wrong["unreadable records"]] == ["hooks/7"]
    assert list(state.redactions) == ["a"]


class Rows:
    """What a keeper needs of a view: the real fold's tables, filled by hand."""

    refolds = 0

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:")
        self._db.row_factory = sqlite3.Row
        self._fold = KeptFold({"t.hooks": "hooks", "t.replicas": "replicas"}, lambda: None)
        self._fold.create(self._db)

    def fold(self, topic: str, key: str, event: Event, offset: int) -> None:
        """One record more."""
        self._fold.fold(self._db, [Folded(topic, 0, offset, key, event, 1_000 + offset)])

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """See View."""
        return self._db.execute(sql, parameters).fetchall()


async def keep(store: MemoryStore, rows: Rows, seal: RecordSeal = SEAL) -> set[str]:
    """One keeper from its start until it rests; what lies on the replica then."""
    keeper = Keeper(store, cast("View", rows), 1, seal)
    task = asyncio.create_task(keeper.run())
    for _ in range(200):  # turns of the loop: nothing here waits for anything else
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return {info.key async for info in store.list(KEPT_PREFIX)}


async def test_a_keeper_that_starts_again_writes_what_lacks_and_nothing_twice() -> None:
    """Goal: killed at any point, nothing is owed for ever.

    Method: keep, start anew with a record changed, one new and one that was lost on the replica.
    """
    store, rows = MemoryStore("onprem"), Rows()
    rows.fold("t.replicas", ORIGIN_KEY, OriginChosen("aws", 1, 1), 0)
    rows.fold("t.hooks", "7", HOOK, 0)
    first = await keep(store, rows)
    assert len(first) == 2
    assert await keep(store, rows) == first
    await store.delete(ObjectKey(min(first)))
    rows.fold("t.replicas", ORIGIN_KEY, OriginChosen("gcp", 2, 1), 1)
    second = await keep(store, rows)
    assert second > first
    assert len(second) == 3
    state = await read_state(store, SEAL, Findings("onprem", 2))
    assert state.events == {
        "hooks": {"7": HOOK}, "replicas": {ORIGIN_KEY: OriginChosen("gcp", 2, 1)}
    }  # fmt: skip


async def test_no_hook_is_kept_in_clear() -> None:
    """Goal: without a key nothing readable is written. Method: a store that has none."""
    store, rows = MemoryStore("onprem"), Rows()
    rows.fold("t.hooks", "7", HOOK, 0)
    assert await keep(store, rows, RecordSeal(Secret(""))) == set()
