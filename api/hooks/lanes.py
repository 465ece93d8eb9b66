"""How many POSTs are under way at once, so that no receiver takes the places of the others (R8).

    new     --1 at a time-->  32 places --taken--> proven --up to 4--> 128 places
                                  |                   |
                                  '------failed-------+--> failing --up to 4--> 32 places
                                                      ^                  |
                                                      '------taken-------'

A receiver that hangs holds a few places once, for one time limit; from then on all that is sent to
it goes through places that working receivers never wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

# Their sum is what the sender has connections for.
_PROVEN_PLACES: Final = 128
_NEW_PLACES: Final = 32
_FAILING_PLACES: Final = 32
# Deliveries to one receiver at once, each of another partition: order per key needs no more than
# one a partition, and four at 5 ms each are 800 a second.
_PER_HOOK: Final = 4


class Lanes:
    """The places of one dispatcher. Belongs to its event loop."""

    def __init__(self) -> None:
        self._proven = asyncio.Semaphore(_PROVEN_PLACES)
        self._new = asyncio.Semaphore(_NEW_PLACES)
        self._failing = asyncio.Semaphore(_FAILING_PLACES)
        self._per_hook: dict[str, asyncio.Semaphore] = {}
        self._trials: dict[str, asyncio.Semaphore] = {}
        # Whether the last attempt was taken; a hook that is not in here was never tried.
        self._was_taken: dict[str, bool] = {}

    @contextlib.asynccontextmanager
    async def place(self, hook_id: str) -> AsyncIterator[None]:
        """Hold a place for one attempt."""
        async with contextlib.AsyncExitStack() as held:
            per_hook = self._per_hook.setdefault(hook_id, asyncio.Semaphore(_PER_HOOK))
            await held.enter_async_context(per_hook)
            if hook_id not in self._was_taken:
                trial = self._trials.setdefault(hook_id, asyncio.Semaphore(1))
                await held.enter_async_context(trial)
            # Asked only now: it may have been tried while this waited for its turn.
            await held.enter_async_context(self._places(hook_id))
            yield

    def note(self, hook_id: str, *, is_taken: bool) -> None:
        """How an attempt ended, here or earlier on another gateway."""
        self._was_taken[hook_id] = is_taken

    def keep(self, hook_ids: set[str]) -> None:
        """Forget all other hooks: they are gone."""
        for known in (self._per_hook, self._trials, self._was_taken):
            for hook_id in known.keys() - hook_ids:
                known.pop(hook_id)

    def _places(self, hook_id: str) -> asyncio.Semaphore:
        was_taken = self._was_taken.get(hook_id)
        if was_taken is None:
            return self._new
        return self._proven if was_taken else self._failing
