"""The replicas as the topic has them now, for commands that speak to stores and log themselves."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from tidestore.config import Config
from tidestore.connectors.credentials import Secret
from tidestore.connectors.directory import Known, Served, served
from tidestore.connectors.kafka import LogRefusedError
from tidestore.connectors.tail import read_topic
from tidestore.local.readback import ReplicaPlace
from tidestore.schemas.events import OriginChosen, ReplicaRegistered, ReplicaRetired


@dataclass(frozen=True, slots=True)
class Lives:
    """What is served, by name, and which replica is the origin."""

    served: dict[str, Served]
    origin: str


def read_lives(config: Config) -> Lives:
    """Read the topic once; the configuration alone counts where no gateway has made it yet.

    Blocks. Raises LogError.
    """
    known: dict[str, Known] = {}
    origin, epoch = str(config.origin), 0
    try:
        records = list(read_topic(config.kafka, config.topics.replicas))
    except LogRefusedError:
        records = []
    for record in records:
        event = record.event
        if isinstance(event, (ReplicaRegistered, ReplicaRetired)):
            known[event.name] = Known(event, record.offset)
        elif isinstance(event, OriginChosen) and event.epoch > epoch:
            origin, epoch = event.replica, event.epoch
    return Lives(served(config.served, known, config.keyring), origin)


def place_of(life: Served) -> ReplicaPlace:
    """Where a replica lies, with its credentials in clear: for clients that are not ours."""
    address = life.address
    root = f"{address.bucket}/{address.prefix}".rstrip("/")
    options = f"?{urlencode(address.options)}" if address.options else ""
    credentials: dict[str, Secret] = address.credentials
    return ReplicaPlace(
        str(life.name),
        f"{address.scheme}://{root}{options}",
        {name: secret.reveal() for name, secret in credentials.items()},
    )
