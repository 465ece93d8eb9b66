"""How fast one store is asked: as fast as it lets us, found out by asking (AIMD), and R8.

    "slow down" --> nobody asks until the pause is over: the store's Retry-After, else our own,
                    doubled with every round that was refused
                --> half as many calls at once as before, once per round of calls
    an answer   --> one more call at once per round of answers, up to the full number

One of these stands before each store of each process: what one store refuses slows down nobody
else's calls. A short pause is waited out; during a long one calls fail at once and name the moment,
so that each copy is recorded as pending until then and its place is free for others.

Nothing here is durable: a process that starts asks at full speed and is told again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar, runtime_checkable

from tidestore.connectors.edges import Edge
from tidestore.connectors.errors import KeyBusyError, StoreError, StoreThrottledError
from tidestore.connectors.layers import LayeredStore
from tidestore.connectors.store import ObjectStore

LOGGER: Final = logging.getLogger("tidestore.throttle")

# A pause up to this is waited out: shorter than a person notices, and than a worker's hand-over.
PAUSE_SECONDS_WAITED: Final = 1.0
# Our own pauses, where the store names none. Half a second is what S3's documents advise to begin
# with; half a minute is long for any rate limit.
PAUSE_SECONDS_FIRST: Final = 0.5
PAUSE_SECONDS_MAX: Final = 30.0
# A call that gets no place for this long gives its caller back: the copy comes due again.
_PLACE_SECONDS_MAX: Final = 30.0
# From so many calls at once on a store counts as recovered, and what waited for it is due.
RECOVERED_CALLS: Final = 8.0
# A store that has not complained for this long is asked at full speed again.
_FORGOTTEN_SECONDS: Final = 60.0
# These last as long as their streams do: they hold no place, or a large object would keep small
# ones waiting. Their number has bounds of its own; pauses hold for them as for all.
_UNCOUNTED: Final = frozenset({"upload", "replace"})

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]


class PausedError(Exception):
    """Nobody may ask for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"paused for {seconds:.1f} s more")
        self.seconds = seconds


class Throttle:
    """The number of calls at once, and the pause, of one store. Belongs to one event loop."""

    def __init__(
        self,
        calls_max: int,
        edge: Edge,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._calls_max = float(calls_max)
        self._edge = edge
        self._clock, self._sleep, self._dice = clock, sleep, dice
        self.limit = float(calls_max)
        self.in_flight = 0
        self._paused_until = 0.0
        self._refused_at = 0.0
        # Calls that began before the last halving say nothing new: they were sent at the old pace.
        self._round = 0
        self._rounds_refused = 0
        self._is_slowed = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def round(self) -> int:
        """Counts how often the pace was halved."""
        return self._round

    @property
    def seconds_paused(self) -> float:
        """For how long nobody may ask."""
        return max(0.0, self._paused_until - self._clock())

    async def enter(self, *, is_counted: bool = True) -> int:
        """Wait for the pause's end and for a place; the round in which the call begins.

        Raises PausedError. Every enter is followed by one leave.
        """
        deadline = self._clock() + _PLACE_SECONDS_MAX
        if self._is_slowed and self._clock() - self._refused_at > _FORGOTTEN_SECONDS:
            self._recover(self._calls_max)
        while True:
            pause = self.seconds_paused
            if pause > PAUSE_SECONDS_WAITED:
                raise PausedError(pause)
            if pause > 0:
                await self._sleep(pause)
            elif not is_counted:
                return self._round
            elif self.in_flight < int(self.limit):
                self.in_flight += 1
                return self._round
            else:
                await self._turn(deadline)

    def leave(self, *, is_counted: bool = True) -> None:
        """A call has ended."""
        if is_counted:
            self.in_flight -= 1
        self._wake()

    def refused(self, begun_in: int, retry_after_seconds: float | None) -> None:
        """The store said "slow down" to a call that began in that round."""
        now = self._clock()
        if retry_after_seconds is not None:
            self._paused_until = max(self._paused_until, now + retry_after_seconds)
        if begun_in != self._round:
            return
        self._round += 1
        self._refused_at = now
        own = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_FIRST * 2 ** min(self._rounds_refused, 16))
        self._rounds_refused += 1
        if retry_after_seconds is None:
            spread = own * (0.5 + self._dice() / 2)
            self._paused_until = max(self._paused_until, now + spread)
        self.limit = max(1.0, self.limit / 2)
        self._is_slowed = True
        self._edge.slowed(self.limit, self.seconds_paused)

    def answered(self) -> None:
        """The store did what it was asked."""
        self._rounds_refused = 0
        if self._is_slowed or self.limit < self._calls_max:
            self._recover(self.limit + 1 / self.limit)

    def _recover(self, limit: float) -> None:
        self.limit = min(self._calls_max, limit)
        self._edge.calls_at_once(self.limit)
        if self._is_slowed and self.limit >= min(RECOVERED_CALLS, self._calls_max):
            self._is_slowed = False
            self._edge.recovered()
        self._wake()

    async def _turn(self, deadline: float) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        left = deadline - self._clock()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await turn
        except TimeoutError:
            raise PausedError(PAUSE_SECONDS_MAX) from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
            if not turn.cancelled():
                self._wake()  # a turn that was given and is not taken is the next one's

    def _wake(self) -> None:
        free = int(self.limit) - self.in_flight
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1


@runtime_checkable
class NamesItsWait(Protocol):
    """A store whose client hides Retry-After, and which can be asked for it."""

    async def named_wait(self) -> float | None:
        """What the store asks us to wait now; None when it asks for nothing."""
        ...


class ThrottledStore(LayeredStore):
    """A store that is asked no faster than it lets us."""

    def __init__(self, inner: ObjectStore, edge: Edge, *, calls_max: int) -> None:
        super().__init__(inner)
        self.throttle = Throttle(calls_max, edge)
        self._asking: asyncio.Future[float | None] | None = None

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        is_counted = operation not in _UNCOUNTED
        try:
            begun_in = await self.throttle.enter(is_counted=is_counted)
        except PausedError as pause:
            raise StoreThrottledError(
                operation,
                self.name,
                detail=f"not asked: the store wants fewer requests, {pause}",
                retry_after_seconds=pause.seconds,
            ) from None
        try:
            result = await super()._around(operation, call)
        except StoreError as error:
            if self._is_asked_less(error):
                if error.retry_after_seconds is None and begun_in == self.throttle.round:
                    error.retry_after_seconds = await self._named_wait()
                self.throttle.refused(begun_in, error.retry_after_seconds)
            raise
        finally:
            self.throttle.leave(is_counted=is_counted)
        self.throttle.answered()
        return result

    def _is_asked_less(self, error: StoreError) -> bool:
        """Whether the store asks for fewer requests; not about one key, not an upload's source."""
        if not isinstance(error, StoreThrottledError) or isinstance(error, KeyBusyError):
            return False
        return error.store == self.name

    async def _named_wait(self) -> float | None:
        """Ask a store whose client hides it; those who were refused together ask once."""
        if not isinstance(self._inner, NamesItsWait):
            return None
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._inner.named_wait())
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def _asked(self, asking: asyncio.Future[float | None]) -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()
