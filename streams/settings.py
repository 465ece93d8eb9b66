"""What a worker is told. Read from the environment and files by the composition root alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tidestore.connectors.credentials import Keyring, NoKeyring, Secret
from tidestore.connectors.directory import Served
from tidestore.connectors.kafka import KafkaSettings
from tidestore.schemas.objects import DatasetName
from tidestore.schemas.topics import Topics
from tidestore.streams.prices import SourceSettings


@dataclass(frozen=True, slots=True)
class ScrubSettings:
    """How replicas are compared with the log, and read back; docs/scrub.md."""

    # A comparison by itself so often; 0 is never.
    every_hours: float = 24.0
    # Bytes read back from each replica; 0 is none. Where reading costs egress, 10 GB are about a
    # dollar a day at list price.
    readback_gb_per_day: float = 10.0
    # Beside other work: listing a million objects then takes eight minutes, and little CPU.
    keys_per_second: int = 2_000
    stop_percent: int = 10
    quarantine_hours: float = 24.0
    # Signs statements; without one they are published unsigned, and say so.
    signing_key: Secret = field(default_factory=lambda: Secret(""))


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One replicate worker in one life of its replica.

    `worker_id` names the process among those of the same replica and stays the same over restarts:
    Kafka's static membership then gives it its partitions back at once.
    """

    kafka: KafkaSettings
    topics: Topics
    replica: Served
    # All replicas, as sources; the worker's own among them.
    replicas: tuple[Served, ...]
    data_folder: Path
    worker_id: str = "0"
    # A worker that is silent this long has lost its partitions. Kafka's brokers allow 6 s to
    # 30 min; 10 s is a long garbage collection, and a short outage for those who wait.
    session_seconds: float = 10.0
    # Copies under way at once, and what they may hold in memory. 64 MiB keep a worker well below
    # 300 MB, and are eight objects of the largest small size.
    copies_in_flight: int = 32
    copy_bytes_in_flight: int = 64 * 1024 * 1024
    # The origin's worker has nothing to copy: it may take its time.
    is_origin: bool = False
    # What each way costs, and how long a copy may wait for a cheaper one.
    sources: SourceSettings = field(default_factory=SourceSettings)
    # Seals records that are kept on the replica: their owner must not read them (keeping.py).
    seal_key: Secret = field(default_factory=lambda: Secret(""))
    # After a removal the replica is looked at again: longer than any request lives (60 s at most
    # without a byte, connecting included), so that none that was under way can come after it.
    second_look_seconds: float = 120.0
    # Large objects at once: two keep both ends busy; more only cost memory (design section 7).
    large_in_flight: int = 2
    scrub: ScrubSettings = field(default_factory=ScrubSettings)


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """One process that serves a replica, whatever becomes of it."""

    kafka: KafkaSettings
    topics: Topics
    name: str
    # Those of the configuration file; the others are on the topic.
    replicas: tuple[Served, ...]
    keyring: Keyring
    data_folder: Path
    # From a life, all replicas that are served, and whether it is the origin.
    make_worker: Callable[[Served, tuple[Served, ...], bool], WorkerSettings]
    # Until the topic names one.
    origin: str


@dataclass(frozen=True, slots=True)
class FeedsSettings:
    """One feeds worker. `replicas` are those of the configuration file."""

    kafka: KafkaSettings
    topics: Topics
    replicas: tuple[Served, ...]
    data_folder: Path
    datasets: tuple[DatasetName, ...] = field(default=(DatasetName("public"),))
    worker_id: str = "0"
    session_seconds: float = 10.0
    keyring: Keyring = field(default_factory=NoKeyring)
