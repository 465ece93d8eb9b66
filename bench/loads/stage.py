"""What every load has in common: where it plays, for how long, and what its rounds come to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.figures import over_rounds
from bench.ground import Ground
from bench.sides import Side

Round = dict[str, Any]
Figures = dict[str, float | None]


@dataclass(slots=True)
class Stage:
    """One load's time on the ground."""

    ground: Ground
    number: int
    is_quick: bool
    say: Callable[[str], None]
    # The moment on the monotonic clock at which the load is cut off.
    deadline: float
    _sides: list[Side] = field(default_factory=list)

    @contextlib.contextmanager
    def playing(self, side: Side) -> Iterator[None]:
        """Start a side, and end it with all that it took of the disk."""
        self._sides.append(side)
        side.start(self.number)
        yield
        self.clear()

    def clear(self) -> None:
        """End what was started, also after a load that was cut off anywhere."""
        while self._sides:
            side = self._sides.pop()
            side.stop()
            self.ground.mend()
            side.forget()

    def left(self) -> float:
        """Seconds that the load has left."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True, slots=True)
class Measure:
    """A load: one round of it, and the names that its rounds give to the last line.

    `seconds_max` bounds one round, and a round of a quick run; what is over it is cut off and told.
    """

    name: str
    play: Callable[[Stage], Round]
    figures: Callable[[Sequence[Round]], Figures]
    names: tuple[str, ...]
    seconds_max: float
    quick_seconds_max: float
    rounds_max: int = 5
    # Programs that only this load needs.
    tools: tuple[str, ...] = ()

    def budget(self, *, is_quick: bool) -> float:
        """Seconds that one round may take."""
        return self.quick_seconds_max if is_quick else self.seconds_max


def median(rounds: Sequence[Round], *path: str) -> float:
    """The median over the rounds of a figure."""
    found = []
    for item in rounds:
        value: Any = item
        for word in path:
            value = value[word]
        found.append(float(value))
    return over_rounds(found)["median"]


def ratio_of(rounds: Sequence[Round], figure: str) -> float:
    """Ours by the peer's, of medians."""
    return round(median(rounds, "ours", figure) / median(rounds, "peer", figure), 3)
