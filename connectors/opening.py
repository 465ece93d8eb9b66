"""Opening a store that may be down just now: what can wait goes on, and opens as soon as it can.

A worker that ended because its store is down would say nothing about its copies; one that goes on
records each of them as pending, with the reason and the time of the next try. What will not pass by
itself (a wrong key, a missing bucket) still ends the start, with the hint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from tidestore.connectors.errors import StoreError
from tidestore.connectors.store import ObjectStore

LOGGER: Final = logging.getLogger("tidestore.opening")

# Often enough that an outage ends with its cause, rarely enough for a store that is coming up.
_RETRY_SECONDS: Final = 2.0


async def open_patiently(store: ObjectStore, stack: contextlib.AsyncExitStack) -> None:
    """Open a store now, or in the background while it cannot be reached; ended by `stack`.

    Raises StoreError for what will not pass by itself.
    """
    try:
        await store.open()
    except StoreError as error:
        if not error.is_retryable:
            raise
        LOGGER.warning("%s; going on, and trying again", error)
        task = asyncio.create_task(_open_later(store))
        stack.push_async_callback(_end, task)


async def _open_later(store: ObjectStore) -> None:
    while True:
        await asyncio.sleep(_RETRY_SECONDS)
        try:
            await store.open()
        except StoreError as error:
            if not error.is_retryable:
                # Each copy will now fail with the same error, and its record says so.
                LOGGER.error("%s", error)
                return
            continue
        LOGGER.info("%s is open now", store.name)
        return


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
