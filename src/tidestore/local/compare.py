"""Compare replicas with the log: each read by a client that is not the product's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidestore.config import Config
from tidestore.connectors.tail import read_topic
from tidestore.local.readback import Contents, ReplicaPlace, read_replica
from tidestore.schemas.events import ObjectRedacted, ObjectWritten


def log_contents(config: Config) -> Contents:
    """What the log says there is: key -> (size, sha256). Redacted objects are not expected."""
    found: Contents = {}
    for record in read_topic(config.kafka, config.topics.log):
        if isinstance(record.event, ObjectWritten):
            found[record.event.key] = (record.event.size, record.event.sha256)
        elif isinstance(record.event, ObjectRedacted):
            found.pop(record.event.key, None)
    return found


def compare_replica(
    place: ReplicaPlace, expected: Contents, progress: Callable[[str], None]
) -> dict[str, Any]:
    """What is equal, missing, different, or not in the log, on one replica."""
    found: Contents = {}
    for dataset in sorted({key.split("/", 1)[0] for key in expected}):
        found.update(read_replica(place, progress, f"{dataset}/"))
    return {
        "replica": place.name,
        "objects": len(found),
        "bytes": sum(size for size, _ in found.values()),
        "equal": sum(found.get(key) == value for key, value in expected.items()),
        "missing": sorted(key for key in expected if key not in found),
        "differ": sorted(key for key in expected if key in found and found[key] != expected[key]),
        "unknown": sorted(key for key in found if key not in expected),
    }
