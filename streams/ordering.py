"""When may a manifest appear? Only after everything it refers to is settled on that replica (R5).

Pure: the states of the children are given. A manifest that has to wait waits for one child at a
time. Which one: the first in an order that is random but fixed for each manifest. Children settle
in whatever order the partitions happen to have, so each time the awaited one settles, about half of
the rest have too: a bundle of 10,000 files is looked at about 14 times, not 10,000.

On a replica with a filter of kinds an excluded child is one that has not come yet: what is here
refers to it, so it is taken in. It is named before all others, so that this happens at once
(streams/including.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidestore.schemas.events import CopyState


@dataclass(frozen=True, slots=True)
class Ready:
    """All children are settled. `is_incomplete`: some are not present, but excluded or gone."""

    is_incomplete: bool


@dataclass(frozen=True, slots=True)
class Blocked:
    """`count` children are not settled; wake when `child` changes."""

    child: str
    count: int


@dataclass(frozen=True, slots=True)
class ChildParked:
    """A child will not come by itself: the manifest is parked with it, until it is retried."""

    child: str


Readiness = Ready | Blocked | ChildParked


def readiness(
    parent: str,
    children: Iterable[str],
    states: Mapping[str, CopyState],
    *,
    takes_in: bool = False,
) -> Readiness:
    """Whether `parent` may appear. A child without a state was not looked at yet: not settled.

    `takes_in`: an excluded child has to come, since its parent is here.
    """
    is_incomplete = False
    first: tuple[bool, int, str] | None = None
    count = 0
    for child in children:
        state = states.get(child)
        is_to_come = takes_in and state is CopyState.EXCLUDED
        if state is None or not state.is_settled or is_to_come:
            if state is CopyState.PARKED:
                return ChildParked(child)
            count += 1
            candidate = (not is_to_come, _rank(parent, child), child)
            first = candidate if first is None else min(first, candidate)
        elif state is not CopyState.PRESENT:
            is_incomplete = True
    if first is not None:
        return Blocked(first[2], count)
    return Ready(is_incomplete)


def _rank(parent: str, child: str) -> int:
    """A number that orders a manifest's children as if at random, the same each time."""
    return zlib.crc32(child.encode(), zlib.crc32(parent.encode()))
