"""One move to more partitions, from its beginning to its end; the same call goes on after a kill.

    topics made --> building: passes, until little is left --> closing: the log closed, then all
    others; the rest carried; cursors, groups, claims --> open --> the old topics laid aside

The log is closed before the topics that speak of it: what a worker says of an event is then never
behind the event. Crash points: docs/migration.md.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tidestore.api.migration.carrier import Carrier
from tidestore.api.migration.endings import claim_all, move_cursors, move_groups
from tidestore.api.migration.places import Places
from tidestore.api.migration.rules import StampedRecords, log_record
from tidestore.connectors.carrying import Raw, Target, ends_of
from tidestore.connectors.fence import close_topics, lay_aside, topics_of, widen
from tidestore.connectors.generations import read_generations
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.provision import provision
from tidestore.schemas.codec import encode
from tidestore.schemas.generations import (
    GenerationChanged,
    GenerationState,
    generation_key,
    step_ahead,
    topics_now,
)
from tidestore.schemas.objects import DatasetName, ReplicaName
from tidestore.schemas.positions import Cut
from tidestore.schemas.topics import Topics, receipt_subject

# The log is closed when a pass over everything took less: writers then wait about as long.
QUICK_SECONDS: Final = 2.0
# A pass takes as long as what was written during the one before; when that does not shrink in so
# many, writes come faster than they can be carried.
PASSES_MAX: Final = 100

_RECEIPTS: Final = "receipts"

Progress = Callable[[str, int], None]


class MigrationRefusedError(Exception):
    """Nothing was done, or nothing more. The hint says what to do."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """What a migration is told. `topics` are those of the configuration file."""

    kafka: KafkaSettings
    topics: Topics
    partitions: int
    data_folder: Path


@dataclass(slots=True)
class Report:
    """What was done."""

    generation: int
    partitions: int
    # Records of each topic that are in the new generation, by the topic's word.
    carried: dict[str, int] = field(default_factory=dict)
    closed_seconds: float = 0.0
    was_open: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """From where to where."""

    old: Topics
    new: Topics
    # The step that an interrupted run has reached.
    step: GenerationChanged | None


def find_route(settings: MigrationSettings, known: list[GenerationChanged]) -> Route:
    """What is to be done. Pure; raises MigrationRefusedError."""
    old = topics_now(settings.topics, known)
    step = step_ahead(old, known)
    if step is None:
        before = next((r for r in known if r.is_open and r.generation == old.generation), None)
        if before is not None and settings.partitions == old.partitions:
            # It is open: what may be left is to lay the old topics aside.
            past = replace(
                old, generation=before.from_generation, partitions=before.from_partitions
            )
            return Route(past, old, before)
        if settings.partitions <= old.partitions:
            raise MigrationRefusedError(
                f"the log has {old.partitions} partitions",
                "more can be had, fewer cannot: name a greater number",
            )
        new = replace(old, generation=old.generation + 1, partitions=settings.partitions)
        return Route(old, new, None)
    if settings.partitions != step.partitions:
        raise MigrationRefusedError(
            f"a move to {step.partitions} partitions is under way",
            f"let it end: tidestore migrate --partitions {step.partitions}",
        )
    new = replace(old, generation=step.generation, partitions=step.partitions)
    return Route(old, new, step)


class Migration:
    """One run. Blocks; belongs to one thread."""

    def __init__(self, settings: MigrationSettings, route: Route, progress: Progress) -> None:
        self._kafka = settings.kafka
        self._old, self._new, self._step = route.old, route.new, route.step
        self._progress = progress
        self._run = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._places = Places(settings.data_folder / f"migrate-g{self._new.generation}.sqlite")
        self._target = Target(settings.kafka)
        self._carriers: dict[str, Carrier] = {}
        self._report = Report(self._new.generation, self._new.partitions)

    def close(self) -> None:
        """Let go of everything."""
        self._places.close()

    def carry_out(self) -> Report:
        """Do all of it. Raises MigrationRefusedError, LogError, UnknownSchemaError."""
        if self._step is not None and self._step.is_open:
            self._report.was_open = True
            self._lay_aside()
            return self._report
        self._follow()
        if self._step is None or self._step.state == GenerationState.BUILDING:
            self._say(GenerationState.BUILDING)
            self._catch_up()
            self._check_newest()
        began = time.monotonic()
        self._say(GenerationState.CLOSING)
        log = self._carriers["log"]
        close_topics(self._kafka, {self._old.log: self._old.partitions})
        self._progress("the log takes no more records", 0)
        log.carry()
        self._follow()
        close_topics(self._kafka, dict.fromkeys(self._spoken(), self._old.partitions))
        for carrier in self._carriers.values():
            carrier.carry()
        self._progress("all of it is carried", 0)
        self._end()
        self._check_newest()
        self._open(log)
        self._report.closed_seconds = time.monotonic() - began
        self._report.carried = {c.word: self._places.count(c.word) for c in self._carriers.values()}
        self._lay_aside()
        return self._report

    # Steps.

    def _follow(self) -> None:
        """Make the topics of all that there is now, and a carrier for each."""
        old, new = self._old, self._new
        lives, datasets = self._lives(), self._datasets()
        if old.deliveries in topics_of(self._kafka):
            widen(self._kafka, old.deliveries, new.partitions)
        specs = new.specs(list(lives.items()), datasets)
        asyncio.run(provision(self._kafka, specs, replication=new.replication))
        pairs = [("log", old.log, new.log)]
        for name, life in lives.items():
            pairs.append((f"copies.{name}.{life}", old.copies(name, life), new.copies(name, life)))
        pairs += [(f"changes.{name}", old.changes(name), new.changes(name)) for name in datasets]
        if old.receipts in topics_of(self._kafka):
            pairs.append((_RECEIPTS, old.receipts, new.receipts))
        for word, source, target in pairs:
            if word not in self._carriers:
                self._carriers[word] = self._carrier(word, source, target)

    def _carrier(self, word: str, source: str, target: str) -> Carrier:
        stamped = StampedRecords(self._translate)

        def rule(record: Raw) -> bytes | None:
            value = record.value or b""
            if word in ("log", _RECEIPTS):
                return log_record(record.key, value)
            return stamped.take(record.partition, record.offset, value)

        carrier = Carrier(
            self._kafka,
            word,
            (source, self._old.partitions),
            (target, self._new.partitions),
            rule,
            self._places,
            self._target,
            are_events=word == "log",
            subject_of=receipt_subject if word == _RECEIPTS else str,
        )
        carrier.read_carried()
        return carrier

    def _translate(self, key: str, partition: int, offset: int) -> int:
        # An event that was written since the log was read last is carried before what speaks of it.
        self._carriers["log"].catch_up(partition, offset)
        return self._places.event_offset(key, offset)

    def _catch_up(self) -> None:
        """Pass over everything until a pass is quick. Raises MigrationRefusedError."""
        for _ in range(PASSES_MAX):
            began = time.monotonic()
            self._follow()
            for carrier in self._carriers.values():
                carrier.carry()
                self._progress(carrier.word, carrier.count)
            if time.monotonic() - began < QUICK_SECONDS:
                return
        raise MigrationRefusedError(
            "writes come faster than they can be carried",
            "give the same command again at a quieter time: what was carried stays",
        )

    def _end(self) -> None:
        """What is not carried record by record."""
        move_cursors(self._kafka, self._old, self._new, self._places, self._target)
        move_groups(self._kafka, self._old, self._new, self._places, self._lives())
        names = [self._new.copies(name, life) for name, life in self._lives().items()]
        names += [self._new.changes(name) for name in self._datasets()]
        claim_all([*names, self._new.cursors], self._new.partitions, self._target)

    def _open(self, log: Carrier) -> None:
        ends = ends_of(self._kafka, self._new.log, self._new.partitions)
        self._say(
            GenerationState.OPEN,
            from_cut=_cut(self._old, log.ends),
            cut=_cut(self._new, ends),
        )

    def _lay_aside(self) -> None:
        names = [self._old.log, *self._spoken()]
        there = topics_of(self._kafka)
        kept = [name for name in names if name in there]
        lay_aside(self._kafka, kept, self._old.windows.replay_ms)

    def _say(self, state: GenerationState, *, from_cut: str = "", cut: str = "") -> None:
        record = GenerationChanged(
            generation=self._new.generation,
            partitions=self._new.partitions,
            state=state.value,
            from_generation=self._old.generation,
            from_partitions=self._old.partitions,
            run=self._run,
            changed_at_ms=int(time.time() * 1000),
            from_cut=from_cut,
            cut=cut,
        )
        key = generation_key(record.generation)
        self._target.say(self._new.replicas, 0, key, encode(record))
        self._progress(state.value, 0)

    def _check_newest(self) -> None:
        """End here if another run has begun since: it goes on alone."""
        for record in read_generations(self._kafka, self._new):
            if record.generation == self._new.generation and record.run != self._run:
                raise MigrationRefusedError(
                    f"another run has taken over: {record.run}", "let that one end"
                )

    # What there is.

    def _lives(self) -> dict[ReplicaName, int]:
        """The newest life of each replica that ever had a topic in this generation."""
        found: dict[ReplicaName, int] = {}
        for topic in topics_of(self._kafka):
            life = self._old.find_life(topic)
            if life is not None:
                found[life[0]] = max(life[1], found.get(life[0], 0))
        return found

    def _datasets(self) -> list[DatasetName]:
        found = (self._old.find_dataset(topic) for topic in topics_of(self._kafka))
        return sorted(name for name in found if name is not None)

    def _spoken(self) -> list[str]:
        """All old topics but the log."""
        old = self._old
        return [
            topic
            for topic in topics_of(self._kafka)
            if old.find_life(topic)
            or old.find_dataset(topic)
            or topic in (old.cursors, old.receipts)
        ]


def migrate(settings: MigrationSettings, progress: Progress) -> Report:
    """Move the log. Blocks; raises MigrationRefusedError, LogError, UnknownSchemaError."""
    known = read_generations(settings.kafka, settings.topics)
    route = find_route(settings, known)
    if route.old.log not in topics_of(settings.kafka):
        raise MigrationRefusedError(
            f"there is no topic {route.old.log}",
            "a store that was never started has nothing to move: set [kafka] partitions",
        )
    migration = Migration(settings, route, progress)
    try:
        return migration.carry_out()
    finally:
        migration.close()


def _cut(topics: Topics, ends: dict[int, int]) -> str:
    return str(Cut(topics.generation, tuple(ends[number] for number in range(topics.partitions))))
