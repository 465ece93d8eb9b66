"""Replicas and the origin at a gateway's start: registered when new, refused when contradicted.

The origin is a record with an epoch (design point 2). Which replica it is decides where every
writer creates, so two gateways that disagree would let one key get two contents: a configuration
that names another origin than the log's record is refused, with what to do.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from tidestore.api.settings import GatewaySettings
from tidestore.connectors.directory import Directory, Known, Served
from tidestore.connectors.log import LogWriter
from tidestore.schemas.datasets import DatasetRegistered, dataset_key
from tidestore.schemas.events import OriginChosen, ReplicaRegistered
from tidestore.schemas.objects import MalformedError
from tidestore.schemas.topics import ORIGIN_KEY

LOGGER: Final = logging.getLogger("tidestore.replicas")


async def settle_replicas(
    settings: GatewaySettings, writer: LogWriter, directory: Directory
) -> int:
    """Register what is new in the file, replicas and datasets, and return the origin's epoch.

    Raises MalformedError, LogError. Two gateways that start for the first time at once may both
    choose the origin: the same one, or one of them is refused below, after reading what the other
    wrote.
    """
    topic = settings.topics.replicas
    known = directory.known()
    now_ms = int(time.time() * 1000)
    for entry in settings.replicas:
        event = registration(entry, known.get(entry.name), now_ms)
        if event is not None:
            await writer.append(topic, 0, entry.name, event)
    for dataset in sorted(set(settings.datasets) - directory.datasets()):
        found = DatasetRegistered(dataset, now_ms, settings.gateway_id)
        await writer.append(topic, 0, dataset_key(dataset), found)
    if directory.origin() is None:
        chosen = OriginChosen(settings.origin, 1, now_ms)
        await writer.append(topic, 0, ORIGIN_KEY, chosen)
    await directory.read_to_end(writer)
    origin = directory.origin()
    assert origin is not None, "chosen above, if by nobody before"  # noqa: S101
    if origin[0] != settings.origin:
        raise MalformedError(
            "origin",
            f"is {settings.origin!r} here, but this store's log says {origin[0]!r}",
            hint=f'set origin = "{origin[0]}" in tidestore.toml',
        )
    return origin[1]


def registration(entry: Served, known: Known | None, now_ms: int) -> ReplicaRegistered | None:
    """The record that makes the topic know a replica of the file; None when it knows it already.

    A greater incarnation in the file begins a new life. A smaller one is an old file: what the
    topic says stands, and a replica that was retired there stays so.
    """
    if known is None or known.record.incarnation < entry.incarnation:
        return ReplicaRegistered(
            entry.name, entry.incarnation, entry.url, now_ms, changed_by="configuration"
        )
    record = known.record
    if not isinstance(record, ReplicaRegistered):
        LOGGER.warning(
            "%s is in the configuration, but was retired: %s; take it out of the file",
            entry.name, record.reason or "no reason was given",
        )  # fmt: skip
        return None
    if (record.incarnation, record.url) == (entry.incarnation, entry.url):
        return None
    if record.incarnation > entry.incarnation:
        return None
    return ReplicaRegistered(
        entry.name,
        entry.incarnation,
        entry.url,
        record.registered_at_ms,
        is_paused=record.is_paused,
        changed_by="configuration",
        reason=record.reason,
        filter=record.filter,
    )
