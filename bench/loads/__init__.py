"""Each load is a module that says what it measures, how, and for how long at most.

The bursts and the idle measurement (bursts.py) have rounds that they share; all others have rounds
of their own and stand in ALL, in the order in which they are run.
"""

from __future__ import annotations

from typing import Final

from bench.loads import (
    backfill,
    commit,
    growth,
    kill,
    large,
    listing,
    outage,
    rclone,
    reads,
    two,
)
from bench.loads.stage import Measure

ALL: Final[dict[str, Measure]] = {
    item.name: item
    for item in (
        large.LARGE,
        two.TWO,
        rclone.RCLONE,
        outage.OUTAGE,
        kill.KILL,
        reads.READS,
        commit.COMMIT,
        listing.LISTING,
        backfill.BACKFILL,
        growth.GROWTH,
    )
}
