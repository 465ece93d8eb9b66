"""How many POSTs are under way at once, so that no receiver takes the places of the others (R8).

    healthy hook --up to 4--> 64 places
    failing hook --up to 4--> 32 probes     until one of its deliveries is taken

A receiver that hangs holds a few places once, for one time limit; from then on all that is sent to
it goes through the probes, which healthy hooks never wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

# Their connections are the sender's bound as well.
PLACES: Final = 64
PROBES: Final = 32
# Deliveries to one receiver at once, each of another partition: order per key needs no more than
# one a partition, and four at 5 ms each are 800 a second.
_PER_HOOK: Final = 4


class Lanes:
    """The places of one dispatcher. Belongs to its event loop."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(PLACES)
        self._probes = asyncio.Semaphore(PROBES)
        self._hooks: dict[str, asyncio.Semaphore] = {}
        self._failing: set[str] = set()

    @contextlib.asynccontextmanager
    async def place(self, hook_id: str) -> AsyncIterator[None]:
        """Hold a place for one attempt."""
        async with (
            self._hooks.setdefault(hook_id, asyncio.Semaphore(_PER_HOOK)),
            # Looked at when the first is had: the hook may have failed in the meantime.
            self._probes if hook_id in self._failing else self._places,
        ):
            yield

    def note(self, hook_id: str, *, is_success: bool) -> None:
        """How an attempt ended."""
        if is_success:
            self._failing.discard(hook_id)
        else:
            self._failing.add(hook_id)

    def keep(self, hook_ids: set[str]) -> None:
        """Forget all other hooks: they are gone."""
        self._failing &= hook_ids
        for hook_id in self._hooks.keys() - hook_ids:
            del self._hooks[hook_id]
