"""A large copy's upload, remembered in the copy's own record.

    journal.begun(token) --> CopyChanged(pending, upload=token)   confirmed before the first part
    journal.stored(n)    --> CopyChanged(pending, bytes_done=n)   now and then, for who looks

The token outlives the worker: whoever has the partition next finds the copy due, and goes on with
the upload. What is there is asked from the store and proved part by part (connectors/parts.py), so
`bytes_done` is for people alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Final

from tidestore.connectors.errors import StoreError
from tidestore.connectors.holdings import Holdings
from tidestore.connectors.parts import MIB
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.sweep import Swept, sweep_uploads
from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.topics import partition_of
from tidestore.streams.copies import CopiesQueries
from tidestore.streams.records import fresh
from tidestore.streams.states import KnownStates

LOGGER: Final = logging.getLogger("tidestore.uploads")

# From this size on an upload is remembered. Below, sending it anew takes a second or two, and a
# record more for each copy costs more than that is worth.
RESUMABLE_BYTES_MIN: Final = 64 * MIB
# How often a copy tells how far it is. Two large copies at once are a record a second.
PROGRESS_SECONDS: Final = 2.0

# Abandoned uploads cost room, not truth; the listing is a request for each 1,000 of them.
SWEEP_SECONDS: Final = 6 * 3_600.0
_SWEEP_SECONDS_FIRST: Final = 60.0


class PartitionLostError(Exception):
    """The partition has another owner, who brings the copy to its end: stop."""


class CopyJournal:
    """Remembers one copy's upload. Belongs to the task that copies.

    `write` sends a record and answers whether it is confirmed; it is never called twice at once.
    """

    def __init__(
        self,
        record: CopyChanged,
        write: Callable[[CopyChanged], Awaitable[bool]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._write = write
        self._clock = clock
        self._said_at = 0.0
        self._saying: asyncio.Future[bool] | None = None

    @property
    def token(self) -> str:
        """See UploadJournal."""
        return self._record.upload

    async def begun(self, token: str) -> None:
        """See UploadJournal. Raises PartitionLostError."""
        # Due now: that is for the next owner. Here the copy is under way, and not begun again.
        self._record = replace(
            fresh(self._record, CopyState.PENDING),
            upload=token,
            bytes_done=0,
            next_try_at_ms=int(time.time() * 1000),
        )
        self._said_at = self._clock()
        if not await self._write(self._record):
            raise PartitionLostError

    def stored(self, size: int) -> None:
        """See UploadJournal."""
        now = self._clock()
        if self._saying is not None and not self._saying.done():
            return
        if now - self._said_at < PROGRESS_SECONDS:
            return
        self._said_at = now
        self._record = replace(self._record, bytes_done=size)
        self._saying = asyncio.ensure_future(self._write(self._record))

    async def close(self) -> None:
        """Wait for what is being said: it may not overtake the copy's outcome."""
        if self._saying is not None:
            await asyncio.wait([self._saying])


@contextlib.asynccontextmanager
async def journal_of(
    record: CopyChanged, write: Callable[[CopyChanged], Awaitable[bool]]
) -> AsyncIterator[CopyJournal | None]:
    """The journal of a copy that is large enough for one."""
    if record.size < RESUMABLE_BYTES_MIN:
        yield None
        return
    journal = CopyJournal(record, write)
    try:
        yield journal
    finally:
        await journal.close()


class OpenUploads:
    """What is known of the open uploads of one replica's copies."""

    def __init__(self, target: ObjectStore, known: KnownStates) -> None:
        self._target = target
        self._known = known

    def remember(self, record: CopyChanged) -> CopyChanged:
        """The record with the upload that was begun since it was looked up."""
        newest = self._known.find_record(record.key)
        if newest is None:
            return record
        return replace(record, upload=newest.upload, bytes_done=newest.bytes_done)

    async def abort(self, record: CopyChanged) -> None:
        """Give up the upload of a copy that nobody will go on with.

        One that cannot be aborted now is swept up later, when no record names it any more.
        """
        token = self.remember(record).upload
        if token:
            with contextlib.suppress(StoreError):
                await self._target.abort_upload(ObjectKey(record.key), token)


class Sweeper:
    """Aborts abandoned uploads of the keys whose partitions a worker holds, now and then."""

    def __init__(
        self,
        target: ObjectStore,
        queries: CopiesQueries,
        holdings: Holdings,
        partitions: int,
    ) -> None:
        self._target = target
        self._queries = queries
        self._holdings = holdings
        self._partitions = partitions

    async def run(self) -> None:
        """Sweep until cancelled. A store that does not answer is swept the next time."""
        pause = _SWEEP_SECONDS_FIRST
        while True:
            await asyncio.sleep(pause)
            pause = SWEEP_SECONDS
            try:
                await self.sweep(int(time.time() * 1000))
            except StoreError as error:
                LOGGER.warning("abandoned uploads were not looked for: %s", error)

    async def sweep(self, now_ms: int) -> Swept:
        """Look once, as if it were this moment."""
        return await sweep_uploads(
            self._target,
            is_mine=self._is_mine,
            named=self._queries.uploads(),
            now_ms=now_ms,
        )

    def _is_mine(self, key: str) -> bool:
        return self._holdings.stamp(partition_of(key, self._partitions)) is not None
