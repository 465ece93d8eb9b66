"""Figures from samples: percentiles, medians over rounds, ratios. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Final

# What the last line says; the names are part of what other tools read.
SIDES: Final = ("ours", "peer")


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all samples do not exceed."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(samples: Sequence[float]) -> dict[str, float]:
    """How samples lie."""
    return {
        "n": len(samples),
        "p50": round(percentile(samples, 0.5), 2),
        "p90": round(percentile(samples, 0.9), 2),
        "p99": round(percentile(samples, 0.99), 2),
        "max": round(max(samples), 2),
    }


def per_object(before: dict[str, float], after: dict[str, float], count: int) -> dict[str, float]:
    """CPU milliseconds per object of each process, and of all together under "all"."""
    found = {
        name: round((after[name] - before[name]) * 1000 / count, 3)
        for name in before
        if name in after
    }
    return {**found, "all": round(sum(found.values()), 3)}


def over_rounds(values: Iterable[float]) -> dict[str, float]:
    """The median of a figure over the rounds, with the least and the greatest."""
    found = list(values)
    return {
        "median": round(statistics.median(found), 3),
        "min": round(min(found), 3),
        "max": round(max(found), 3),
    }


def summarise(rounds: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of all rounds of both sides, by load.

    A round is {"loads": {name: burst}, "idle": {...}} as loads.py measures it.
    """
    summary: dict[str, Any] = {}
    for side in SIDES:
        done = rounds[side]
        loads: dict[str, Any] = {}
        for name in done[0]["loads"]:
            bursts = [item["loads"][name] for item in done]
            loads[name] = {
                figure: over_rounds(burst[figure] for burst in bursts)
                for figure in ("objects_per_s", "mb_per_s", "all_acked_s", "all_present_s")
            }
            loads[name]["ack_to_seen_p50_ms"] = over_rounds(
                burst["ack_to_seen_ms"]["p50"] for burst in bursts
            )
            loads[name]["cpu_ms_per_object"] = {
                process: over_rounds(burst["cpu_ms_per_object"][process] for burst in bursts)
                for process in bursts[0]["cpu_ms_per_object"]
            }
        summary[side] = {"loads": loads, "rss_mb": _peaks(item["rss_mb"] for item in done)}
        if all("idle" in item for item in done):
            summary[side] |= {
                "idle_p50_ms": over_rounds(item["idle"]["lag_ms"]["p50"] for item in done),
                "idle_p99_ms": over_rounds(item["idle"]["lag_ms"]["p99"] for item in done),
                "idle_ack_p50_ms": over_rounds(item["idle"]["ack_ms"]["p50"] for item in done),
            }
    return summary


def ratio(summary: dict[str, Any], load: str, figure: str) -> float:
    """Ours by the peer's, of medians."""
    ours, peer = (float(summary[side]["loads"][load][figure]["median"]) for side in SIDES)
    return round(ours / peer, 3)


def last_line(summary: dict[str, Any], large: dict[str, Any]) -> dict[str, Any]:
    """The figures that are compared with the aims, flat; of the loads that were measured."""
    ours, peer = summary["ours"], summary["peer"]
    watched = [_peaks([ours["rss_mb"], large.get("rss_mb", {})])]
    loads = ours["loads"]
    line: dict[str, Any] = {}
    if "small" in loads:
        line["small_ratio"] = ratio(summary, "small", "objects_per_s")
    if "mib" in loads:
        line["mib_ratio"] = ratio(summary, "mib", "mb_per_s")
    for name, side in (("", ours), ("peer_", peer)):
        for figure in ("idle_p50_ms", "idle_p99_ms"):
            if figure in side:
                line[name + figure] = side[figure]["median"]
    line["rss_mb_max"] = max(
        (size for peak in watched for name, size in peak.items() if is_ours(name)), default=0.0
    )
    if "small" in loads:
        line["small_objects_per_s"] = loads["small"]["objects_per_s"]["median"]
    if "mib" in loads:
        line["mib_mb_per_s"] = loads["mib"]["mb_per_s"]["median"]
    if large:
        line["large_mb_per_s"] = large["mb_per_s"]
        line["large_gib"] = large["gib"]
    return line


def is_ours(process: str) -> bool:
    """Whether a process is one of the product's: those whose memory is bounded."""
    return process.startswith(("gateway", "worker", "feeds"))


def _peaks(sets: Iterable[dict[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for peaks in sets:
        for name, size in peaks.items():
            found[name] = max(size, found.get(name, 0.0))
    return found
