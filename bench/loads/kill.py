"""The process that copies is SIGKILLed while 100 acknowledged objects are pending.

    one object arrives | target frozen (SIGSTOP) | 100 written | the mover killed (SIGKILL)
    target thawed | the mover started again | it is ready: the clock starts
    the target lists all of them: the clock stops

The mover is our target's worker, ready when its log says so; the peer has no other process than the
source's server, ready when its health page answers. Frozen, the target takes nothing, so all
100 are pending at the moment of the kill.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from bench.arrivals import count_missing, must_arrive, write_all
from bench.ground import SOURCE, TARGET
from bench.loads.outage import HUNDRED, ONE, arrived, figures_of
from bench.loads.stage import Figures, Measure, Round, Stage
from bench.sides import Ours, Peer, Side

_FIRST_SECONDS: Final = 60.0
_OURS_SECONDS: Final = 60.0
_PEER_SECONDS: Final = 90.0
_PEER_QUICK_SECONDS: Final = 30.0
_WORKER: Final = "worker-target"


def _play(stage: Stage) -> Round:
    found: Round = {}
    peer_seconds = _PEER_QUICK_SECONDS if stage.is_quick else _PEER_SECONDS
    ours = Ours(stage.ground, "kill")
    with stage.playing(ours):
        found["ours"] = _measure(stage, ours, _WORKER, _OURS_SECONDS)
        stage.say(f"ours: {found['ours']}")
    peer = Peer(stage.ground, "kill-peer")
    with stage.playing(peer):
        found["peer"] = _measure(stage, peer, SOURCE, peer_seconds)
        stage.say(f"peer: {found['peer']}")
    return found


def _measure(stage: Stage, side: Side, mover: str, seconds_max: float) -> dict[str, Any]:
    ground = stage.ground
    must_arrive(side, write_all(side, ONE), _FIRST_SECONDS)
    ground.freeze(TARGET)
    items = write_all(side, HUNDRED)
    since = ground.log_size(mover)
    if isinstance(side, Ours):
        side.kill(mover)
    else:
        ground.kill(mover)
    ground.thaw(TARGET)
    pending = count_missing(side.places()[0], items)
    begun = time.monotonic()
    if isinstance(side, Ours):
        side.begin(mover)
        ready = side.await_worker(mover, since)
    else:
        ground.start_store(mover)
        ready = time.monotonic()
    return arrived(side, items, ready, seconds_max) | {
        "acknowledged": len(items),
        "pending_after_thaw": pending,
        "restart_to_ready_s": round(ready - begun, 2),
    }


def _figures(rounds: Sequence[Round]) -> Figures:
    return figures_of("kill_s", rounds)


KILL: Final = Measure("kill", _play, _figures, ("kill_s", "peer_kill_s"), 270, 130)
