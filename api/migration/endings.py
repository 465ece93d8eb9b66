"""What stands behind the records: how far each hook and each group had come, in new words.

A reader who had come to certain offsets on the old partitions begins, on each new partition, at the
first record that was carried from behind one of them: nothing is passed over, some is read again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from tidestore.api.migration.places import Places
from tidestore.api.migration.rules import Cursors
from tidestore.connectors.carrying import (
    Moved,
    Source,
    Target,
    begin_group,
    ends_of,
    group_offsets,
)
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.tail import read_topic
from tidestore.schemas.codec import encode
from tidestore.schemas.events import CursorMoved, HookRemoved, HookSaved, PartitionClaimed
from tidestore.schemas.objects import ReplicaName, check_dataset
from tidestore.schemas.positions import Cut
from tidestore.schemas.topics import Topics, claim_key


def move_cursors(
    kafka: KafkaSettings, old: Topics, new: Topics, places: Places, target: Target
) -> None:
    """Write a cursor for each hook on each new partition. Raises LogError, UnknownSchemaError."""
    cursors = Cursors()
    for batch in Source(kafka, old.cursors, old.partitions).read():
        for record in batch:
            cursors.take(record.partition, record.offset, record.value or b"")
    hooks: dict[str, HookSaved] = {}
    for folded in read_topic(kafka, new.hooks):
        if isinstance(folded.event, HookSaved):
            hooks[folded.event.hook_id] = folded.event
        elif isinstance(folded.event, HookRemoved):
            hooks.pop(folded.event.hook_id, None)
    ends: dict[str, dict[int, int]] = {}
    now_ms = int(time.time() * 1000)
    for hook in hooks.values():
        feed = new.changes(check_dataset(hook.dataset))
        if feed not in ends:
            ends[feed] = ends_of(kafka, feed, new.partitions)
        offsets = cursors.of(hook.hook_id, _start(hook, old))
        begin = places.begin(f"changes.{hook.dataset}", offsets, ends[feed])
        told = cursors.delivered(hook.hook_id)
        records = [
            CursorMoved(hook.hook_id, number, first, 0, now_ms, delivered=0 if number else told)
            for number, first in sorted(begin.items())
        ]
        target.append(
            new.cursors,
            [
                Moved(item.partition, f"{item.hook_id}/{item.partition}".encode(), encode(item))
                for item in records
            ],
        )


def _start(hook: HookSaved, old: Topics) -> tuple[int, ...]:
    """From where a hook hears on partitions where it has no cursor."""
    cut = Cut.parse(hook.start_cut)
    if (cut.generation, len(cut.offsets_next)) == (old.generation, old.partitions):
        return cut.offsets_next
    return (0,) * old.partitions  # of an earlier generation, so it has a cursor on each


def move_groups(
    kafka: KafkaSettings,
    old: Topics,
    new: Topics,
    places: Places,
    lives: Mapping[ReplicaName, int],
) -> None:
    """Let workers and feeds begin where those of the old generation had come to."""
    ends = ends_of(kafka, new.log, new.partitions)
    words = [*(f"replicate.{name}.{life}" for name, life in lives.items()), "feeds"]
    for word in words:
        done = group_offsets(kafka, kafka.group(old.group(word)), old.log, old.partitions)
        begin = places.begin("log", dict(enumerate(done)), ends)
        begin_group(kafka, kafka.group(new.group(word)), new.log, begin)


def claim_all(topics: Iterable[str], partitions: int, target: Target) -> None:
    """Claim every partition, so that late words of an earlier run of ours do not count."""
    now_ms = int(time.time() * 1000)
    for topic in topics:
        claims = [PartitionClaimed("migrate", number, now_ms) for number in range(partitions)]
        target.append(
            topic,
            [Moved(c.partition, claim_key(c.partition).encode(), encode(c)) for c in claims],
        )
