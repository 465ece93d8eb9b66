"""List of 10,000 bundles: all pages of 1,000, one after the other, as one client reads them.

The bundles, their files and their blobs are records written straight into the log (records.py),
30,000 objects, each present on the target; the gateway has folded them before. Every bundle must be
listed exactly once. Ours alone: the peer knows no bundles.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

from bench.bursts import LoadError
from bench.loads.stage import Figures, Measure, Round, Stage, median
from bench.meters import Meter
from bench.records import VERSION, Loader, Made, bundles
from bench.sides import PARTITIONS, Ours
from bench.wire import Connection

BUNDLES: Final = 10_000
_PAGE: Final = 1_000
_LISTINGS: Final = 5
_FOLD_SECONDS: Final = 90.0


def _play(stage: Stage) -> Round:
    side = Ours(stage.ground, "list", idle=("worker-target", "worker-source", "feeds"))
    with stage.playing(side):
        made = list(bundles(BUNDLES))
        Loader(stage.ground.bootstrap, f"{side.mark}.", PARTITIONS).write(made, is_copied=True)
        await_folded(side, made, _FOLD_SECONDS)
        meter = Meter(side.pids())
        try:
            before = meter.cpu()["gateway"]
            seconds = [_list(side) for _ in range(_LISTINGS)]
            cpu = (meter.cpu()["gateway"] - before) / _LISTINGS
        finally:
            meter.stop()
    found: Round = {
        "bundles": BUNDLES,
        "listings_s": [round(item, 3) for item in seconds],
        "list_s": round(statistics.median(seconds), 3),
        "gateway_cpu_s": round(cpu, 3),
    }
    stage.say(str(found))
    return found


def await_folded(side: Ours, made: Sequence[Made], seconds_max: float) -> None:
    """Wait until the gateway knows the last objects of all, with their copies."""

    def is_present(answer: Any) -> bool:
        return all(copy["state"] == "present" for copy in answer["copies"])

    # One of each partition, at least: the last 60 keys fall into all six.
    for item in made[-60:]:
        kind, name = item.key.split("/")[1:]
        name, _, version = name.partition(".")
        path = f"/v1/{kind}/{name}/copies" + (f"?version={version}" if version else "")
        side.await_read(path, is_present, seconds_max)


def _list(side: Ours) -> float:
    found: list[str] = []
    with contextlib.closing(Connection(side.port)) as connection:
        side.ask(connection, "GET", "/healthz")  # the connection is there
        begun = time.monotonic()
        cursor: str | None = ""
        while cursor is not None:
            page = side.read(connection, page_path("bundles", cursor))
            found += [item["uuid"] for item in page["items"] if item["version"] == VERSION]
            cursor = page.get("next")
        seconds = time.monotonic() - begun
    names = set(found)
    if len(found) != BUNDLES or len(names) != BUNDLES:
        raise LoadError(f"{len(found)} items name {len(names)} of {BUNDLES} bundles")
    return seconds


def page_path(kind: str, cursor: str) -> str:
    """The path of one page of a listing; "" is the first."""
    return f"/v1/{kind}?limit={_PAGE}" + (f"&cursor={quote(cursor)}" if cursor else "")


def _figures(rounds: Sequence[Round]) -> Figures:
    return {"list_10000_s": median(rounds, "list_s")}


LISTING: Final = Measure("list", _play, _figures, ("list_10000_s",), 150, 75)
