"""What a comparison needs, opened for it and closed after it: its view, and the parts around it."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tidestore.connectors.log import LogWriter
from tidestore.connectors.signing import Signer
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view import View
from tidestore.streams.records import Identity
from tidestore.streams.scrub import Scrubber
from tidestore.streams.scrub_judge import Rules
from tidestore.streams.scrub_view import ScrubFold
from tidestore.streams.settings import WorkerSettings


def identity_of(settings: WorkerSettings) -> Identity:
    """Which life of which replica a worker's settings are about."""
    topics, replica = settings.topics, settings.replica
    topic = topics.copies(replica.name, replica.incarnation)
    return Identity(replica.name, replica.incarnation, topic, topics.partitions, replica.filter)


async def open_scrubber(
    settings: WorkerSettings,
    store: ObjectStore,
    writer: LogWriter,
    folder: Path,
    stack: contextlib.AsyncExitStack,
    *,
    keys_per_second_max: int,
    ranges_at_once: int = 1,
) -> Scrubber:
    """Open the view in a folder that nobody else uses now; closed by `stack`."""
    identity, topics, chosen = identity_of(settings), settings.topics, settings.scrub
    fold = ScrubFold(identity.replica, identity.incarnation, identity.topic)
    followed = [
        topics.redactions, topics.replicas, topics.findings, topics.scrubs, topics.log,
        identity.topic,
    ]  # fmt: skip
    path = folder / f"scrub-{identity.replica}-{identity.incarnation}.sqlite"
    view = View(path, fold, settings.kafka, followed)
    await view.start()
    stack.push_async_callback(view.stop)
    rules = Rules(chosen.stop_percent, quarantine_hours=chosen.quarantine_hours)
    return Scrubber(
        identity, topics, store, view, writer, rules, Signer(chosen.signing_key),
        is_origin=settings.is_origin, keys_per_second_max=keys_per_second_max,
        ranges_at_once=ranges_at_once, folder=folder,
    )  # fmt: skip
