"""How late a replica is: what waits by age and by reason, and how long copies took lately."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tidestore.api.lag_tables import BOUNDS_MS, MINUTE_MS, SIZE_CLASSES, SLOT_MS, bucket_of
from tidestore.api.settings import Limits
from tidestore.connectors.view import View

# Upper bounds of the ages; what is older has the last name.
AGES: Final = (("1m", 60_000), ("5m", 300_000), ("15m", 900_000), ("60m", 3_600_000))
OLDER: Final = "more"
QUANTILES: Final = (0.5, 0.99)
# Quantiles are of what arrived in the last minutes: long enough to mean something on a quiet store,
# short enough to show a change while somebody looks.
QUANTILE_MINUTES: Final = 5
# The promise is held against what arrived in this time: an outage is seen long enough that it is
# noticed, and forgotten soon enough that a second one is seen, too.
PROMISE_MINUTES: Final = 60


@dataclass(frozen=True, slots=True)
class Canary:
    """What the canaries say of a replica (decision 0017)."""

    # Of the newest one that was proved: when it was sent, and how long it took; None: none was.
    sent_at_ms: int | None = None
    lag_seconds: float | None = None
    # Since the oldest one was sent that is newer than that; 0 when there is none.
    waiting_seconds: float = 0.0
    is_overdue: bool = False


@dataclass(frozen=True, slots=True)
class Lateness:
    """One replica's lateness at one moment."""

    # Objects not settled, by age since they were written; disjoint.
    by_age: dict[str, int]
    # Objects that wait because a try failed, by error class.
    troubles: dict[str, int]
    # By size class and quantile, in seconds; classes without an arrival are left out.
    quantiles: dict[str, dict[float, float]]
    # The share of what came due in the last hour and was there in time; 1 when nothing did.
    in_time: float
    # Not there, and due already.
    overdue: int
    canary: Canary


class Lags:
    """Questions to the index about lateness; each reads a bounded number of rows."""

    def __init__(self, view: View) -> None:
        self._view = view

    def of(self, replica: str, now_ms: int, within_ms: int = 900_000) -> Lateness:
        """A replica's lateness now; `within_ms` is the time that was promised."""
        overdue = self._overdue(replica, now_ms - within_ms)
        total, late = self._outcomes(replica, now_ms, within_ms)
        return Lateness(
            self._by_age(replica, now_ms),
            self._troubles(replica),
            self._quantiles(replica, now_ms),
            in_time=1 - (late + overdue) / max(1, total + overdue),
            overdue=overdue,
            canary=self._canary(replica, now_ms, within_ms),
        )

    def _canary(self, replica: str, now_ms: int, within_ms: int) -> Canary:
        """Of those that were sent since the replica is there, in this life."""
        since = self._view.query("SELECT since_ms FROM registered WHERE replica = ?", (replica,))
        found = self._view.query(
            "SELECT sent_at_ms, lag_ms FROM canaries WHERE replica = ?", (replica,)
        )
        sent_at_ms, lag_ms = (found[0][0], found[0][1]) if found else (None, None)
        newer_ms = max(since[0][0] if since else 0, sent_at_ms or 0)
        rows = self._view.query(
            "SELECT min(sent_at_ms) FROM canaries_sent WHERE sent_at_ms > ?", (newer_ms,)
        )
        waiting_ms = max(0, now_ms - rows[0][0]) if rows[0][0] is not None else 0
        return Canary(
            sent_at_ms,
            None if lag_ms is None else lag_ms / 1000,
            waiting_ms / 1000,
            is_overdue=waiting_ms > within_ms,
        )

    def _overdue(self, replica: str, due_ms: int) -> int:
        """What was written before a moment and is not there: backfill has no due time."""
        since = self._view.query("SELECT since_ms FROM registered WHERE replica = ?", (replica,))
        rows = self._view.query(
            "SELECT coalesce(sum(objects), 0) FROM pending_slots"
            " WHERE replica = ? AND slot >= ? AND slot < ?",
            (replica, (since[0][0] if since else 0) // SLOT_MS, due_ms // SLOT_MS),
        )
        return int(rows[0][0])

    def _outcomes(self, replica: str, now_ms: int, within_ms: int) -> tuple[int, int]:
        """What arrived in the last hour, and how much of it came late; to a bucket's bound."""
        rows = self._view.query(
            "SELECT coalesce(sum(objects), 0), coalesce(sum(CASE WHEN bucket > ? THEN objects"
            " ELSE 0 END), 0) FROM outcomes WHERE replica = ? AND minute >= ?",
            (bucket_of(within_ms), replica, now_ms // MINUTE_MS - PROMISE_MINUTES),
        )
        return int(rows[0][0]), int(rows[0][1])

    def _by_age(self, replica: str, now_ms: int) -> dict[str, int]:
        """At most 361 slots are read, whatever waits; the rest is their total's remainder."""
        rows = self._view.query(
            "SELECT slot, objects FROM pending_slots WHERE replica = ? AND slot > ?",
            (replica, (now_ms - AGES[-1][1]) // SLOT_MS),
        )
        found = dict.fromkeys([*(name for name, _ in AGES), OLDER], 0)
        for slot, objects in rows:
            age_ms = now_ms - slot * SLOT_MS
            found[next((name for name, bound in AGES if age_ms <= bound), AGES[-1][0])] += objects
        total = self._view.query(
            "SELECT coalesce(sum(objects), 0) FROM totals WHERE name = 'pending*' AND replica = ?",
            (replica,),
        )[0][0]
        found[OLDER] = max(0, total - sum(found.values()))
        return found

    def _troubles(self, replica: str) -> dict[str, int]:
        rows = self._view.query(
            "SELECT error_class, objects FROM troubles WHERE replica = ? AND objects > 0"
            " ORDER BY error_class",
            (replica,),
        )
        return {row[0]: row[1] for row in rows}

    def _quantiles(self, replica: str, now_ms: int) -> dict[str, dict[float, float]]:
        rows = self._view.query(
            "SELECT size_class, bucket, objects FROM outcomes WHERE replica = ? AND minute >= ?",
            (replica, now_ms // MINUTE_MS - QUANTILE_MINUTES),
        )
        counts: dict[str, Counter[int]] = {}
        for size_class, bucket, objects in rows:
            counts.setdefault(size_class, Counter())[bucket] += objects
        return {
            name: {share: quantile(counts[name], share) for share in QUANTILES}
            for name, _ in SIZE_CLASSES
            if name in counts
        }


def lateness(lags: Lags, limits: Limits, replica: str) -> Lateness:
    """A replica's lateness now, by what the configuration promises."""
    return lags.of(replica, int(time.time() * 1000), int(limits.objective_seconds * 1000))


def is_kept(late: Lateness, percent: float) -> bool:
    """Whether a replica's copies are as much in time as was promised, and its canaries come."""
    return late.in_time * 100 >= percent and not late.canary.is_overdue


def lags_document(lags: Lags, limits: Limits, replica: str) -> dict[str, object]:
    """What GET /v1/replicas says of a replica's lateness."""
    late = lateness(lags, limits, replica)
    return {
        "pending_by_age": late.by_age,
        "failed": late.troubles,
        "lag_quantiles": {
            size_class: {f"p{share * 100:g}": round(seconds, 3) for share, seconds in found.items()}
            for size_class, found in late.quantiles.items()
        },
        "objective": {
            "percent": limits.objective_percent,
            "seconds": limits.objective_seconds,
            "in_time_percent": round(late.in_time * 100, 4),
            "overdue": late.overdue,
            "is_kept": is_kept(late, limits.objective_percent),
        },
        "canary": {
            "sent_at_ms": late.canary.sent_at_ms,
            "lag_seconds": late.canary.lag_seconds,
            "waiting_seconds": round(late.canary.waiting_seconds, 3),
            "is_overdue": late.canary.is_overdue,
        },
    }


def quantile(counts: Mapping[int, int], share: float) -> float:
    """The lag in seconds below which this share of all lies, between the bounds of its bucket."""
    wanted, seen = share * sum(counts.values()), 0
    for bucket in sorted(counts):
        if seen + counts[bucket] >= wanted:
            low = BOUNDS_MS[bucket - 1] if bucket else 0
            high = BOUNDS_MS[bucket] if bucket < len(BOUNDS_MS) else low
            part = (wanted - seen) / counts[bucket]
            return (low + (high - low) * part) / 1000
        seen += counts[bucket]
    return 0.0
