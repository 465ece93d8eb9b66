"""The metrics of lateness, set from the index when somebody looks (lags.py)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from tidestore.api.lags import Lateness, is_kept


class LatenessMetrics:
    """All labels are from bounded sets: replicas, ages, error classes, size classes, quantiles."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pending = Gauge(
            "tidestore_pending_objects",
            "Objects not settled yet, by replica and age since they were written.",
            ["replica", "age"],
            registry=registry,
        )
        self.failed = Gauge(
            "tidestore_failed_objects",
            "Pending copies whose last try failed, by replica and error class.",
            ["replica", "error_class"],
            registry=registry,
        )
        self.copy_lag = Gauge(
            "tidestore_copy_lag_seconds",
            "From acknowledgement to proved copy, of the last 5 minutes' arrivals.",
            ["replica", "size_class", "quantile"],
            registry=registry,
        )
        self.in_time = Gauge(
            "tidestore_objective_ratio",
            "Share of the last hour's copies that were there within the promised time.",
            ["replica"],
            registry=registry,
        )
        self.is_kept = Gauge(
            "tidestore_objective_kept",
            "1 while that share is the promised one, by replica.",
            ["replica"],
            registry=registry,
        )

        self.canary_lag = Gauge(
            "tidestore_canary_lag_seconds",
            "From sending to proof of the newest canary that was proved, by replica.",
            ["replica"],
            registry=registry,
        )
        self.canary_waiting = Gauge(
            "tidestore_canary_waiting_seconds",
            "How long the oldest canary that is not proved yet has waited, by replica.",
            ["replica"],
            registry=registry,
        )

    def set(self, all_of_them: dict[str, Lateness], percent: float) -> None:
        """Set the gauges; what is no longer there goes away."""
        self.failed.clear()
        self.copy_lag.clear()
        for replica, late in all_of_them.items():
            for age, objects in late.by_age.items():
                self.pending.labels(replica, age).set(objects)
            for error_class, objects in late.troubles.items():
                self.failed.labels(replica, error_class).set(objects)
            for size_class, quantiles in late.quantiles.items():
                for share, seconds in quantiles.items():
                    self.copy_lag.labels(replica, size_class, str(share)).set(seconds)
            if late.canary.lag_seconds is not None:
                self.canary_lag.labels(replica).set(late.canary.lag_seconds)
            self.canary_waiting.labels(replica).set(late.canary.waiting_seconds)
            self.in_time.labels(replica).set(late.in_time)
            self.is_kept.labels(replica).set(is_kept(late, percent))
