"""A number of bytes that may be in memory at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """Who asks for more than is left waits. Belongs to one event loop."""

    def __init__(self, bytes_max: int) -> None:
        self._left = self._max = bytes_max
        self._turn = asyncio.Condition()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes of the budget; one that is larger than all of it holds all of it."""
        held = min(size, self._max)
        async with self._turn:
            await self._turn.wait_for(lambda: self._left >= held)
            self._left -= held
        try:
            yield
        finally:
            async with self._turn:
                self._left += held
                self._turn.notify_all()
