"""Compare replicas with the log: each read by a client that is not the product's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidestore.config import Config
from tidestore.connectors.directory import Served
from tidestore.connectors.tail import read_topic
from tidestore.local.readback import Contents, ReplicaPlace, read_replica
from tidestore.schemas.events import CopyChanged, CopyState, ObjectRedacted, ObjectWritten
from tidestore.schemas.filters import ReplicaFilter
from tidestore.schemas.manifests import children_of
from tidestore.schemas.objects import MalformedError, parse_key


def log_contents(config: Config) -> Contents:
    """What the log says there is: key -> (size, sha256). Redacted objects are not expected."""
    found: Contents = {}
    for record in read_topic(config.kafka, config.topics.log):
        if isinstance(record.event, ObjectWritten):
            found[record.event.key] = (record.event.size, record.event.sha256)
        elif isinstance(record.event, ObjectRedacted):
            found.pop(record.event.key, None)
    return found


def log_children(config: Config) -> dict[str, list[str]]:
    """What each manifest refers to, of those that ride inside their events."""
    found: dict[str, list[str]] = {}
    for record in read_topic(config.kafka, config.topics.log):
        event = record.event
        if isinstance(event, ObjectWritten) and event.data is not None:
            try:
                parts = parse_key(event.key)
                children = children_of(parts.kind, parts.dataset, event.data)
            except MalformedError:
                continue
            found[event.key] = [str(key) for key in children]
    return found


def excluded_keys(config: Config, life: Served) -> set[str]:
    """What the workers of a replica have left out, by their own word."""
    states: dict[str, CopyState] = {}
    for record in read_topic(config.kafka, config.topics.copies(life.name, life.incarnation)):
        if isinstance(record.event, CopyChanged):
            states[record.event.key] = record.event.state
    return {key for key, state in states.items() if state is CopyState.EXCLUDED}


def chosen_contents(
    everything: Contents,
    chosen: ReplicaFilter,
    children: Mapping[str, Sequence[str]],
    excluded: set[str],
) -> Contents:
    """What a replica with a filter is to have: the roots, all they refer to, and what it took in.

    Pure. A root, or what one refers to, is due whatever the workers say.
    """
    due = {key for key in everything if chosen.is_root(key)}
    open_ = list(due)
    while open_:
        for child in children.get(open_.pop(), ()):
            if child not in due:
                due.add(child)
                open_.append(child)
    return {key: value for key, value in everything.items() if key in due or key not in excluded}


def compare_replica(
    place: ReplicaPlace,
    expected: Contents,
    progress: Callable[[str], None],
    everything: Contents | None = None,
) -> dict[str, Any]:
    """What is equal, missing, different, or not in the log, on one replica.

    `everything`: what the log has, when the replica is not to have all of it.
    """
    found: Contents = {}
    everything = expected if everything is None else everything
    for dataset in sorted({key.split("/", 1)[0] for key in everything}):
        found.update(read_replica(place, progress, f"{dataset}/"))
    return {
        "replica": place.name,
        "objects": len(found),
        "bytes": sum(size for size, _ in found.values()),
        "equal": sum(found.get(key) == value for key, value in expected.items()),
        "missing": sorted(key for key in expected if key not in found),
        "differ": sorted(key for key in expected if key in found and found[key] != expected[key]),
        "excluded": len(everything) - len(expected),
        "unknown": sorted(key for key in found if key not in everything),
    }
