"""What this worker saw of its sources: latencies, bytes, and whether waiting for one has paid.

Nothing here is durable or shared: a worker that starts knows nothing and finds out again.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from tidestore.streams.metrics import WorkerMetrics

# The newest answer counts a fifth: ten answers and an old impression is gone.
_WEIGHT: Final = 0.2
# One answer that took a minute must not outweigh hundreds of quick ones for long.
_LATENCY_SECONDS_MAX: Final = 10.0
# A source that let so many copies wait in vain, one after another, is not waited for ...
_VAIN_MAX: Final = 3
# ... for this long; then one more copy may find out.
_NO_WAIT_SECONDS: Final = 60.0


class Reads:
    """All that one replica's worker reads. Belongs to the worker's event loop."""

    def __init__(
        self,
        target: str,
        metrics: WorkerMetrics | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._metrics = metrics or WorkerMetrics()
        self._clock = clock
        self._latency: dict[str, float] = {}
        self._vain: dict[str, int] = {}
        self._no_wait_until: dict[str, float] = {}

    def latency_seconds(self, source: str) -> float | None:
        """How long a source takes until its first word; None while it was never asked."""
        return self._latency.get(source)

    def asked(self, source: str, seconds: float, answer: str) -> None:
        """A source was asked for an object: `found`, `missing` or `failed`."""
        self._metrics.source_asks.labels(source, self._target, answer).inc()
        if answer == "failed":
            return  # how quickly a store refuses says nothing; its breaker knows of it
        seconds = min(seconds, _LATENCY_SECONDS_MAX)
        known = self._latency.get(source, seconds)
        self._latency[source] = known + _WEIGHT * (seconds - known)

    def read(self, source: str, count: int) -> None:
        """So many bytes came from a source; "event" is the log."""
        self._metrics.source_bytes.labels(source, self._target).inc(count)

    async def counted(self, source: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same chunks, counted as they come: also those of a read that breaks off."""
        counter = self._metrics.source_bytes.labels(source, self._target)
        try:
            async for chunk in chunks:
                counter.inc(len(chunk))
                yield chunk
        finally:  # whoever closes this one means that one
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def may_wait_for(self, source: str) -> bool:
        """Whether copies that waited for this source found it there in the end."""
        return self._clock() >= self._no_wait_until.get(source, 0.0)

    def waited(self, source: str, *, is_in_vain: bool) -> None:
        """A copy's wait for a source is over."""
        end = "in_vain" if is_in_vain else "came"
        self._metrics.source_waits.labels(source, self._target, end).inc()
        self._vain[source] = self._vain.get(source, 0) + 1 if is_in_vain else 0
        if self._vain[source] >= _VAIN_MAX:
            # The count is kept: one more in vain after that, and it is let alone again.
            self._no_wait_until[source] = self._clock() + _NO_WAIT_SECONDS
        elif not is_in_vain:
            self._no_wait_until.pop(source, None)
