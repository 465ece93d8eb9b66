"""The result as a table that a person reads. Pure."""

from __future__ import annotations

from typing import Any

from bench.aims import AIMS
from bench.figures import SIDES, ratio

_ROW = "{:<34}{:>14}{:>14}{:>9}"


def table(document: dict[str, Any]) -> str:
    """All that a person wants to see of a result."""
    parts = []
    if "summary" in document:
        parts.append(burst_table(document))
    if figures := document.get("figures"):
        parts.append(aims_table(figures))
    if growth := document.get("loads", {}).get("growth"):
        parts.append(growth_table(growth["rounds"][0]["rows"]))
    return "\n\n".join(parts)


def aims_table(figures: dict[str, Any]) -> str:
    """Each figure that has an aim, beside it."""
    lines = [_ROW.format("against the aims", "measured", "aim", "met")]
    for name, aim in AIMS.items():
        if (value := figures.get(name)) is not None:
            sign = ">=" if aim.is_more_better else "<="
            met = "yes" if aim.is_met(value) else "no"
            lines.append(_ROW.format(name, value, f"{sign} {aim.value:g}", met))
    return "\n".join(lines) if len(lines) > 1 else ""


def growth_table(rows: list[dict[str, Any]]) -> str:
    """One column for each size of the log."""
    names = [name for name in rows[0] if name != "events"]
    widths = "{:<18}" + "{:>12}" * len(rows)
    lines = [widths.format("events in the log", *(f"{row['events']:,}" for row in rows))]
    return "\n".join(lines + [widths.format(name, *(row[name] for row in rows)) for name in names])


def burst_table(document: dict[str, Any]) -> str:
    """A table of medians: ours, the peer's, and their ratio."""
    summary, large = document["summary"], document["large_object"]
    lines = [_ROW.format("medians", "tidestore", "MinIO", "ratio")]
    for load in summary["ours"]["loads"]:
        for figure, words in (("objects_per_s", "objects/s"), ("mb_per_s", "MB/s")):
            lines.append(_line(summary, load, figure, f"{load}: {words}"))
        lines.append(_line(summary, load, "ack_to_seen_p50_ms", f"{load}: ack to seen p50 ms"))
        costs = [summary[side]["loads"][load]["cpu_ms_per_object"]["all"] for side in SIDES]
        lines.append(
            _ROW.format(f"{load}: CPU ms per object", *_two(*(x["median"] for x in costs)))
        )
    for figure in ("idle_ack_p50_ms", "idle_p50_ms", "idle_p99_ms"):
        if not all(figure in summary[side] for side in SIDES):
            continue
        pair = [summary[side][figure]["median"] for side in SIDES]
        lines.append(_ROW.format(figure.replace("_", " "), *_two(*pair)))
    lines.append("")
    lines += _costs(summary)
    if large:
        lines.append(
            f"{large['gib']:g} GiB, one object: acknowledged after {large['ack_s']} s, on the"
            f" target {large['ack_to_present_s']} s later, {large['mb_per_s']} MB/s in all"
        )
    lines += _memory(summary, large)
    return "\n".join(lines)


def _line(summary: dict[str, Any], load: str, figure: str, words: str) -> str:
    pair = [summary[side]["loads"][load][figure]["median"] for side in SIDES]
    return _ROW.format(words, pair[0], pair[1], ratio(summary, load, figure) if pair[1] else "")


def _two(ours: float, peer: float) -> tuple[float, float, float | str]:
    return ours, peer, round(ours / peer, 2) if peer else ""


def _costs(summary: dict[str, Any]) -> list[str]:
    lines = []
    for side in SIDES:
        for load, found in summary[side]["loads"].items():
            costs = found["cpu_ms_per_object"]
            words = ", ".join(f"{name} {cost['median']}" for name, cost in costs.items())
            lines.append(f"CPU ms per object, {side}, {load}: {words}")
    return lines


def _memory(summary: dict[str, Any], large: dict[str, Any]) -> list[str]:
    found = [(f"{side}, rounds", summary[side]["rss_mb"]) for side in SIDES]
    if large:
        found.append((f"ours, {large['gib']:g} GiB", large["rss_mb"]))
    return [
        f"peak memory MB, {words}: " + ", ".join(f"{name} {size}" for name, size in peaks.items())
        for words, peaks in found
    ]
