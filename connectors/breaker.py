"""Whether a store is worth asking just now: a circuit breaker with a probe, and its layer.

    closed --so many edge failures in a row--> open --probe answered--> closed, on_closed()
       ^                                        |
       '--any success: the row begins anew      '-- probe failed: again after 1 to 5 s

While it is open nothing is asked: every call fails at once with what opened it, which costs no
time-out. So the log is read on, each copy is recorded as pending with the reason, and everything
that is owed can be seen. When it closes, whoever waits is told.

Nothing here is durable: a process that starts believes its stores to be well and finds out again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tidestore.connectors.errors import ObjectMissingError, StoreError
from tidestore.connectors.layers import LayeredStore
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.objects import ObjectKey

LOGGER: Final = logging.getLogger("tidestore.breaker")

# What says that the store, and not the object, is in trouble, and what a probe can see end. "full"
# is not among them: a full store answers every question, but takes nothing.
EDGE_CLASSES: Final = frozenset({"network", "auth", "bucket"})
# One lost connection says little; a store that is down fails everything that is under way.
EDGE_FAILURES_TO_OPEN: Final = 5
# A store that comes back is seen within a second or two; one that is away for hours is asked less.
PROBE_SECONDS_FIRST: Final = 1.0
PROBE_SECONDS_MAX: Final = 5.0
# Longer than a healthy store needs for a HEAD, shorter than its clients' own limits.
_PROBE_SECONDS_LIMIT: Final = 10.0

# Never written; a store that says that it is not there has answered.
_PROBE_KEY: Final = ObjectKey(".tidestore/probe")

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class Breaker:
    """Opens and closes for one store. Belongs to one event loop."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        on_closed: Callable[[], None],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._probe = probe
        self._on_closed = on_closed
        self._sleep = sleep
        self._failures = 0
        self._opened = asyncio.Event()
        self._why: StoreError | None = None

    @property
    def why_open(self) -> StoreError | None:
        """The failure that opened it; None while it is closed."""
        return self._why

    def failed(self, error: StoreError) -> None:
        """A call to the store failed."""
        if error.error_class not in EDGE_CLASSES:
            self.succeeded()  # it has answered
            return
        self._failures += 1
        if self._failures >= EDGE_FAILURES_TO_OPEN and self._why is None:
            LOGGER.warning("%s is not asked any more for now: %s", error.store, error)
            self._why = error
            self._opened.set()

    def succeeded(self) -> None:
        """A call to the store was answered."""
        self._failures = 0

    async def run(self) -> None:
        """Probe while open, until cancelled."""
        while True:
            await self._opened.wait()
            pause = PROBE_SECONDS_FIRST
            while not await self._is_answered():
                await self._sleep(pause)
                pause = min(PROBE_SECONDS_MAX, pause * 2)
            LOGGER.warning("the store answers again")
            self._failures = 0
            self._why = None
            self._opened.clear()
            self._on_closed()

    async def _is_answered(self) -> bool:
        try:
            async with asyncio.timeout(_PROBE_SECONDS_LIMIT):
                await self._probe()
        except ObjectMissingError:
            return True  # the answer that a probe of a free key expects
        except StoreError as error:
            return error.error_class not in EDGE_CLASSES
        except TimeoutError:
            return False
        return True


class BreakingStore(LayeredStore):
    """A store that is not asked while its breaker is open. The breaker's `run` must be running."""

    def __init__(self, inner: ObjectStore, on_closed: Callable[[], None]) -> None:
        super().__init__(inner)
        self.breaker = Breaker(lambda: inner.head(_PROBE_KEY), on_closed)

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        why = self.breaker.why_open
        if why is not None:
            detail = f"not asked: {why}"
            raise type(why)(operation, self.name, "", detail=detail, hint=why.hint)
        try:
            result = await super()._around(operation, call)
        except StoreError as error:
            # What the source of an upload raises is not this store's failure.
            if error.store == self.name:
                self.breaker.failed(error)
            raise
        self.breaker.succeeded()
        return result
