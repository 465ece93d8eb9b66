"""Whether what a manifest refers to is settled on this replica: the awaits around ordering.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from tidestore.connectors.errors import ObjectMissingError
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.events import CopyState
from tidestore.schemas.filters import EVERYTHING, ReplicaFilter
from tidestore.schemas.manifests import children_of
from tidestore.schemas.objects import Kind, ObjectKey, parse_key
from tidestore.streams.ordering import Blocked, Readiness, Ready, readiness
from tidestore.streams.records import Wanted
from tidestore.streams.sources import Sources
from tidestore.streams.states import KnownStates

# Children that this very worker is copying now: waiting a moment for them is cheaper than a waiting
# record and a wake. Longer than a small copy takes, shorter than a person notices.
_SIBLING_SECONDS: Final = 0.5
# Questions to the store about children without a record, in such portions.
_ASKED_AT_ONCE: Final = 64


class Children:
    """Looks at the children of manifests for one worker. `busy`: what it is copying just now."""

    def __init__(
        self,
        target: ObjectStore,
        sources: Sources,
        known: KnownStates,
        busy: Mapping[str, asyncio.Future[None]],
        chosen: ReplicaFilter = EVERYTHING,
    ) -> None:
        self._chosen = chosen
        self._target = target
        self._sources = sources
        self._known = known
        self._busy = busy

    async def readiness(self, wanted: Wanted, data: bytes | None) -> Readiness:
        """What keeps an object from appearing. `data` is the manifest, when it is at hand.

        Raises NoSourceError, StoreError, MalformedError.
        """
        parts = parse_key(wanted.key)
        if parts.kind is Kind.BLOB:
            return Ready(is_incomplete=False)
        if data is None:
            data = await self._sources.manifest(wanted)
        children = children_of(parts.kind, parts.dataset, data)
        states = self._known.states(children)
        found = self._judge(wanted, children, states)
        if isinstance(found, Blocked):
            busy = [self._busy[child] for child in children if child in self._busy]
            if busy:
                await asyncio.wait(busy, timeout=_SIBLING_SECONDS)
                states = self._known.states(children)
                found = self._judge(wanted, children, states)
        if (
            isinstance(found, Blocked)
            and found.child not in states
            and await self._is_here(found.child)
        ):
            # Written here when this replica was the origin: such objects have no record, their
            # events are the proof (R1). Nothing would ever wake a manifest that waits for one.
            await self._add_written_here(children, states)
            found = self._judge(wanted, children, states)
        return found

    def _judge(
        self, wanted: Wanted, children: Sequence[ObjectKey], states: Mapping[str, CopyState]
    ) -> Readiness:
        return readiness(wanted.key, children, states, takes_in=self._chosen.takes_in)

    async def _add_written_here(
        self, children: Sequence[ObjectKey], states: dict[str, CopyState]
    ) -> None:
        unknown = [child for child in children if child not in states]
        for start in range(0, len(unknown), _ASKED_AT_ONCE):
            batch = unknown[start : start + _ASKED_AT_ONCE]
            are_here = await asyncio.gather(*(self._is_here(child) for child in batch))
            found = zip(batch, are_here, strict=True)
            states.update((child, CopyState.PRESENT) for child, is_here in found if is_here)

    async def _is_here(self, key: str) -> bool:
        try:
            await self._target.head(ObjectKey(key))
        except ObjectMissingError:
            return False
        return True
