"""How long a reader lets records gather before it takes the next ones.

Each batch costs a request, wake-ups and a transaction, whatever it holds. While cores are free that
is the price of low latency, and nothing waits. When they are not, the same turns are worth more if
each takes in more, and a record waits longer for its turn than it gathers here anyway.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import psutil

# Below this share of idle time the machine has nothing to spare. Above it a saturated core among
# two would still leave room for us.
_IDLE_SHARE_MIN: Final = 0.15
# The kernel counts in ticks of 10 ms: so many of them that a share means something.
_SAMPLE_SECONDS: Final = 0.2


class SpareTime:
    """Whether the machine's cores are all busy, looked at a few times a second at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sampled_at = 0.0
        self._idle, self._total = 0.0, 0.0
        self._is_short = False

    def is_short(self) -> bool:
        """Whether there was hardly any idle time a moment ago. Any thread may ask."""
        if time.monotonic() - self._sampled_at >= _SAMPLE_SECONDS:
            with self._lock:
                self._sample()
        return self._is_short

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled_at < _SAMPLE_SECONDS:
            return
        times = psutil.cpu_times()
        # A core that waits for a disk is not spare: what gathers is written there in fewer turns.
        # Guests' time is counted in user time already.
        idle, total = times.idle, sum(times[:8])
        passed = total - self._total
        is_old = now - self._sampled_at > 5 * _SAMPLE_SECONDS
        # A share over a long pause says nothing about now.
        self._is_short = not is_old and (idle - self._idle) < _IDLE_SHARE_MIN * passed
        self._idle, self._total, self._sampled_at = idle, total, now


SPARE_TIME: Final = SpareTime()
