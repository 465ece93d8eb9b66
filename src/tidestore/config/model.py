"""The configuration of a store as a value, and the settings of each process made from it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from tidestore.api.settings import GatewaySettings, Limits, StagingEntry
from tidestore.connectors.credentials import Keyring, Secret, StoreAddress
from tidestore.connectors.directory import Served
from tidestore.connectors.generations import folder_of, read_generations
from tidestore.connectors.kafka import KafkaSettings
from tidestore.schemas.generations import topics_now
from tidestore.schemas.objects import DatasetName, ReplicaName
from tidestore.schemas.topics import Topics
from tidestore.streams.prices import SourceSettings
from tidestore.streams.settings import (
    FeedsSettings,
    ScrubSettings,
    ServingSettings,
    WorkerSettings,
)


class ConfigError(Exception):
    """The configuration cannot be used; the text says where and what to do."""


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """One replica as configured."""

    name: ReplicaName
    url: str
    incarnation: int
    address: StoreAddress


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that tidestore.toml says."""

    kafka: KafkaSettings
    topics: Topics
    replicas: tuple[ReplicaConfig, ...]
    origin: ReplicaName
    datasets: tuple[DatasetName, ...]
    data_folder: Path
    host: str
    port: int
    tokens: dict[str, str]
    admins: tuple[str, ...]
    seal_key: Secret
    hook_networks: tuple[str, ...]
    staging: tuple[StagingEntry, ...]
    limits: Limits
    is_local: bool
    scrub: ScrubSettings
    keyring: Keyring
    sources: SourceSettings = field(default_factory=SourceSettings)

    def at(self, topics: Topics) -> Config:
        """The same, in another generation of the log; its views lie in a folder of their own."""
        return replace(self, topics=topics, data_folder=folder_of(self.data_folder, topics))

    def in_use(self) -> Config:
        """The same, in the generation that is in use now. Blocks; raises LogError."""
        return self.at(topics_now(self.topics, read_generations(self.kafka, self.topics)))

    def gateway(self, gateway_id: str = "0", port: int | None = None) -> GatewaySettings:
        """The settings of one gateway process."""
        return GatewaySettings(
            kafka=self.kafka,
            topics=self.topics,
            replicas=self.served,
            origin=self.origin,
            data_folder=self.data_folder / f"gateway-{gateway_id}",
            host=self.host,
            port=self.port if port is None else port,
            tokens=self.tokens,
            admins=self.admins,
            datasets=self.datasets,
            staging=self.staging,
            limits=self.limits,
            seal_key=self.seal_key,
            hook_networks=self.hook_networks,
            gateway_id=gateway_id,
            is_local=self.is_local,
            keyring=self.keyring,
        )

    def worker(self, replica: str, worker_id: str = "0") -> WorkerSettings:
        """The settings of one worker of a replica; raises ConfigError for an unknown one."""
        mine = next((item for item in self.served if item.name == replica), None)
        if mine is None:
            names = ", ".join(item.name for item in self.replicas)
            raise ConfigError(f"there is no replica {replica!r}; configured are {names}")
        return self._worker(mine, self.served, mine.name == self.origin, worker_id)

    def serving(self, replica: str, worker_id: str = "0") -> ServingSettings:
        """The settings of a process that serves a replica, which the topic alone may know."""

        def make(life: Served, replicas: tuple[Served, ...], is_origin: bool) -> WorkerSettings:  # noqa: FBT001
            return self._worker(life, replicas, is_origin, worker_id)

        return ServingSettings(
            kafka=self.kafka,
            topics=self.topics,
            name=replica,
            replicas=self.served,
            keyring=self.keyring,
            data_folder=self.data_folder / f"worker-{replica}-{worker_id}",
            make_worker=make,
            origin=self.origin,
        )

    def _worker(
        self,
        life: Served,
        replicas: tuple[Served, ...],
        is_origin: bool,  # noqa: FBT001
        worker_id: str,
    ) -> WorkerSettings:
        return WorkerSettings(
            kafka=self.kafka,
            topics=self.topics,
            replica=life,
            replicas=replicas,
            data_folder=self.data_folder / f"worker-{life.name}-{worker_id}",
            worker_id=worker_id,
            is_origin=is_origin,
            scrub=self.scrub,
            sources=self.sources,
            seal_key=self.seal_key,
            second_look_seconds=self.limits.second_look_seconds,
        )

    def feeds(self, worker_id: str = "0") -> FeedsSettings:
        """The settings of one feeds worker."""
        return FeedsSettings(
            kafka=self.kafka,
            topics=self.topics,
            replicas=self.served,
            data_folder=self.data_folder / f"feeds-{worker_id}",
            datasets=self.datasets,
            worker_id=worker_id,
        )

    @property
    def served(self) -> tuple[Served, ...]:
        """The replicas of the file, as processes serve them unless the topic says otherwise."""
        return tuple(
            Served(item.name, item.incarnation, item.address, item.url.split("?", 1)[0])
            for item in self.replicas
        )
