"""Every metric of the gateway, declared in one place with its unit and meaning."""

from __future__ import annotations

import time

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tidestore.api.lag_metrics import LatenessMetrics
from tidestore.api.lookup import Lag
from tidestore.api.problems import Handler
from tidestore.schemas.findings import ReadbackMoved, ScrubReported, Verdict


class GatewayMetrics:
    """The gateway's own metrics; those of stores are in connectors/layers.py."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Histogram(
            "tidestore_request_seconds",
            "Duration of requests by method, route and status.",
            ["method", "route", "status"],
            registry=registry,
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
        )
        self.lag_objects = Gauge(
            "tidestore_lag_objects", "Objects not settled yet, by replica.", ["replica"],
            registry=registry,
        )  # fmt: skip
        self.lag_bytes = Gauge(
            "tidestore_lag_bytes", "Bytes not settled yet, by replica.", ["replica"],
            registry=registry,
        )  # fmt: skip
        self.lag_seconds = Gauge(
            "tidestore_lag_seconds", "Age of the oldest object not settled yet, by replica.",
            ["replica"], registry=registry,
        )  # fmt: skip
        self.parked = Gauge(
            "tidestore_parked_objects", "Copies that wait for a person, by replica.", ["replica"],
            registry=registry,
        )  # fmt: skip
        self.scrub_age = Gauge(
            "tidestore_scrub_age_seconds", "Since the last comparison with the log, by replica.",
            ["replica"], registry=registry,
        )  # fmt: skip
        self.scrub_findings = Gauge(
            "tidestore_scrub_findings", "What the last comparison found, by replica and kind.",
            ["replica", "kind"], registry=registry,
        )  # fmt: skip
        self.scrub_stopped = Gauge(
            "tidestore_scrub_stopped", "1 if the last comparison stopped for a person, by replica.",
            ["replica"], registry=registry,
        )  # fmt: skip
        self.readback_rotten = Gauge(
            "tidestore_readback_rotten_objects", "Found rotten in this round, by replica.",
            ["replica"], registry=registry,
        )  # fmt: skip
        self.lateness = LatenessMetrics(registry)
        self.deliveries = Counter(
            "tidestore_hook_attempts_total", "Tries of webhook deliveries by outcome.", ["outcome"],
            registry=registry,
        )  # fmt: skip

    def set_lags(self, lags: dict[str, Lag]) -> None:
        """Set the gauges from the index, when somebody looks."""
        now_ms = time.time() * 1000
        for replica, lag in lags.items():
            oldest = lag.oldest_written_at_ms
            self.lag_objects.labels(replica).set(lag.pending)
            self.lag_bytes.labels(replica).set(lag.pending_bytes)
            self.lag_seconds.labels(replica).set(
                0 if oldest is None else max(0.0, (now_ms - oldest) / 1000)
            )
            self.parked.labels(replica).set(lag.parked)

    def set_scrub(
        self, replica: str, report: ScrubReported | None, place: ReadbackMoved | None
    ) -> None:
        """Set the gauges of a replica from what was published last, when somebody looks."""
        if report is not None:
            self.scrub_age.labels(replica).set(max(0.0, time.time() - report.ended_at_ms / 1000))
            self.scrub_stopped.labels(replica).set(report.verdict == Verdict.STOPPED)
            for kind in ("lost", "altered", "dark", "unredacted"):
                self.scrub_findings.labels(replica, kind).set(getattr(report, kind))
        if place is not None:
            self.readback_rotten.labels(replica).set(place.rotten)

    @property
    def middleware(self) -> object:
        """Measures every request. The route is the pattern, not the path: labels stay few."""

        @web.middleware
        async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
            begun = time.perf_counter()
            status = 500
            try:
                response = await handler(request)
                status = response.status
                return response
            finally:
                resource = request.match_info.route.resource
                route = resource.canonical if resource is not None else "none"
                labels = (request.method if route != "none" else "other", route, str(status))
                self.requests.labels(*labels).observe(time.perf_counter() - begun)

        return measure
