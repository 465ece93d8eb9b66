"""One recovery from its beginning to its report: what must be so, and then step by step.

    new log generation? this replica the origin? log empty, or only ours? --> topics made
        --> what was kept, restored --> everything on the replica, appended (rebuild.py)

Crash points: between any two steps, and within each. Every step finds what is done and goes on, so
the same command is given again. No gateway may take writes before it has ended: one that did makes
the next run refuse, because two histories cannot be put into one log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tidestore.api.recovery.findings import Findings
from tidestore.api.recovery.inventory import Inventory
from tidestore.api.recovery.rebuild import REQUEST_ID, AppendEvent, Progress, Rebuild, Task
from tidestore.api.recovery.state import KeptState, read_state, restore_state
from tidestore.api.settings import Limits
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import provision
from tidestore.connectors.registry import make_store
from tidestore.connectors.sealing import RecordSeal
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.tail import read_topic
from tidestore.schemas.events import Event, ObjectRedacted, ObjectWritten
from tidestore.schemas.kept import KEPT_TOPICS
from tidestore.schemas.objects import DatasetName, ObjectKey, ReplicaName
from tidestore.schemas.topics import Topics, partition_of


class RecoveryRefusedError(Exception):
    """Something must be put right first; nothing was written. The hint says what."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """What a recovery is told."""

    kafka: KafkaSettings
    topics: Topics
    # All replicas of the configuration, with their lives: their topics are made.
    replicas: tuple[tuple[ReplicaName, int], ...]
    # The one that survived.
    name: ReplicaName
    address: StoreAddress
    origin: ReplicaName
    datasets: tuple[DatasetName, ...]
    data_folder: Path
    seal_key: Secret
    limits: Limits
    reads_all: bool = False
    # Read and prove everything, ask no broker and write nothing.
    is_dry: bool = False


async def recover(settings: RecoverySettings, progress: Progress) -> Findings:
    """Build the log anew. Raises RecoveryRefusedError, StoreError, LogError."""
    topics = settings.topics
    if not settings.is_dry:
        _check_configuration(settings)
    findings = Findings(str(settings.name), topics.generation)
    async with contextlib.AsyncExitStack() as stack:
        store = make_store(settings.name, settings.address)
        stack.push_async_callback(store.close)
        await store.open()
        inventory = Inventory(settings.data_folder / f"recover-{settings.name}.sqlite")
        stack.callback(inventory.close)
        state = await read_state(store, RecordSeal(settings.seal_key), findings)
        run = _Run(settings, store, inventory, findings, state, progress)
        if settings.is_dry:
            await run.rehearse()
        else:
            writer = LogWriter(settings.kafka)
            await writer.start()
            stack.push_async_callback(writer.stop)
            await run.carry_out(writer)
    return findings


def _check_configuration(settings: RecoverySettings) -> None:
    generation = settings.topics.generation
    if generation < 2:
        raise RecoveryRefusedError(
            "a log that is built anew needs a generation of its own",
            "set generation = 2 (or one more than it ever was) under [kafka], for all processes:"
            " positions that clients still hold name the old one, and must be refused",
        )
    if settings.origin != settings.name:
        raise RecoveryRefusedError(
            f"the configuration's origin is {settings.origin!r}, and {settings.name!r} survived",
            f'set origin = "{settings.name}" for all processes: writes need what is whole',
        )


class _Run:
    def __init__(
        self,
        settings: RecoverySettings,
        store: ObjectStore,
        inventory: Inventory,
        findings: Findings,
        state: KeptState,
        progress: Progress,
    ) -> None:
        self._settings = settings
        self._store = store
        self._inventory = inventory
        self._findings = findings
        self._state = state
        self._progress = progress

    async def rehearse(self) -> None:
        """Everything but the writing."""

        async def nowhere(key: ObjectKey, value: bytes) -> None:
            del key, value

        rebuild = self._rebuild(nowhere, 1)
        await rebuild.list()
        self._refuse_nothing()
        for topic, events in self._state.events.items():
            self._findings.restored[topic] += len(events)
        await rebuild.append()

    async def carry_out(self, writer: LogWriter) -> None:
        """Check, restore, append."""
        topics = self._settings.topics
        specs = topics.specs(list(self._settings.replicas), list(self._settings.datasets))
        await provision(self._settings.kafka, specs, replication=topics.replication)
        await asyncio.to_thread(self._read_log)

        async def append(key: ObjectKey, value: bytes) -> None:
            partition = partition_of(key, topics.partitions)
            await writer.append_bytes(topics.log, partition, key.encode(), value)

        async def append_state(topic: str, key: str, event: Event) -> None:
            await writer.append(self._topic(topic), 0, key, event)

        known = await asyncio.to_thread(self._read_state_topics)
        listing = self._rebuild(append, 0)
        await listing.list()
        self._refuse_nothing()
        self._refuse_unknown_datasets()
        epoch = await restore_state(
            self._state, known, append_state, self._findings,
            replica=self._settings.name, partitions=topics.partitions,
        )  # fmt: skip
        await self._rebuild(append, epoch).append()

    def _rebuild(self, append: AppendEvent, epoch: int) -> Rebuild:
        settings = self._settings
        task = Task(epoch, settings.limits, self._state.redactions, settings.reads_all)
        return Rebuild(self._store, self._inventory, self._findings, task, append, self._progress)

    def _topic(self, word: str) -> str:
        topics = self._settings.topics
        return {
            "hooks": topics.hooks, "redactions": topics.redactions, "replicas": topics.replicas
        }[word]  # fmt: skip

    def _read_log(self) -> None:
        """What the log has already; refuses what is not of an earlier run of ours."""
        self._inventory.add_logged(self._logged())
        generation = self._state.generation
        if not self._inventory.has_logged and generation >= self._findings.generation:
            raise RecoveryRefusedError(
                f"this replica was written under log generation {generation}",
                f"set generation = {generation + 1} under [kafka], for all processes",
            )

    def _logged(self) -> Iterator[tuple[str, str]]:
        topics, name = self._settings.topics, self._settings.name
        for record in read_topic(self._settings.kafka, topics.log):
            event = record.event
            if isinstance(event, ObjectRedacted):
                yield event.key, ""
            elif isinstance(event, ObjectWritten) and (event.request_id, event.origin) == (
                REQUEST_ID,
                name,
            ):
                yield event.key, event.sha256
            else:
                raise RecoveryRefusedError(
                    f"{topics.log} is not empty: {record.key} was not put there by a recovery"
                    f" from {name}",
                    "a log that has a history of its own stays as it is; to begin again, set the"
                    " next generation under [kafka] and keep gateways stopped until the end",
                )

    def _read_state_topics(self) -> dict[str, dict[str, Event]]:
        return {
            word: {
                record.key: record.event
                for record in read_topic(self._settings.kafka, self._topic(word))
                if record.event is not None
            }
            for word in KEPT_TOPICS
        }

    def _refuse_nothing(self) -> None:
        if not self._inventory.counts():
            raise RecoveryRefusedError(
                f"the replica {self._settings.name} holds no object of ours",
                "is its URL right? a prefix or bucket that was never written to looks like this",
            )

    def _refuse_unknown_datasets(self) -> None:
        there = self._inventory.datasets() | self._state.datasets
        missing = sorted(there - set(map(str, self._settings.datasets)))
        if missing:
            names = ", ".join(f'"{name}"' for name in missing)
            raise RecoveryRefusedError(
                f"the replica knows of datasets that the configuration does not name: {names}",
                f"add them to datasets = [{names}] at the top of the file",
            )
