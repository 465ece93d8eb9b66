"""`tidestore migrate` on a real broker, killed behind each of its appends.

No process of a store runs: the topics are written as workers and gateways write them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.servers.kafka import TestKafka
from tests.unit.made import copy, written
from tidestore.api.migration.run import MigrationSettings, migrate
from tidestore.connectors.carrying import Moved, Target, begin_group, group_offsets
from tidestore.connectors.generations import read_generations
from tidestore.connectors.kafka import KafkaSettings, LogClosedError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import check_topics, provision
from tidestore.connectors.tail import read_topic
from tidestore.schemas.events import (
    ChangeAnnounced,
    CopyChanged,
    CopyState,
    CursorMoved,
    Event,
    HookSaved,
    ObjectWritten,
    PartitionClaimed,
)
from tidestore.schemas.generations import carried_position
from tidestore.schemas.objects import PUBLIC, ReplicaName
from tidestore.schemas.positions import Cut, Position
from tidestore.schemas.topics import Topics, claim_key, partition_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

GCP = ReplicaName("gcp")
OLD, NEW = 2, 5
# How far the hook had come on each old partition.
READ = (3, 2)
KEYS = [f"public/files/{uuid.UUID(int=number)}.2026-11-24T055245.148316Z" for number in range(12)]
# How far the worker's group had come: it had done all that was there at first.
DONE = [sum(partition_of(key, OLD) == number for key in KEYS[:6]) for number in range(OLD)]
# Topics, and which append to them in its run is the last thing that a run does.
DEATHS = (
    ("g2.log", 1),
    ("g2.copies", 1),
    ("g2.changes", 1),
    ("replicas", 2),
    ("g2.cursors", 2),
    ("replicas", 2),
)


class Crash(BaseException):
    """Here the process is killed."""


@dataclass
class Store:
    """The topics of a store, and what was said there of each key."""

    kafka: KafkaSettings
    topics: Topics
    folder: Path
    writer: LogWriter

    async def say(self, topic: str, key: str, event: Event) -> int:
        """Append a record where its key belongs; its offset."""
        partition = partition_of(key, OLD)
        return (await self.writer.append(topic, partition, key, event)).offset

    async def claim(self, topic: str) -> list[int]:
        """Claim all partitions; the stamps."""
        return [
            (
                await self.writer.append(
                    topic, number, claim_key(number), PartitionClaimed("w", number, 1)
                )
            ).offset
            for number in range(OLD)
        ]

    async def write(self, keys: Sequence[str], copies: list[int], feed: list[int]) -> None:
        """What is written of new objects: the event, two records of a copy, two changes."""
        topics = self.topics
        for key in keys:
            offset = await self.say(topics.log, key, written(key.encode(), key=key))
            stamp = copies[partition_of(key, OLD)]
            for state in (CopyState.PENDING, CopyState.PRESENT):
                record = copy(key, state, claim=stamp, log_offset=offset, replica="gcp")
                await self.say(topics.copies(GCP, 1), key, record)
            for number in (1, 2):
                change = announced(key, number, feed[partition_of(key, OLD)], offset)
                await self.say(topics.changes(PUBLIC), key, change)

    def settings(self) -> MigrationSettings:
        """What the command tells a migration."""
        return MigrationSettings(self.kafka, self.topics, NEW, self.folder)

    def told(self, topic: str, kind: type[Event]) -> dict[str, list[Event]]:
        """The records of a kind in a topic by key, in order; each key is in one partition."""
        found: dict[str, list[Event]] = {}
        for record in read_topic(self.kafka, topic):
            if isinstance(record.event, kind):
                assert record.partition == partition_of(record.key, NEW)
                found.setdefault(record.key, []).append(record.event)
        return found


def announced(key: str, sequence: int, claim: int, log_offset: int) -> ChangeAnnounced:
    return ChangeAnnounced(
        id=f"chg_{key[-40:-30]}{sequence}", type="object.written", key=key, sequence=sequence,
        size=1, sha256="", content_type="", log_offset=log_offset, claim=claim, written_at_ms=1,
        announced_at_ms=1, origin="aws",
    )  # fmt: skip


@contextlib.contextmanager
def killed_behind(monkeypatch: pytest.MonkeyPatch, word: str, number: int) -> Iterator[None]:
    """Let a run die behind its n-th append to a topic: the record is there, and nobody knows."""
    append = Target.append
    left = [number]

    def dying(self: Target, topic: str, records: Sequence[Moved]) -> list[int]:
        offsets = append(self, topic, records)
        left[0] -= bool(records) and word in topic
        if left[0] == 0:
            raise Crash
        return offsets

    with monkeypatch.context() as patch:
        patch.setattr(Target, "append", dying)
        yield


async def fill(store: Store) -> tuple[list[int], list[int]]:
    """Objects, a late word, a hook and a group; the stamps of copies and of the feed."""
    topics, writer = store.topics, store.writer
    await provision(store.kafka, topics.specs([(GCP, 1)], [PUBLIC]), replication=1)
    copies = await store.claim(topics.copies(GCP, 1))
    feed = await store.claim(topics.changes(PUBLIC))
    cursors = await store.claim(topics.cursors)
    await store.write(KEYS[:6], copies, feed)
    newer = await store.claim(topics.copies(GCP, 1))  # somebody else has them now
    late = copy(KEYS[0], CopyState.PARKED, claim=copies[partition_of(KEYS[0], OLD)], replica="gcp")
    await store.say(topics.copies(GCP, 1), KEYS[0], late)
    begun = str(Cut(1, (0,) * OLD))
    hook = HookSaved("7", "http://h", ("*",), "public", b"", True, begun, "t", 1, 1)
    await writer.append(topics.hooks, 0, "7", hook)
    for number, offset in enumerate(READ):
        moved = CursorMoved("7", number, offset, cursors[number], 1, delivered=offset)
        await writer.append(topics.cursors, number, f"7/{number}", moved)
    done = dict(enumerate(DONE))
    begin_group(store.kafka, topics.group("replicate.gcp.1"), topics.log, done)
    return newer, feed


async def test_a_move_that_is_killed_behind_each_append_loses_and_mixes_nothing(
    kafka: TestKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: `tidestore migrate` goes on wherever it died; what is carried is whole and in order.

    Method: runs that die behind a batch of the log, of copies and of the feed, behind the record
    that closes, behind cursors and claims, and behind the record that opens; after the first ones
    more is written. Then every record of the new topics is compared with what was said.
    """
    topics = Topics(prefix=f"m{secrets.token_hex(4)}.", partitions=OLD)
    writer = LogWriter(KafkaSettings(kafka.bootstrap))
    await writer.start()
    store = Store(KafkaSettings(kafka.bootstrap), topics, tmp_path, writer)
    copies, feed = await fill(store)
    for number, (word, append) in enumerate(DEATHS):
        with killed_behind(monkeypatch, word, append), pytest.raises(Crash):
            await asyncio.to_thread(migrate, store.settings(), lambda *_: None)
        if number < 2:  # it is still written to
            await store.write(KEYS[6 + number * 3 : 9 + number * 3], copies, feed)
    report = await asyncio.to_thread(migrate, store.settings(), lambda *_: None)
    assert report.was_open, "the last death was behind the record that opens"
    await check_moved(store)
    await check_readers(store)
    assert (report.generation, report.partitions) == (2, NEW)
    with pytest.raises(LogClosedError):
        await store.say(topics.log, KEYS[0], written())
    await writer.stop()
    assert await check_topics(store.kafka, new_of(topics).specs([(GCP, 1)], [PUBLIC])) == []


def new_of(topics: Topics) -> Topics:
    return replace(topics, generation=2, partitions=NEW)


async def check_moved(store: Store) -> None:
    """Every key's records are there, once and in order, and point to their event."""
    new, said = new_of(store.topics), KEYS
    events = store.told(new.log, ObjectWritten)
    assert events == {key: [written(key.encode(), key=key)] for key in said}
    copies = store.told(new.copies(GCP, 1), CopyChanged)
    states = {key: [getattr(e, "state", None) for e in found] for key, found in copies.items()}
    assert states == {key: [CopyState.PENDING, CopyState.PRESENT] for key in said}
    changes = store.told(new.changes(PUBLIC), ChangeAnnounced)
    numbers = {key: [getattr(e, "sequence", 0) for e in found] for key, found in changes.items()}
    assert numbers == {key: [1, 2] for key in said}
    places = {r.key: r.offset for r in read_topic(store.kafka, new.log)}
    for found in (*copies.values(), *changes.values()):
        for event in found:
            assert isinstance(event, (CopyChanged, ChangeAnnounced))
            assert (event.claim, event.log_offset) == (0, places[event.key])
    step = read_generations(store.kafka, store.topics)[-1]
    assert step.is_open
    assert carried_position(Position(1, 0, 1), new, [step]) == Cut.parse(step.cut)


async def check_readers(store: Store) -> None:
    """The hook and the worker's group pass over nothing that they had not come to."""
    old, new = store.topics, new_of(store.topics)
    begin = {
        r.partition: r.event.offset_next
        for r in read_topic(store.kafka, new.cursors)
        if isinstance(r.event, CursorMoved)
    }
    assert begin.keys() == set(range(NEW))
    owed = keys_behind(store, old.changes(PUBLIC), dict(enumerate(READ)))
    assert owed <= keys_behind(store, new.changes(PUBLIC), begin), "the hook passes over a change"
    offsets = group_offsets(store.kafka, new.group("replicate.gcp.1"), new.log, NEW)
    assert any(offsets), "it reads everything again"
    owed = keys_behind(store, old.log, dict(enumerate(DONE)))
    assert owed <= keys_behind(store, new.log, dict(enumerate(offsets))), "an object is passed over"


def keys_behind(store: Store, topic: str, begin: dict[int, int]) -> set[tuple[str, int]]:
    """What a reader still reads that begins there: keys, and numbers of their changes."""
    return {
        (r.key, getattr(r.event, "sequence", 0))
        for r in read_topic(store.kafka, topic)
        if isinstance(r.event, (ChangeAnnounced, ObjectWritten)) and r.offset >= begin[r.partition]
    }
