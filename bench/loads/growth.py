"""How cost grows with the log: 10^3, 10^4, 10^5 and 10^6 events in one store that is filled up.

The records are written straight into the topics (records.py): one event and one `present` record of
the target for each object. At each size:

    gateway, cold   from its start, with an empty folder, until /readyz says 200 and it knows the
                    target's copy of the last objects
    gateway, warm   the same with the folder of the start before
    memory          the kernel's high-water mark of the cold process, and what it holds at rest
    lookup          GET of the copies of an object, 200 times, another each time: median
    listing         one page of 1,000, 20 pages in a row: median
    worker, cold    from its start, with an empty folder, until an object is on the target that was
                    written just before. Its group is committed at the log's end
    worker, warm    the same with the folder of the start before

A size is left out when it would not fit into the time, as in a quick run the largest.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import psutil

from bench.arrivals import must_arrive, write_all
from bench.bursts import LoadError
from bench.loads.listing import await_folded, page_path
from bench.loads.outage import ONE
from bench.loads.stage import Figures, Measure, Round, Stage
from bench.meters import Meter
from bench.records import Loader, far_blobs, far_sha256
from bench.sides import PARTITIONS, Ours
from bench.wire import Connection

SIZES: Final = (1_000, 10_000, 100_000, 1_000_000)
_LOOKUPS: Final = 200
_PAGES: Final = 20
_WORKER: Final = "worker-target"
_START_SECONDS: Final = 600.0
_LAST: Final = 60
# For a machine that gets slower meanwhile.
_MARGIN: Final = 1.3


def _play(stage: Stage) -> Round:
    side = Ours(stage.ground, "growth", idle=(_WORKER, "worker-source", "feeds"))
    rows: list[dict[str, Any]] = []
    with stage.playing(side):
        loader = Loader(stage.ground.bootstrap, f"{side.mark}.", PARTITIONS)
        side.end("gateway")
        written = 0
        took: list[tuple[int, float]] = []
        for size in SIZES:
            if (wanted := expected_seconds(took, size)) > stage.left():
                stage.say(f"{size} events are left out: {stage.left():.0f} of {wanted:.0f} s left")
                break
            begun = time.monotonic()
            try:
                loader.write(far_blobs(written, size - written), is_copied=True)
                loader.commit_group()
                filled = round(time.monotonic() - begun, 1)
                rows.append({"events": size, "fill_s": filled, **_measure(side, size)})
            except LoadError as error:
                if not rows:
                    raise
                stage.say(f"{size} events: cut off: {error}")  # what was measured stays
                break
            written = size
            stage.say(str(rows[-1]))
            took.append((size, time.monotonic() - begun))
    return {"rows": rows}


def expected_seconds(took: Sequence[tuple[int, float]], size: int) -> float:
    """How long a size will take, from those before it: starts cost the same, records do not.

    After a single size twice its time: what grows was hardly seen in it.
    """
    if not took:
        return 0.0
    last, seconds = took[-1]
    if len(took) == 1:
        return 2 * seconds
    before, fewer = took[-2]
    slope = max(0.0, seconds - fewer) / (last - before)
    return _MARGIN * (seconds + slope * (size - last))


def _measure(side: Ours, size: int) -> dict[str, Any]:
    views = side.folder / "views"
    shutil.rmtree(views, ignore_errors=True)
    found: dict[str, Any] = {}
    last = list(far_blobs(size - min(_LAST, size), min(_LAST, size)))

    def gateway() -> None:
        side.begin("gateway", seconds_max=_START_SECONDS)
        await_folded(side, last, _START_SECONDS)

    found["gateway_cold_s"] = _timed(gateway)
    pids = side.pids()
    meter = Meter({"gateway": pids["gateway"]})
    found["gateway_peak_mb"] = meter.rss_mb()["gateway"]
    meter.stop()
    side.end("gateway")
    found["gateway_warm_s"] = _timed(gateway)
    found["gateway_rest_mb"] = _rss_mb(side, "gateway")
    found |= _ask(side, size)
    for word in ("cold", "warm"):
        items = write_all(side, ONE)

        def worker() -> None:
            side.begin(_WORKER)
            must_arrive(side, items, _START_SECONDS)  # noqa: B023  called at once

        found[f"worker_{word}_s"] = _timed(worker)
        if word == "cold":
            meter = Meter({_WORKER: side.pids()[_WORKER]})
            found["worker_peak_mb"] = meter.rss_mb()[_WORKER]
            meter.stop()
        side.end(_WORKER)
    found["views_mb"] = round(
        sum(file.stat().st_size for file in views.rglob("*") if file.is_file()) / 1e6, 1
    )
    side.end("gateway")
    return found


def _timed(work: Callable[[], None]) -> float:
    begun = time.monotonic()
    work()
    return round(time.monotonic() - begun, 2)


def _rss_mb(side: Ours, name: str) -> float:
    return round(psutil.Process(side.pids()[name]).memory_info().rss / 1e6, 1)


def _ask(side: Ours, size: int) -> dict[str, float]:
    """Medians of lookups and of pages, in milliseconds."""
    lookups, pages = [], []
    with contextlib.closing(Connection(side.port)) as connection:
        for _ in range(_LOOKUPS):
            path = f"/v1/blobs/{far_sha256(random.randrange(size))}/copies"
            lookups.append(_timed_ask(side, connection, path)[0])
        cursor = ""
        for _ in range(_PAGES):
            seconds, page = _timed_ask(side, connection, page_path("blobs", cursor))
            pages.append(seconds)
            cursor = page.get("next") or ""
    return {
        "lookup_ms": round(statistics.median(lookups) * 1000, 2),
        "page_ms": round(statistics.median(pages) * 1000, 1),
    }


def _timed_ask(side: Ours, connection: Connection, path: str) -> tuple[float, Any]:
    begun = time.monotonic()
    answer = side.read(connection, path)
    return time.monotonic() - begun, answer


def _figures(rounds: Sequence[Round]) -> Figures:
    rows = rounds[0]["rows"]
    first, last = rows[0], rows[-1]
    times = last["events"] / first["events"]
    return {
        "growth_events_max": float(last["events"]),
        # How much dearer each got from the smallest log to the greatest, and how much it may.
        "growth_times": times,
        **{
            f"growth_{name}": round(last[name] / first[name], 2)
            for name in ("gateway_cold_s", "worker_cold_s", "lookup_ms", "page_ms")
        },
    }


GROWTH: Final = Measure("growth", _play, _figures, ("growth_events_max",), 900, 130, rounds_max=1)
