"""What is known about the way to one store: paused or not, how fast, and since when.

An edge is one process and one store. Its state is said in the log, in metrics, and through the
copies that wait for it in the records that `tidestore status` counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

LOGGER: Final = logging.getLogger("tidestore.edges")


class EdgeMetrics:
    """The metrics of all edges of one process; see docs/operations.md."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.paused = Gauge(
            "tidestore_edge_paused",
            "1 while a store is not asked, by replica and the error class that says why.",
            ["replica", "error_class"],
            registry=registry,
        )
        self.calls = Gauge(
            "tidestore_edge_calls_max",
            "Calls that a store is sent at once just now, by replica.",
            ["replica"],
            registry=registry,
        )
        self.refused = Counter(
            "tidestore_edge_throttled_total",
            "Times that a store asked to be asked less, by replica.",
            ["replica"],
            registry=registry,
        )


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge's voice. `on_recovered`: what waited for it is due."""

    replica: str
    metrics: EdgeMetrics | None = None
    on_recovered: Callable[[], None] = lambda: None

    def slowed(self, calls: float, seconds: float) -> None:
        """The store asked for fewer requests."""
        LOGGER.warning(
            "%s wants fewer requests: none for %.1f s, then %d at once",
            self.replica, seconds, int(calls),
        )  # fmt: skip
        if self.metrics is not None:
            self.metrics.refused.labels(self.replica).inc()
        self.calls_at_once(calls)

    def calls_at_once(self, calls: float) -> None:
        """So many calls may be under way."""
        if self.metrics is not None:
            self.metrics.calls.labels(self.replica).set(int(calls))

    def recovered(self) -> None:
        """The store takes calls at a good pace again."""
        LOGGER.warning("%s takes requests again", self.replica)
        self.on_recovered()

    def paused(self, error_class: str) -> None:
        """The store is not asked any more."""
        if self.metrics is not None:
            self.metrics.paused.labels(self.replica, error_class).set(1)

    def resumed(self, error_class: str) -> None:
        """The store is asked again, and what waited for it is due."""
        if self.metrics is not None:
            self.metrics.paused.labels(self.replica, error_class).set(0)
        self.on_recovered()
