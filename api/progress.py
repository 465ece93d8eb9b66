"""How fast replicas come up to the log: done, total, rate and time left.

Samples are taken when the index has folded something, at most one a second: while nothing moves
there is nothing to measure. Kept in memory alone; a gateway that starts measures anew.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from tidestore.api.lookup import Lag

_SAMPLE_SECONDS: Final = 1.0
# Long enough to be steady, short enough to show a limit that was just changed.
_WINDOW_SECONDS: Final = 30.0


class Lags(Protocol):
    """Where a replica's lag is known."""

    def lag(self, replica: str) -> Lag:
        """How far a replica is behind the log."""
        ...

    def written_count(self) -> int:
        """How many objects the log has."""
        ...

    def has_begun(self, topic: str) -> bool:
        """Whether the index follows a topic yet."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """What was done, and what was owed, at a moment."""

    at: float
    done: int
    pending: int


class ProgressMeter:
    """Samples of every replica. Belongs to the gateway's loop."""

    def __init__(self, index: Lags, *, now: Callable[[], float] = time.monotonic) -> None:
        self._index = index
        self._now = now
        self._samples: dict[str, deque[Sample]] = {}
        self._sampled_at = now() - _SAMPLE_SECONDS

    def moved(self, names: Iterable[str]) -> None:
        """Something was folded: take a sample of each replica, if the last one is old enough."""
        now = self._now()
        if now - self._sampled_at < _SAMPLE_SECONDS:
            return
        self._sampled_at = now
        wanted = list(names)
        for name in self._samples.keys() - set(wanted):
            del self._samples[name]
        for name in wanted:
            self._note(name, self._sample(name))

    def document(self, name: str, topic: str, registered_at_ms: int) -> dict[str, object]:
        """One replica's progress as the API shows it. `topic` is that of its copies."""
        if not self._index.has_begun(topic):
            # Whoever has just added it must not be told that nothing is owed.
            return {
                "done": 0,
                "total": self._index.written_count(),
                "per_second": 0.0,
                "seconds_left": None,
                "is_backfill": True,
            }
        sample = self._sample(name)
        self._note(name, sample)
        per_second, seconds_left = rates(list(self._samples[name]))
        oldest = self._index.lag(name).oldest_written_at_ms
        return {
            "done": sample.done,
            "total": sample.done + sample.pending,
            "per_second": round(per_second, 1),
            "seconds_left": None if seconds_left is None else round(seconds_left, 1),
            # What was written before the replica began is still owed to it.
            "is_backfill": oldest is not None and oldest < registered_at_ms,
        }

    def _sample(self, name: str) -> Sample:
        pending = self._index.lag(name).pending
        return Sample(self._now(), max(0, self._index.written_count() - pending), pending)

    def _note(self, name: str, sample: Sample) -> None:
        kept = self._samples.setdefault(name, deque())
        if not kept or sample.at - kept[-1].at >= _SAMPLE_SECONDS:
            kept.append(sample)
        while len(kept) > 1 and sample.at - kept[0].at > _WINDOW_SECONDS:
            kept.popleft()


def rates(samples: list[Sample]) -> tuple[float, float | None]:
    """Copies a second, and the seconds until nothing is owed; None when that cannot be told.

    What is written meanwhile is owed, too: the time left goes by how fast the debt shrinks.
    """
    if len(samples) < 2:
        return 0.0, 0.0 if samples and not samples[-1].pending else None
    first, last = samples[0], samples[-1]
    seconds = last.at - first.at
    per_second = max(0.0, (last.done - first.done) / seconds)
    if not last.pending:
        return per_second, 0.0
    shrinks = (first.pending - last.pending) / seconds
    return per_second, last.pending / shrinks if shrinks > 0 else None
