"""Copies that wait for a cheaper source: looked after until the object is there, or time is up.

    mover: CheaperSoonError --> record: pending, due at the bound --confirmed--> watch()
                                                                                    |
         mover.again(key) <--wake-- the source has it, or it is in trouble, or <--ask-'
                                    waiting for it has not paid

The record alone keeps the promise: if this process dies, if nobody watches, or if the source never
gets the object, the copy comes due at its bound and is read wherever it is. A second wait is never
begun for the same copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.streams.asking import Asking, CheaperSoonError
from tidestore.streams.records import Wanted, fresh

LOGGER: Final = logging.getLogger("tidestore.patience")

# The source is asked after this long, then after twice as long each time. The worker of the other
# replica tells nobody here when it is done; seven questions within 30 s cost less than a byte's
# worth of what they save (streams/choice.py counts them).
_ASK_SECONDS_FIRST: Final = 0.25
_ASK_SECONDS_MAX: Final = 8.0
# More than this many copies are not watched: they come due at their bound. Each costs a task.
_WATCHED_MAX: Final = 1_000


def patient_record(record: CopyChanged, soon: CheaperSoonError, now_ms: int) -> CopyChanged:
    """A copy that waits: due at its bound, whatever becomes of the source and of us."""
    return replace(
        fresh(record, CopyState.PENDING),
        next_try_at_ms=now_ms + int(soon.seconds * 1000),
        error_class="cheaper",
        error=str(soon),
    )


class Patience:
    """Watches waiting copies of one worker. Belongs to its event loop."""

    def __init__(self, asking: Asking, wake: Callable[[str], None]) -> None:
        self._asking = asking
        self._wake = wake
        self._watched: dict[str, asyncio.Task[None]] = {}

    def watch(self, wanted: Wanted, soon: CheaperSoonError) -> None:
        """A copy's wait is recorded: wake it as soon as there is something to do for it."""
        if wanted.key in self._watched or len(self._watched) >= _WATCHED_MAX:
            return
        task = asyncio.create_task(self._watch(wanted, soon))
        self._watched[wanted.key] = task
        task.add_done_callback(lambda done: self._ended(wanted.key, done))

    async def close(self) -> None:
        """Watch nothing any more; what waits comes due by itself."""
        tasks = list(self._watched.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, wanted: Wanted, soon: CheaperSoonError) -> None:
        is_there: bool | None = False
        try:
            async with asyncio.timeout(soon.seconds):
                pause = _ASK_SECONDS_FIRST
                while is_there is False and self._asking.reads.may_wait_for(soon.source):
                    await asyncio.sleep(pause)
                    pause = min(_ASK_SECONDS_MAX, pause * 2)
                    is_there = await self._asking.has(soon.source, wanted)
        except TimeoutError:
            pass  # due now, by its record
        self._asking.reads.waited(soon.source, is_in_vain=not is_there)
        self._wake(wanted.key)

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        del self._watched[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error("nobody watches %s any more", key, exc_info=error)
