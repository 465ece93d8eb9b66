"""Proves canaries on one replica: a small object is written, read back, told of, and taken away.

    CanarySent in the log --1 put--> .tidestore/canary/<partition> --2 get--> equal?
              --3 CanaryProved--> copies.<replica>      --4 erase--> nothing is left

The way is that of a small object: the same log, worker, store client, breaker and record. The
log's record is finished at once, and nothing is tried again: the next canary comes by itself, and
that none comes is what is watched (api/lags.py). Killed after 1 or 3: one object of some 60 bytes
stays, which the next canary of that partition replaces and takes away. A store that lets nothing be
removed keeps one for each partition, written over each time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Final

from tidestore.connectors.errors import ObjectExistsError, StoreError
from tidestore.connectors.holdings import Holdings
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.verify import CheckedSource, put_verified
from tidestore.schemas.canaries import CanaryProved, CanarySent
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import CANARY_PREFIX
from tidestore.schemas.topics import canary_key
from tidestore.streams.records import Identity

LOGGER: Final = logging.getLogger("tidestore.canary")

_TYPE: Final = "text/plain"
# One that is older says nothing about now: a new worker, or one that was away, meets a week of
# them. Its partition's next one comes within this at 12 partitions and one a minute.
STALE_MS: Final = 15 * 60_000
# Longer than a store's slowest answer; the next canary of the partition is far behind.
_SECONDS_MAX: Final = 120.0
_ERASE_SECONDS_MAX: Final = 30.0


class Canaries:
    """Belongs to the worker's event loop."""

    def __init__(
        self, identity: Identity, target: ObjectStore, writer: LogWriter, holdings: Holdings
    ) -> None:
        self._identity = identity
        self._target = target
        self._writer = writer
        self._holdings = holdings
        # One at a time for each partition: the next of a slow one is left out.
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def take(self, event: CanarySent) -> None:
        """Prove a canary beside everything else, if it is about now."""
        is_stale = event.sent_at_ms < _now_ms() - STALE_MS
        if is_stale or event.partition in self._tasks:
            return
        task = asyncio.create_task(self._prove(event))
        self._tasks[event.partition] = task
        task.add_done_callback(lambda done: self._ended(event.partition, done))

    async def close(self) -> None:
        """Stop; what is under way is left to the next canary."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _prove(self, event: CanarySent) -> None:
        key = ObjectKey(f"{CANARY_PREFIX}{event.partition}")
        body = f"tidestore canary {event.partition} of {event.sent_at_ms}\n".encode()
        try:
            async with asyncio.timeout(_SECONDS_MAX):
                await self._write(key, body)
                await self._tell(event)
        except (StoreError, LogError, TimeoutError) as error:
            reason = f"{type(error).__name__}: {error}"
            LOGGER.warning("%s: no canary: %s", self._identity.replica, reason)
        try:
            async with asyncio.timeout(_ERASE_SECONDS_MAX):
                await self._target.erase(key)
        except (StoreError, TimeoutError) as error:
            LOGGER.info("%s: the canary stays: %s", self._identity.replica, error)

    async def _write(self, key: ObjectKey, body: bytes) -> None:
        """Put the object and read it back. Raises StoreError."""
        sums = checksums_of(body)
        try:
            await put_verified(self._target, key, body, sums, _TYPE)
        except ObjectExistsError:
            await self._write_over(key, body, sums)
        stream = await self._target.get(key)
        try:
            async for _ in CheckedSource(stream.chunks, sha256=sums.sha256, size=sums.size):
                pass
        finally:
            await stream.close()

    async def _write_over(self, key: ObjectKey, body: bytes, sums: Checksums) -> None:
        seen = await self._target.head(key)
        await self._target.replace(key, _once(body), sums, seen=seen, content_type=_TYPE)

    async def _tell(self, event: CanarySent) -> None:
        stamp = await self._holdings.await_stamp(event.partition)
        if stamp is None:
            return  # whoever has the partition now proves the next one
        identity = self._identity
        proved = CanaryProved(
            event.partition, identity.replica, identity.incarnation, stamp, event.sent_at_ms,
            _now_ms(),
        )  # fmt: skip
        await self._writer.append(
            identity.topic, event.partition, canary_key(event.partition), proved
        )

    def _ended(self, partition: int, task: asyncio.Task[None]) -> None:
        del self._tasks[partition]
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error("a canary failed in a way we do not know", exc_info=error)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _now_ms() -> int:
    return int(time.time() * 1000)
