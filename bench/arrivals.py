"""Objects that were acknowledged, and when a target has them all, by its own listing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Final

from bench.bursts import Item, Load, LoadError, find_missing, make_items, put
from bench.sides import Place, Side
from bench.wire import Connection

# 100 objects are one page, which costs the target a few milliseconds.
_LIST_SECONDS: Final = 0.05
# Of many objects these last ones are asked for one by one; a listing of all costs a second.
_BEACONS: Final = 60
_HEAD_SECONDS: Final = 0.05
_LIST_MANY_SECONDS: Final = 1.0


def write_all(side: Side, load: Load) -> list[Item]:
    """Write objects one after the other; each is acknowledged when this returns."""
    items = make_items(side, load)
    with contextlib.closing(Connection(side.port)) as writer:
        for item in items:
            put(writer, item)
    return items


def count_missing(place: Place, items: Sequence[Item]) -> int:
    """How many of them a target does not have."""
    with contextlib.closing(Connection(place.server.port)) as reader:
        return len(find_missing(place, reader, items))


def await_present(place: Place, items: Sequence[Item], seconds_max: float) -> float | None:
    """The moment when a target lists all of them; None when that takes too long."""
    deadline = time.monotonic() + seconds_max
    with contextlib.closing(Connection(place.server.port)) as reader:
        while find_missing(place, reader, items):
            if time.monotonic() > deadline:
                return None
            time.sleep(_LIST_SECONDS)
    return time.monotonic()


def await_many(place: Place, items: Sequence[Item], seconds_max: float) -> float:
    """The moment when a target has all of very many objects; raises LoadError."""
    deadline = time.monotonic() + seconds_max

    def pause(seconds: float) -> None:
        if time.monotonic() > deadline:
            raise LoadError(f"not all of {len(items)} objects are in {place.bucket} in time")
        time.sleep(seconds)

    with contextlib.closing(Connection(place.server.port)) as reader:
        for item in items[-_BEACONS:]:
            # Signed anew each time: a signature is good for 15 minutes.
            path = f"/{place.bucket}/{item.key}"
            while reader.ask(place.server.head_of("HEAD", path)).status != 200:
                pause(_HEAD_SECONDS)
        seen = time.monotonic()
        while find_missing(place, reader, items):
            pause(_LIST_MANY_SECONDS)
            seen = time.monotonic()
    return seen


def must_arrive(side: Side, items: Sequence[Item], seconds_max: float) -> float:
    """The moment when every target lists all of them; raises LoadError when that takes too long."""
    moments = [await_present(place, items, seconds_max) for place in side.places()]
    found = [moment for moment in moments if moment is not None]
    if len(found) < len(moments):
        raise LoadError(f"{side.name}: not all of {len(items)} objects came in {seconds_max} s")
    return max(found)
