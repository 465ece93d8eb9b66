"""A record that says nothing, so that a quiet partition's segment comes to its end.

Kafka closes a segment only when a record arrives after its time, and never compacts an open one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PartitionTicked:
    """Nothing was written to a partition of the log for a while. Readers pass over it."""

    partition: int
    ticked_by: str
    ticked_at_ms: int
