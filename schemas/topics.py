"""Every topic: its name, its key, its partitions and its settings. Spelled only here.

Keys and partitions. `log`, `copies.*` and `changes.*` have the same number of partitions, and all
producers put a key where `partition_of` says: what concerns one object is in one partition number
everywhere, so one worker can join them without a shuffle. Kafka's clients do not hash alike by
default (librdkafka: crc32, Java and aiokafka: murmur2), which is why the partition is always
passed explicitly.

Claims. A worker that takes a partition of `copies.*`, `cursors` or `tasks` writes a claim there
under `claim_key`, a key that no object can have.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final

from tidestore.schemas.objects import DatasetName, ReplicaName

DAY_MS: Final = 24 * 60 * 60 * 1000

# Kafka's own default; a larger record would need every broker and consumer of a site changed.
RECORD_BYTES_MAX: Final = 1024 * 1024
# What an encoded value may be: room for key, headers and the batch's own framing.
VALUE_BYTES_MAX: Final = RECORD_BYTES_MAX - 16 * 1024

# A topic with this bound takes no record at all: see connectors/fence.py.
BYTES_SETTING: Final = "max.message.bytes"
CLOSED_BYTES: Final = "1"

COMPACTED: Final = "compact"
DELETED: Final = "delete"

CLAIM_PREFIX: Final = "!claim/"
TICK_PREFIX: Final = "!tick/"
CANARY_PREFIX: Final = "!canary/"
ORIGIN_KEY: Final = "!origin"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as it must be. `settings` are Kafka's own names and values.

    One that is shared by generations of the log `may_be_wider` than this one's.
    """

    name: str
    partitions: int
    settings: dict[str, str] = field(default_factory=dict)
    may_be_wider: bool = False


@dataclass(frozen=True, slots=True)
class Windows:
    """How long things are kept, in milliseconds.

    `replay_ms`: what a hook or reader may fall behind and still get every event (R9).
    `redaction_ms`: the time within which a redacted object's inline bytes leave the log.
    """

    replay_ms: int = 7 * DAY_MS
    redaction_ms: int = 14 * DAY_MS
    deliveries_ms: int = 30 * DAY_MS

    @property
    def segment_ms(self) -> int:
        """After this long a segment of a replayable topic is closed by the next record.

        The active segment is never compacted, so it must be rolled well inside the time that
        compaction has, or redacted bytes would stay.
        """
        return max(1, (self.redaction_ms - self.replay_ms) // 4)


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key: crc32 of its UTF-8 bytes, modulo the number of partitions."""
    return zlib.crc32(key.encode()) % partitions


def claim_key(partition: int) -> str:
    """The key under which a partition's claims are compacted: only the newest stays."""
    return f"{CLAIM_PREFIX}{partition}"


def tick_key(partition: int) -> str:
    """The key under which a quiet partition's ticks are compacted: no object can have it."""
    return f"{TICK_PREFIX}{partition}"


def canary_key(partition: int) -> str:
    """The key under which canaries of a partition are compacted: no object can have it."""
    return f"{CANARY_PREFIX}{partition}"


def retry_key(replica: str, incarnation: int, key: str) -> str:
    """The key under which requests to try a copy again are compacted: the newest is enough."""
    return f"{replica}.{incarnation}/{key}"


def receipt_key(party: str, key: str) -> str:
    """The key of the newest that a third party said about one object."""
    return f"{party}/{key}"


def receipt_subject(key: str) -> str:
    """The object's key in that of a receipt; it decides the partition."""
    return key.partition("/")[2]


def scrub_key(replica: str, incarnation: int, word: str = "") -> str:
    """The key of a replica's newest statement; with `word`, of how far something else has come."""
    return f"{replica}.{incarnation}" + (f"/{word}" if word else "")


@dataclass(frozen=True, slots=True)
class Topics:
    """All topic names of one store. A new log generation has names of its own."""

    prefix: str = "tidestore."
    partitions: int = 6
    generation: int = 1
    replication: int = 1
    windows: Windows = field(default_factory=Windows)

    def _name(self, word: str) -> str:
        return f"{self.prefix}{word}"

    def _partitioned(self, word: str) -> str:
        """Names of topics whose partitions are those of a log generation."""
        return self._name(word if self.generation == 1 else f"g{self.generation}.{word}")

    @property
    def log(self) -> str:
        """ObjectWritten, ObjectRedacted by object key."""
        return self._partitioned("log")

    @property
    def redactions(self) -> str:
        """RedactionDecided, RedactionLifted by target; read to its end before anything else."""
        return self._name("redactions")

    def copies(self, replica: ReplicaName, incarnation: int) -> str:
        """CopyChanged, PartitionClaimed by object key, for one life of one replica."""
        return self._partitioned(f"copies.{replica}.{incarnation}")

    def find_life(self, topic: str) -> tuple[ReplicaName, int] | None:
        """The replica and the incarnation of a copies topic; None for another topic."""
        start = self._partitioned("copies.")
        name, _, life = topic.removeprefix(start).rpartition(".")
        if not topic.startswith(start) or not name or not life.isdigit():
            return None
        return ReplicaName(name), int(life)

    def changes(self, dataset: DatasetName) -> str:
        """ChangeAnnounced by object key."""
        return self._partitioned(f"changes.{dataset}")

    def find_dataset(self, topic: str) -> DatasetName | None:
        """The dataset of a changes topic; None for another topic."""
        start = self._partitioned("changes.")
        name = topic.removeprefix(start)
        return DatasetName(name) if topic.startswith(start) and name else None

    def group(self, word: str) -> str:
        """The name of a consumer group that reads topics of this generation."""
        return self._partitioned(word)

    @property
    def replicas(self) -> str:
        """ReplicaRegistered, ReplicaRetired by name; OriginChosen under ORIGIN_KEY."""
        return self._name("replicas")

    @property
    def hooks(self) -> str:
        """HookSaved, HookRemoved by hook id."""
        return self._name("hooks")

    @property
    def cursors(self) -> str:
        """CursorMoved by hook id, in the partition of `changes` that the cursor is on."""
        return self._partitioned("cursors")

    @property
    def deliveries(self) -> str:
        """DeliveryAttempted by hook id."""
        return self._name("deliveries")

    @property
    def tasks(self) -> str:
        """TaskChanged by task id."""
        return self._name("tasks")

    @property
    def retries(self) -> str:
        """RetryAsked by replica, incarnation and object key: see retry_key."""
        return self._name("retries")

    @property
    def findings(self) -> str:
        """FindingReported by replica, incarnation and object key: see retry_key."""
        return self._name("findings")

    @property
    def scrubs(self) -> str:
        """ScrubReported, ReadbackMoved by replica and incarnation: see scrub_key."""
        return self._name("scrubs")

    @property
    def audit(self) -> str:
        """AuditRecorded by actor: what administrators did, never compacted and never deleted."""
        return self._name("audit")

    @property
    def objectives(self) -> str:
        """ObjectiveChanged by replica and incarnation: see scrub_key."""
        return self._name("objectives")

    @property
    def parties(self) -> str:
        """PartySaved, PartyRemoved by name: third parties who keep a replica of their own."""
        return self._name("parties")

    @property
    def receipts(self) -> str:
        """ReceiptClaimed by party and object key, see receipt_key: what outsiders say."""
        return self._partitioned("receipts")

    @property
    def poison(self) -> str:
        """RecordPoisoned by where the record stood."""
        return self._name("poison")

    def specs(
        self, replicas: list[tuple[ReplicaName, int]], datasets: list[DatasetName]
    ) -> list[TopicSpec]:
        """All topics of a store with these replicas (name, incarnation) and datasets."""
        kept, wide = self._compacted(), self.partitions
        return [
            TopicSpec(self.log, wide, kept),
            *(TopicSpec(self.copies(name, life), wide, kept) for name, life in replicas),
            *(TopicSpec(self.changes(dataset), wide, kept) for dataset in datasets),
            TopicSpec(self.cursors, wide, self._state()),
            TopicSpec(self.redactions, 1, self._state()),
            TopicSpec(self.replicas, 1, self._state()),
            TopicSpec(self.hooks, 1, self._state()),
            TopicSpec(self.tasks, 1, self._state()),
            TopicSpec(self.retries, 1, self._state()),
            TopicSpec(self.findings, 1, self._state()),
            TopicSpec(self.scrubs, 1, self._state()),
            TopicSpec(self.objectives, 1, self._state()),
            TopicSpec(self.parties, 1, self._state()),
            TopicSpec(self.receipts, wide, self._state()),
            TopicSpec(
                self.deliveries,
                wide,
                self._deleted(self.windows.deliveries_ms),
                may_be_wider=True,
            ),
            TopicSpec(self.poison, 1, self._deleted(self.windows.deliveries_ms)),
            TopicSpec(self.audit, 1, self._for_ever()),
        ]

    def _common(self) -> dict[str, str]:
        return {
            "message.timestamp.type": "LogAppendTime",
            BYTES_SETTING: str(RECORD_BYTES_MAX),
            "min.insync.replicas": "2" if self.replication >= 3 else "1",
            "unclean.leader.election.enable": "false",
        }

    def _compacted(self) -> dict[str, str]:
        """Replayable topics: nothing is compacted before the replay window is over."""
        windows = self.windows
        return {
            **self._common(),
            "cleanup.policy": COMPACTED,
            "min.compaction.lag.ms": str(windows.replay_ms),
            "max.compaction.lag.ms": str(windows.redaction_ms),
            "segment.ms": str(windows.segment_ms),
            # Batches stay as their writers packed them (lz4, connectors/log.py), on disk as well.
            "compression.type": "producer",
        }

    def _state(self) -> dict[str, str]:
        """Topics whose newest record per key is all that anybody asks for.

        Claims among them must outlive a frozen writer by far: a day before compaction does that.
        """
        return {
            **self._common(),
            "cleanup.policy": COMPACTED,
            "min.compaction.lag.ms": str(min(DAY_MS, self.windows.replay_ms)),
            "segment.ms": str(DAY_MS),
        }

    def _for_ever(self) -> dict[str, str]:
        return {**self._common(), "cleanup.policy": DELETED, "retention.ms": "-1"}

    def _deleted(self, keep_ms: int) -> dict[str, str]:
        return {
            **self._common(),
            "cleanup.policy": DELETED,
            "retention.ms": str(keep_ms),
            "segment.ms": str(min(DAY_MS, keep_ms)),
        }
