"""The target store is down for 11 s and comes back: when is all there that was written meanwhile?

    one object arrives | target stopped | 100 written | 11 s are over | target started again
                                                        its health page answers: the clock starts
    one more is written | the target lists all of them: the clock stops

The same steps on both sides. The peer may take minutes (it waits for its scanner, or for its next
look at the target), so it is waited for only so long; then the figure is that bound and says so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from bench.arrivals import await_present, must_arrive, write_all
from bench.bursts import Load
from bench.ground import TARGET
from bench.loads.stage import Figures, Measure, Round, Stage, median
from bench.sides import Ours, Peer, Side

DOWN_SECONDS: Final = 11.0
ONE: Final = Load("one", 4 * 1024, 1, 1)
HUNDRED: Final = Load("hundred", 4 * 1024, 100, 1)
_FIRST_SECONDS: Final = 60.0
_OURS_SECONDS: Final = 60.0
_PEER_SECONDS: Final = 120.0
_PEER_QUICK_SECONDS: Final = 30.0


def _play(stage: Stage) -> Round:
    found: Round = {}
    peer_seconds = _PEER_QUICK_SECONDS if stage.is_quick else _PEER_SECONDS
    for side, seconds_max in (
        (Ours(stage.ground, "outage"), _OURS_SECONDS),
        (Peer(stage.ground, "outage-peer"), peer_seconds),
    ):
        with stage.playing(side):
            found[side.name] = _measure(stage, side, seconds_max)
            stage.say(f"{side.name}: {found[side.name]}")
    return found


def _measure(stage: Stage, side: Side, seconds_max: float) -> dict[str, Any]:
    ground = stage.ground
    must_arrive(side, write_all(side, ONE), _FIRST_SECONDS)
    ground.end(TARGET)
    stopped = time.monotonic()
    items = write_all(side, HUNDRED)
    written = time.monotonic()
    time.sleep(max(0.0, DOWN_SECONDS - (written - stopped)))
    ground.start_store(TARGET)
    back = time.monotonic()
    items += write_all(side, ONE)
    return arrived(side, items, back, seconds_max) | {
        "down_s": round(back - stopped, 2),
        "write_100_s": round(written - stopped, 2),
    }


def arrived(side: Side, items: Sequence[Any], begun: float, seconds_max: float) -> dict[str, Any]:
    """How long it took until all were there, or the bound, with the word that it is one."""
    moment = await_present(side.places()[0], items, seconds_max)
    is_over = moment is None
    return {
        "all_present_s": round(seconds_max if moment is None else moment - begun, 3),
        "is_over": is_over,
    }


def _figures(rounds: Sequence[Round]) -> Figures:
    return figures_of("outage_s", rounds)


def figures_of(name: str, rounds: Sequence[Round]) -> Figures:
    """Ours and the peer's medians; `_is_over` is 1 when the median is only a bound."""
    found: Figures = {}
    for side, word in (("ours", name), ("peer", f"peer_{name}")):
        found[word] = median(rounds, side, "all_present_s")
        overs = sum(item[side]["is_over"] for item in rounds)
        if side == "peer" or overs:
            found[f"{word}_is_over"] = float(2 * overs > len(rounds))
    return found


OUTAGE: Final = Measure("outage", _play, _figures, ("outage_s", "peer_outage_s"), 330, 150)
