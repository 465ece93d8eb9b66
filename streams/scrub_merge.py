"""The listing of one replica, merged with what is expected: one page after the other, or in ranges.

    after ""   ... public/blobs/1 ... public/blobs/2  ...          each range is listed and merged
       '---- range ----'---- range ----'---- range -->             by itself, a few at a time

A large store is listed faster so: what a page takes is the store's latency. Ranges together hold
every key there is, whosever it is. Only LIST is asked for. A page that fails is asked for again,
from the last key that came: one refusal does not cost an hour's listing.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tidestore.connectors.errors import StoreError
from tidestore.connectors.quick import PASSING
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.schemas.objects import find_key_parts
from tidestore.streams.scrub_compare import Comparison, Counts
from tidestore.streams.scrub_spool import Spool
from tidestore.streams.scrub_view import Cuts, ScrubRows

# A page of a healthy store takes a tenth of a second and holds 1,000 keys or more: eight of them at
# once are 80,000 keys a second, more than one process can compare.
RANGES_AT_ONCE: Final = 8
# The pace is looked at, and others get a turn, after so many keys: some milliseconds.
_KEYS_PER_LOOK: Final = 500
# A page that fails so often in a row ends the comparison; in between half a minute at most.
_TRIES_MAX: Final = 6
_PAUSE_SECONDS: Final = 0.5
_PAUSE_SECONDS_MAX: Final = 30.0

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class Merge:
    """One merge of one replica. Belongs to one event loop."""

    store: ObjectStore
    rows: ScrubRows
    cuts: Cuts
    spool: Spool
    at_once: int = 1
    # Listed keys a second at most, all ranges together; 0 is without a bound.
    keys_per_second_max: int = 0
    sleep: Sleep = asyncio.sleep
    counts: Counts = field(default_factory=Counts)
    _taken: int = 0
    _begun: float = 0.0

    async def run(self) -> None:
        """List all, and compare. Raises StoreError, DisorderError, TooManyError."""
        self._begun = time.monotonic()
        bounds: list[str] = []
        if self.at_once > 1 and self.store.capabilities.lists_ranges:
            bounds = self.rows.bounds()
        ranges = iter(zip(["", *bounds], [*bounds, None], strict=True))
        tasks = [asyncio.create_task(self._work(ranges)) for _ in range(self.at_once)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, ranges: Iterator[tuple[str, str | None]]) -> None:
        for after, until in ranges:
            await self._range(after, until)

    async def _range(self, after: str, until: str | None) -> None:
        comparison = Comparison(
            self.rows.expected(self.cuts, after, until), self.counts, self.spool
        )
        async with contextlib.aclosing(listed(self.store, after, until, self.sleep)) as listing:
            async for info in listing:
                while not comparison.take(info):
                    await self.sleep(0)
                self._taken += 1
                if self._taken % _KEYS_PER_LOOK == 0:
                    await self._pace()
        while not comparison.finish():
            await self.sleep(0)

    async def _pace(self) -> None:
        """Let others have their turn, and keep to the bound."""
        ahead = 0.0
        if self.keys_per_second_max:
            ahead = self._taken / self.keys_per_second_max - (time.monotonic() - self._begun)
        await self.sleep(max(0.0, ahead))


async def listed(
    store: ObjectStore, after: str, until: str | None, sleep: Sleep = asyncio.sleep
) -> AsyncGenerator[ObjectInfo, None]:
    """What a store lists after one key, up to another, itself included. Raises StoreError."""
    last, tries = after, 0
    while True:
        try:
            async with contextlib.aclosing(_listing(store, last)) as listing:
                async for info in listing:
                    if until is not None and info.key > until:
                        if find_key_parts(info.key) is None:
                            continue  # sorted by rules of its own, perhaps: no end of anything
                        return
                    last, tries = max(last, info.key), 0
                    yield info
        except StoreError as error:
            tries += 1
            if error.error_class not in PASSING or tries == _TRIES_MAX:
                raise
            own = min(_PAUSE_SECONDS_MAX, _PAUSE_SECONDS * 2**tries)
            await sleep(min(_PAUSE_SECONDS_MAX, max(own, error.retry_after_seconds or 0.0)))
        else:
            return


async def _listing(store: ObjectStore, after: str) -> AsyncGenerator[ObjectInfo, None]:
    async for info in store.list(after=after):
        yield info
