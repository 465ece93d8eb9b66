"""What is promised of a replica's copies, and when it is broken and kept again.

A record as in events.py, where it is listed with all others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObjectiveChanged:
    """The objective of a replica is missed (`is_kept` is false), or recovered; ppm are millionths.

    `number` counts the changes of one life of a replica: gateways that see the same change at once
    give it the same number, and whoever reads knows it for one.
    """

    replica: str
    incarnation: int
    number: int
    is_kept: bool
    promised_ppm: int
    in_time_ppm: int
    within_ms: int
    overdue: int
    changed_at_ms: int
    told_by: str
