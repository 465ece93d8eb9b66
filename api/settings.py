"""What a gateway is told. Read from the environment and files by the composition root alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tidestore.connectors.credentials import Keyring, NoKeyring, Secret, StoreAddress
from tidestore.connectors.directory import Served
from tidestore.connectors.kafka import KafkaSettings
from tidestore.schemas.objects import DatasetName, ReplicaName
from tidestore.schemas.topics import Topics

KIB = 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StagingEntry:
    """A store from which files may be taken by `source_url`. Only below its own URL."""

    name: str
    url: str
    address: StoreAddress


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the API, each with its reason."""

    # Blobs up to this ride inside their event: a replica then reads nothing from the origin.
    inline_bytes_max: int = 32 * KIB
    # Manifests are read by every worker, so they ride along up to more.
    inline_manifest_bytes_max: int = 256 * KIB
    # A body up to this is held in memory and stored in one request; larger ones stream in parts.
    whole_body_bytes_max: int = 8 * MIB
    # What all bodies in memory may hold together: keeps a gateway well below 300 MB.
    bodies_bytes_max: int = 96 * MIB
    # 50,000 entries of a bundle take about 13 MB; twice that, for long names.
    json_bytes_max: int = 32 * MIB
    # A client that sends nothing for this long is gone.
    idle_seconds_max: float = 60.0
    # How long a commit waits for the index to know what was just written elsewhere (point 8).
    catch_up_seconds_max: float = 5.0
    # `Prefer: wait` at most; proxies cut longer requests anyway.
    wait_seconds_max: float = 120.0
    # A signed link lives this long: enough to start a download, little enough to leak.
    link_seconds: int = 900
    page_items_max: int = 1_000
    # A staged object over this is taken by a task; below, while the client waits.
    task_bytes_min: int = 16 * MIB
    # A gateway that has not said anything about its task for this long has lost it to another.
    task_lease_seconds: float = 15.0
    # What is promised of copies: so much of what is written is on a replica within so long.
    objective_percent: float = 99.9
    objective_seconds: float = 900.0
    # A canary shows the whole way to each replica; half a dozen small requests to each store.
    canary_seconds: float = 60.0
    # How long a redaction can be lifted, unless the admin says otherwise: seven days.
    grace_seconds: int = 604_800
    # After a removal a replica is looked at again so much later: longer than a request lives.
    second_look_seconds: float = 120.0
    # Hooks one store keeps; each costs a cursor per partition.
    hooks_max: int = 1_000


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """One gateway process."""

    kafka: KafkaSettings
    topics: Topics
    # Those of the configuration file; others come from the topic (docs/replicas.md).
    replicas: tuple[Served, ...]
    origin: ReplicaName
    data_folder: Path
    host: str = "127.0.0.1"
    port: int = 8080
    # sha256 of each accepted token, and whom it stands for.
    tokens: dict[str, str] = field(default_factory=dict)
    # Names of those tokens whose owners may redact.
    admins: tuple[str, ...] = ()
    datasets: tuple[DatasetName, ...] = (DatasetName("public"),)
    staging: tuple[StagingEntry, ...] = ()
    limits: Limits = field(default_factory=Limits)
    # Seals hook secrets; all gateways of a store share it.
    seal_key: Secret = field(default_factory=lambda: Secret(""))
    # Networks that hooks may call although they are not public; local mode allows loopback.
    hook_networks: tuple[str, ...] = ()
    gateway_id: str = "0"
    is_local: bool = False
    # The credentials of replicas that are not in the file, by name.
    keyring: Keyring = field(default_factory=NoKeyring)
