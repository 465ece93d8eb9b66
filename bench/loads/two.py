"""1,000 x 4 KiB to two replicas at once: ours with two targets, the peer with two rules.

The second target is a third MinIO server, which runs for this load alone; an object is there when
both targets have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bench.bursts import SMALL
from bench.ground import SECOND, TARGET
from bench.loads.large import play_both
from bench.loads.stage import Figures, Measure, Round, Stage, ratio_of
from bench.sides import Ours, Peer


def _play(stage: Stage) -> Round:
    ground = stage.ground
    found: Round = {}
    for side in (
        Ours(ground, "two", (("target", TARGET), ("second", SECOND))),
        Peer(ground, "two-peer", (TARGET, SECOND)),
    ):
        ground.start_store(SECOND)
        found.update(play_both(stage, [side], SMALL))
    return found


def _figures(rounds: Sequence[Round]) -> Figures:
    return {"small_two_ratio": ratio_of(rounds, "objects_per_s")}


TWO: Final = Measure("two", _play, _figures, ("small_two_ratio",), 180, 90)
