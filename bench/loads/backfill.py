"""A new replica of a store that has 50,000 small objects: how much CPU the mover needs for them.

50,000 blobs of 4 KiB are in the log, with their bytes (records.py); a gateway runs. Then the
target's worker is started, with an empty folder and a group that has read nothing. When the target
lists all objects with the right MD5, the figure is objects by CPU seconds of the worker's process
from its start on, Python's own start included. A quick run has 15,000.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from bench.arrivals import await_many
from bench.bursts import Item
from bench.loads.stage import Figures, Measure, Round, Stage, median
from bench.meters import Meter
from bench.records import Loader, inline_blobs
from bench.sides import PARTITIONS, Ours

COUNT: Final = 50_000
QUICK_COUNT: Final = 15_000
_SIZE: Final = 4 * 1024
_AFTERMATH_SECONDS: Final = 1.0
_WORKER: Final = "worker-target"


def _play(stage: Stage) -> Round:
    count = QUICK_COUNT if stage.is_quick else COUNT
    side = Ours(stage.ground, "backfill", idle=(_WORKER, "worker-source", "feeds"))
    with stage.playing(side):
        made = list(inline_blobs(_SIZE, count))
        Loader(stage.ground.bootstrap, f"{side.mark}.", PARTITIONS).write(made, is_copied=False)
        items = [Item(one.key, b"", b"", _SIZE, one.sums.md5) for one in made]
        del made
        begun = time.monotonic()
        side.begin(_WORKER)
        meter = Meter(side.pids())
        try:
            moment = await_many(side.places()[0], items, stage.left())
            time.sleep(_AFTERMATH_SECONDS)
            cpu, rss_mb = meter.cpu(), meter.rss_mb()
        finally:
            meter.stop()
    found: Round = {
        "objects": count,
        "all_present_s": round(moment - begun, 2),
        "worker_cpu_s": round(cpu[_WORKER], 2),
        "per_cpu_s": round(count / cpu[_WORKER], 1),
        "worker_rss_mb": rss_mb[_WORKER],
    }
    stage.say(str(found))
    return found


def _figures(rounds: Sequence[Round]) -> Figures:
    return {
        "backfill_per_cpu_s": median(rounds, "per_cpu_s"),
        "backfill_objects": median(rounds, "objects"),
    }


BACKFILL: Final = Measure("backfill", _play, _figures, ("backfill_per_cpu_s",), 400, 110)
