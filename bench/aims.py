"""What each figure should be. Names are those of the last line, which other tools read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Aim:
    """A bound that a figure should keep."""

    value: float
    is_more_better: bool
    words: str

    def is_met(self, measured: float) -> bool:
        """Whether a figure keeps it."""
        return measured >= self.value if self.is_more_better else measured <= self.value

    def share(self, measured: float) -> float:
        """How far a figure has come: 1 is the bound, more is better than it."""
        if self.is_more_better:
            return measured / self.value
        if measured <= 0:
            return 1.0 if self.value <= 0 else float("inf")
        return self.value / measured


def _least(value: float, words: str) -> Aim:
    return Aim(value, True, words)


def _most(value: float, words: str) -> Aim:
    return Aim(value, False, words)


AIMS: Final[dict[str, Aim]] = {
    "small_ratio": _least(1.0, "1,000 x 4 KiB, objects/s beside MinIO's"),
    "small_two_ratio": _least(0.75, "the same to two replicas at once"),
    "mib_ratio": _least(1.25, "200 x 1 MiB, MB/s beside MinIO's"),
    "large_ratio": _least(1.5, "4 x 256 MiB, MB/s beside MinIO's"),
    "rclone_ratio": _least(1.0, "the copy alone, beside rclone's best"),
    "idle_p50_ms": _most(20, "idle: acknowledged to readable, median, ms"),
    "idle_p99_ms": _most(60, "idle: the same, p99, ms"),
    "outage_s": _most(5, "store back after 11 s: all present, s"),
    "kill_s": _most(5, "worker killed with 100 pending, s"),
    "origin_reads_per_byte": _most(1, "origin's bytes read per byte written"),
    "origin_reads_inline": _most(0, "the same of inline objects"),
    "commit_1000_s": _most(0.5, "commit of a bundle of 1,000 files, s"),
    "list_10000_s": _most(1, "list of 10,000 bundles, s"),
    "backfill_per_cpu_s": _least(1_000, "backfill, objects by CPU second"),
}
