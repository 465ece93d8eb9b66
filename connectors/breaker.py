"""Whether a store is worth asking just now: a circuit breaker with a probe, and its layer.

    closed --so many edge failures in a row--> open --probe answered--> closed, Edge.resumed()
       ^                                        |
       '--any success: the row begins anew      '-- probe failed: again, see PROBES

While it is open nothing is asked: every call fails at once with what opened it, which costs no
time-out. So the log is read on, each copy is recorded as pending with the reason, and everything
that is owed can be seen. When it closes, whoever waits is told. Reads and writes are counted apart:
a store that answers every HEAD may refuse every write. A full store is still read from, and what
is redacted there still goes away.

Nothing here is durable: a process that starts believes its stores to be well and finds out again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from tidestore.connectors.edges import Edge
from tidestore.connectors.errors import StoreError
from tidestore.connectors.layers import LayeredStore
from tidestore.connectors.probes import WRITES, probe
from tidestore.connectors.store import ObjectStore

LOGGER: Final = logging.getLogger("tidestore.breaker")


@dataclass(frozen=True, slots=True)
class Probing:
    """The waits between probes: first, then doubled up to the greatest."""

    first_seconds: float
    greatest_seconds: float
    # Whether the first probe comes at once or after the first wait.
    is_at_once: bool = True


# A store that comes back is seen within a second or two; one that is away for hours is asked less.
PROBE_SECONDS_FIRST: Final = 1.0
PROBE_SECONDS_MAX: Final = 5.0
_QUICK: Final = Probing(PROBE_SECONDS_FIRST, PROBE_SECONDS_MAX)
# What says that the store, and not the object, is in trouble, and what a probe can see end. Room
# is made by people or by a nightly job: a full store is asked after ten seconds, later all five
# minutes.
PROBES: Final = {
    "network": _QUICK,
    "auth": _QUICK,
    "bucket": _QUICK,
    "full": Probing(10.0, 300.0, is_at_once=False),
}
EDGE_CLASSES: Final = frozenset(PROBES)
# Answers that say neither yes nor no: a probe that gets one of them is tried again.
_NO_ANSWERS: Final = EDGE_CLASSES | {"throttled", "fault"}
# One lost connection says little; a store that is down fails everything that is under way.
EDGE_FAILURES_TO_OPEN: Final = 5
# A breaker that opens again this soon, for the same reason, was closed in error: what waits was
# tried for nothing, so the next time it waits longer.
RELAPSE_SECONDS: Final = 60.0
# Longer than a healthy store needs for a probe, shorter than its clients' own limits.
_PROBE_SECONDS_LIMIT: Final = 10.0

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class Breaker:
    """Opens and closes for one store. Belongs to one event loop."""

    def __init__(
        self,
        probe: Callable[[StoreError], Awaitable[object]],
        edge: Edge,
        *,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._edge = edge
        self._sleep, self._clock = sleep, clock
        # By whether they are writes.
        self._failures = {True: 0, False: 0}
        self._opened = asyncio.Event()
        self._why: StoreError | None = None
        self._closed_at = float("-inf")
        self._last_class = ""
        self._pause = 0.0

    @property
    def why_open(self) -> StoreError | None:
        """The failure that opened it; None while it is closed."""
        return self._why

    def why_not(self, operation: str) -> StoreError | None:
        """Why this operation is not to be tried now; None when it is."""
        why = self._why
        if why is not None and why.error_class == "full" and operation not in WRITES:
            return None
        return why

    def failed(self, error: StoreError) -> None:
        """A call to the store failed."""
        if error.error_class not in EDGE_CLASSES:
            self.succeeded(error.operation)  # it has answered
            return
        is_write = error.operation in WRITES
        self._failures[is_write] += 1
        if self._failures[is_write] >= EDGE_FAILURES_TO_OPEN and self._why is None:
            self._open(error)

    def succeeded(self, operation: str) -> None:
        """A call to the store was answered. A write that works is more than a read that does."""
        self._failures[False] = 0
        if operation in WRITES:
            self._failures[True] = 0

    def _open(self, error: StoreError) -> None:
        LOGGER.warning(
            "%s is paused, everything for it waits (%s): %s", error.store, error.error_class, error
        )
        self._why = error
        self._edge.paused(error.error_class)
        self._opened.set()

    async def run(self) -> None:
        """Probe while open, until cancelled."""
        while True:
            await self._opened.wait()
            assert self._why is not None, "it is open"  # noqa: S101
            await self._until_answered(self._why)
            LOGGER.warning("%s: the store answers again, what waited goes on", self._why.store)
            self._failures = {True: 0, False: 0}
            self._closed_at, self._last_class = self._clock(), self._why.error_class
            self._why = None
            self._opened.clear()
            self._edge.resumed(self._last_class)

    async def _until_answered(self, why: StoreError) -> None:
        waits = PROBES[why.error_class]
        is_relapse = (
            why.error_class == self._last_class
            and self._clock() - self._closed_at < RELAPSE_SECONDS + self._pause
        )
        if is_relapse:
            self._pause = min(waits.greatest_seconds, max(waits.first_seconds, self._pause * 2))
        else:
            self._pause = waits.first_seconds
        if is_relapse or not waits.is_at_once:
            await self._sleep(self._pause)
        while not await self._is_answered(why):
            await self._sleep(self._pause)
            self._pause = min(waits.greatest_seconds, self._pause * 2)

    async def _is_answered(self, why: StoreError) -> bool:
        try:
            async with asyncio.timeout(_PROBE_SECONDS_LIMIT):
                await self._probe(why)
        except StoreError as error:
            return error.error_class not in _NO_ANSWERS
        except TimeoutError:
            return False
        return True


class BreakingStore(LayeredStore):
    """A store that is not asked while its breaker is open. The breaker's `run` must be running."""

    def __init__(self, inner: ObjectStore, edge: Edge) -> None:
        super().__init__(inner)
        self.breaker = Breaker(lambda why: probe(inner, why), edge)

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        why = self.breaker.why_not(operation)
        if why is not None:
            detail = f"not asked, since {why.operation} failed: {why.detail or why.error_class}"
            raise type(why)(operation, self.name, "", detail=detail, hint=why.hint)
        try:
            result = await super()._around(operation, call)
        except StoreError as error:
            # What the source of an upload raises is not this store's failure.
            if error.store == self.name:
                self.breaker.failed(error)
            raise
        self.breaker.succeeded(operation)
        return result
