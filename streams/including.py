"""What a filter leaves out, and a manifest that is here refers to: taken in after all.

    bundle (a root): child excluded --> waiting, names it --fold, in every worker--> notice()
                                                                                       |
        pending, due now (confirmed) <-- children of my partitions that are excluded <-'

Only whoever holds a child's partition may write its record, so the manifest's own record carries
the word to all workers: each reads the manifest and takes in its part. What is taken in is a copy
like any other from then on, and may take in what it refers to itself.

Killed anywhere: the manifest waits still, and whoever takes a partition looks for such manifests.
A worker that saw the word too late, when the named child was not excluded any more, gets another:
the manifest looks again when that child has come, and names the next excluded one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from tidestore.connectors.errors import StoreError
from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.schemas.filters import EVERYTHING
from tidestore.schemas.manifests import children_of
from tidestore.schemas.objects import MalformedError, parse_key
from tidestore.schemas.topics import partition_of
from tidestore.streams.carried import Carried
from tidestore.streams.copies import CopiesQueries, FoldNotes
from tidestore.streams.outcomes import Outcomes
from tidestore.streams.records import brought_record, wanted_of
from tidestore.streams.sources import NoSourceError, Sources
from tidestore.streams.states import KnownStates

LOGGER: Final = logging.getLogger("tidestore.including")

# A manifest that cannot be read just now is read again after this long.
_AGAIN_SECONDS: Final = 5.0
# Records under way at once: a bundle may name ten thousand files.
_AT_ONCE: Final = 64


class Including:
    """Takes in for one worker. Belongs to its event loop."""

    def __init__(
        self,
        outcomes: Outcomes,
        sources: Sources,
        known: KnownStates,
        queries: CopiesQueries,
        carried: Carried,
        *,
        partitions: int,
        holds: Callable[[int], bool],
    ) -> None:
        self._outcomes = outcomes
        self._sources = sources
        self._known = known
        self._queries = queries
        self._carried = carried
        self._partitions = partitions
        self._holds = holds
        self._news = asyncio.Event()
        # Manifests to look at; what they wait for is in the view.
        self._asked: dict[str, None] = {}

    def notice(self, notes: FoldNotes) -> None:
        """The view folded manifests that wait for an excluded child."""
        if notes.takes:
            self._asked.update(dict.fromkeys(notes.takes))
            self._news.set()

    async def held(self) -> None:
        """A partition was taken: what its last owner has not taken in is ours."""
        self._asked.update(dict.fromkeys(self._queries.waiting_for_excluded()))
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            while self._asked:
                parent = next(iter(self._asked))
                del self._asked[parent]
                await self._take_in(parent)
            self._news.clear()
            await self._news.wait()

    async def _take_in(self, parent: str) -> None:
        record = self._known.find_record(parent)
        if record is None or record.state is not CopyState.WAITING:
            return  # it has gone on since; should it wait again, it says so again
        try:
            children = await self._children(record)
        except (StoreError, NoSourceError, MalformedError) as error:
            LOGGER.warning("%s: what it refers to cannot be read yet: %s", parent, error)
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._ask_again, parent)
            return
        ours = [key for key in children if self._holds(partition_of(key, self._partitions))]
        states = self._known.states(ours)
        wanted = [key for key in ours if states.get(key) is CopyState.EXCLUDED]
        for start in range(0, len(wanted), _AT_ONCE):
            await asyncio.gather(*(self._include(key) for key in wanted[start : start + _AT_ONCE]))

    def _ask_again(self, parent: str) -> None:
        self._asked[parent] = None
        self._news.set()

    async def _children(self, record: CopyChanged) -> list[str]:
        event = await self._carried.find(record)
        data = event.data if event is not None else None
        if data is None:
            data = await self._sources.manifest(wanted_of(record))
        parts = parse_key(record.key)
        return [str(key) for key in children_of(parts.kind, parts.dataset, data)]

    async def _include(self, key: str) -> None:
        record = self._known.find_record(key)
        if record is not None:
            await self._outcomes.alone(record, lambda: self._bring(key))

    async def _bring(self, key: str) -> None:
        # Looked up now: while we waited for our turn the copy may have got another state.
        record = self._known.find_record(key)
        if record is not None and record.state is CopyState.EXCLUDED:
            now_ms = int(time.time() * 1000)
            await self._outcomes.record(brought_record(record, EVERYTHING, now_ms))
