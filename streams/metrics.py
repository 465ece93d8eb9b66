"""Every metric of workers, declared in one place, and where they are read.

A process makes them once, however many workers it runs; see docs/operations.md for what to watch.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, start_http_server

from tidestore.connectors.edges import EdgeMetrics
from tidestore.connectors.layers import StoreMetrics


class WorkerMetrics:
    """The metrics of all workers of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.edges = EdgeMetrics(self.registry)
        self.calls = StoreMetrics(self.registry)
        self.source_bytes = Counter(
            "tidestore_source_bytes_total",
            "Bytes read for copies, by source and target; the source 'event' is the log itself.",
            ["source", "target"],
            registry=self.registry,
        )
        self.source_asks = Counter(
            "tidestore_source_asks_total",
            "Objects asked for at a source, by source, target and answer: found, missing, failed.",
            ["source", "target", "answer"],
            registry=self.registry,
        )
        self.source_waits = Counter(
            "tidestore_source_waits_total",
            "Copies that waited for a cheaper source, by source, target and end: came, in_vain.",
            ["source", "target", "end"],
            registry=self.registry,
        )

    def serve(self, host: str, port: int) -> None:
        """Answer Prometheus until the process ends, on a thread; raises OSError."""
        start_http_server(port, host, self.registry)
