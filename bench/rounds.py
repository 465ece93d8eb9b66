"""The rounds that the bursts and the idle measurement share: ours and the peer in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bench.bursts import MIB, WARM_UP, Load, burst, idle, pass_large
from bench.figures import summarise
from bench.ground import Ground
from bench.meters import Meter
from bench.sides import Ours, Peer, Side

Say = Callable[[str], None]


def measure_rounds(
    ground: Ground, loads: Sequence[Load], *, rounds: int, idles: int, large_gib: float, say: Say
) -> dict[str, Any]:
    """All rounds of both sides, and at last one large object through ours."""
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    sides: list[Side] = [Ours(ground), Peer(ground)]
    for number in range(1, rounds + 1):
        for side in sides:
            found[side.name].append(_round(ground, side, number, loads, idles, say))
    large = {}
    if large_gib:
        say(f"passing {large_gib:g} GiB")
        large = _pass_large(ground, sides[0], rounds + 1, large_gib)
    return {"summary": summarise(found), "large_object": large, "rounds": found}


def _round(
    ground: Ground, side: Side, number: int, loads: Sequence[Load], idles: int, say: Say
) -> dict[str, Any]:
    side.start(number)
    meter = None
    try:
        meter = Meter(side.pids())
        burst(side, WARM_UP, meter)
        done: dict[str, Any] = {"loads": {}}
        for load in loads:
            done["loads"][load.name] = found = burst(side, load, meter)
            say(f"{side.name} {number} {load.name}: {found['objects_per_s']} objects/s")
        if idles:
            done["idle"] = idle(side, idles)
            say(f"{side.name} {number} idle: {done['idle']['lag_ms']}")
        done["rss_mb"] = meter.rss_mb()
        ground.check_alive()
    finally:
        if meter is not None:
            meter.stop()
        side.stop()
    return done


def _pass_large(ground: Ground, side: Side, number: int, large_gib: float) -> dict[str, Any]:
    """One large object through new processes of ours, for their memory."""
    side.start(number)
    meter = None
    try:
        meter = Meter(side.pids())
        burst(side, WARM_UP, meter)
        found = pass_large(side, int(large_gib * 1024 * MIB))
        found["rss_mb"] = meter.rss_mb()
        ground.check_alive()
        return found
    finally:
        if meter is not None:
            meter.stop()
        side.stop()
        side.forget()
