"""Places for copies: what catches up never takes more than its share from what is just written.

A bounded number of copies is under way at once. Tries that were due and have waited for long (a
store was away, and thousands are due at once: backlog) compete for places with what is just
written. All places may be the backlog's while nobody else wants one; while live copies wait, of
every four places that get free at most one goes to the backlog. In one queue a live copy would
stand behind all of it.

    free place --> a live one waits?    --no-->  the backlog's first
                        |yes
                   the backlog's turn (every 4th) and one waits? --yes--> the backlog's first
                        |no
                   the first live one
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Final

# The share that is promised: of so many places that get free one, while live copies wait.
BACKLOG_EVERY: Final = 4

_IS_BACKLOG: ContextVar[bool] = ContextVar("is_backlog", default=False)


@contextlib.contextmanager
def as_backlog() -> Iterator[None]:
    """What is started inside works on what waits since long."""
    token = _IS_BACKLOG.set(True)
    try:
        yield
    finally:
        _IS_BACKLOG.reset(token)


class FairPlaces:
    """A semaphore with two queues. Belongs to one event loop; nothing here awaits but a turn."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._live: deque[asyncio.Future[None]] = deque()
        self._backlog: deque[asyncio.Future[None]] = deque()
        # How many live ones were served since the backlog's last turn.
        self._served = 0

    @contextlib.asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Wait for a place, and have it inside."""
        await self._take()
        try:
            yield
        finally:
            self._give_back()

    async def _take(self) -> None:
        if self._free > 0:  # then nobody waits
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._backlog if _IS_BACKLOG.get() else self._live
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()  # it was given just now: the next one gets it
            raise

    def _give_back(self) -> None:
        if (turn := self._next()) is None:
            self._free += 1
        else:
            turn.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        """Who is to have the place that has become free; those that gave up are passed over."""
        for queue in (self._live, self._backlog):
            while queue and queue[0].done():
                del queue[0]
        if not self._live:
            self._served = 0
            return self._backlog.popleft() if self._backlog else None
        if self._backlog and self._served >= BACKLOG_EVERY - 1:
            self._served = 0
            return self._backlog.popleft()
        self._served += 1
        return self._live.popleft()
