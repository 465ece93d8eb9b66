"""4 x 256 MiB from two clients, through ours and through the peer, in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.bursts import QUARTER_GIB, WARM_UP, Load, burst
from bench.loads.stage import Figures, Measure, Round, Stage, ratio_of
from bench.meters import Meter
from bench.sides import Ours, Peer, Side


def _play(stage: Stage) -> Round:
    sides: list[Side] = [Ours(stage.ground, "large"), Peer(stage.ground, "large-peer")]
    return play_both(stage, sides, QUARTER_GIB)


def play_both(stage: Stage, sides: Sequence[Side], load: Load) -> Round:
    """Warm up and measure one burst on each side."""
    found: Round = {}
    for side in sides:
        with stage.playing(side):
            meter = Meter(side.pids())
            try:
                burst(side, WARM_UP, meter)
                done = found[side.name] = burst(side, load, meter)
                done["rss_mb"] = meter.rss_mb()
            finally:
                meter.stop()
            stage.ground.check_alive()
            stage.say(f"{side.name}: {done['objects_per_s']} objects/s, {done['mb_per_s']} MB/s")
    return found


def _figures(rounds: Sequence[Round]) -> Figures:
    return {"large_ratio": ratio_of(rounds, "mb_per_s")}


LARGE: Final = Measure("large", _play, _figures, ("large_ratio",), 420, 150)
