"""Asks stores for an object: in which order, for how long, and when to come back instead.

    the event's own bytes
      |none
    the source in the cheapest tree --has it--> read there
      |missing, healthy, and worth it
    wait: CheaperSoonError, once for each copy, up to a bound
      |came, or time is up
    all others, in the order of streams/choice.py; the origin surely has it

What arrives is hashed (streams/sources.py), so a wrong source costs time, never truth. Everything
that is known here dies with the process; a copy that waits is recorded as pending and due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

from tidestore.connectors.breaker import Breaker
from tidestore.connectors.directory import Served
from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectMissingError,
    StoreError,
    StoreUnreachableError,
)
from tidestore.connectors.store import ByteStream, ObjectStore
from tidestore.streams.choice import Candidate, order_sources, wait_seconds
from tidestore.streams.prices import Place, Prices, SourceSettings, cheapest_tree
from tidestore.streams.reads import Reads
from tidestore.streams.records import Wanted

# A source that only might be cheaper has this long for its first word: more than a healthy store
# ever needs, and all that one that hangs can cost a copy. The origin has its client's own limit.
ASK_SECONDS: Final = 3.0
# One that hung is asked last for a moment: until its breaker has heard of it often enough.
_DISTRUST_SECONDS: Final = 10.0

T = TypeVar("T")


class CheaperSoonError(Exception):
    """The object will be at a cheaper source soon: come back then, or at the latest in a while."""

    def __init__(self, source: str, seconds: float) -> None:
        super().__init__(f"{source} will have it soon; read there until {seconds:.0f} s are over")
        self.source = source
        self.seconds = seconds


class Asking:
    """The sources of one worker's copies. Belongs to its event loop."""

    def __init__(
        self,
        target: str,
        stores: Mapping[str, ObjectStore],
        *,
        places: Mapping[str, Place] | None = None,
        settings: SourceSettings | None = None,
        breakers: Mapping[str, Breaker] | None = None,
        reads: Reads | None = None,
    ) -> None:
        self._target = target
        self._stores = stores
        self._settings = settings or SourceSettings()
        known = dict.fromkeys(stores, Place("onprem"))
        self._prices = Prices({**known, **(places or {})}, self._settings)
        self._breakers = breakers or {}
        self.reads = reads or Reads(target)
        self._distrusted_until: dict[str, float] = {}
        # How each replica is served: one that is paused, or is not to have an object, is no source
        # to wait for. Empty: all are sure to get everything.
        self._lives: Mapping[str, Served] = {}
        self._trees: dict[tuple[str, int, frozenset[str]], dict[str, str]] = {}

    def use(
        self,
        stores: Mapping[str, ObjectStore],
        places: Mapping[str, Place],
        breakers: Mapping[str, Breaker],
        lives: Mapping[str, Served],
    ) -> None:
        """Ask these stores from now on; what is being read goes on."""
        self._lives = dict(lives)
        self._stores = dict(stores)
        known = dict.fromkeys(stores, Place("onprem"))
        self._prices = Prices({**known, **places}, self._settings)
        self._breakers = dict(breakers)
        self._trees.clear()

    def ordered(self, wanted: Wanted) -> list[ObjectStore]:
        """All other stores, the one to ask first before all others."""
        candidates = [
            Candidate(
                name,
                self._prices.expected_price(name, self._target, wanted.size, wanted.origin),
                is_open=self._is_open(name),
                is_origin=name == wanted.origin,
                latency_seconds=self.reads.latency_seconds(name),
            )
            for name in self._stores
            if name != self._target and self._may_have(name, wanted.key)
        ]
        return [self._stores[item.name] for item in order_sources(candidates)]

    async def open(self, store: ObjectStore, wanted: Wanted) -> ByteStream:
        """Open the object at a source; its length must be right before a byte of it is read."""
        stream = await self._asked(store, wanted, "get", lambda: store.get(wanted.key))
        if stream.info.size == wanted.size:
            return ByteStream(stream.info, self.reads.counted(store.name, stream.chunks))
        await stream.close()
        detail = f"has {stream.info.size} bytes, not {wanted.size}"
        raise ChecksumMismatchError("copy", store.name, wanted.key, detail=detail)

    async def has(self, source: str, wanted: Wanted) -> bool | None:
        """Whether a source has the object; None when it does not say so."""
        store = self._stores.get(source)
        if store is None:  # retired since
            return None
        try:
            await self._asked(store, wanted, "head", lambda: store.head(wanted.key))
        except ObjectMissingError:
            return False
        except StoreError:
            return None
        return True

    async def check_worth_waiting(self, wanted: Wanted) -> None:
        """Raise CheaperSoonError if the copy should rather come back than read at the origin.

        Only for the source in the cheapest tree: trees have no circles, so nobody ever waits for
        one who waits for him. Only while that source is healthy and others did not wait in vain.
        """
        cheap = self._parent(wanted)
        if cheap is None or self._is_open(cheap) or self._is_open(wanted.origin):
            return
        seconds = wait_seconds(
            self._prices,
            self._target,
            cheap=cheap,
            instead=wanted.origin,
            size=wanted.size,
            seconds_max=self._settings.wait_seconds_max,
        )
        if seconds <= 0 or not self.reads.may_wait_for(cheap):
            return
        if await self.has(cheap, wanted) is False:
            raise CheaperSoonError(cheap, seconds)

    def _parent(self, wanted: Wanted) -> str | None:
        """The source in the cheapest tree, if that is another one than the origin.

        All workers see the same tree but for their own place in it: nobody waits for one who is
        not sure to get the object, so there is no circle either.
        """
        if wanted.origin not in self._stores or wanted.origin == self._target:
            return None
        # One tree for sizes that differ by less than a factor of four: few trees, little error.
        step = wanted.size.bit_length() // 2
        sure = frozenset(
            name
            for name in self._stores
            if name in (wanted.origin, self._target) or self._is_sure_of(name, wanted.key)
        )
        tree = self._trees.get((wanted.origin, step, sure))
        if tree is None:
            tree = cheapest_tree(self._prices, wanted.origin, 4**step, sure)
            self._trees[wanted.origin, step, sure] = tree
        parent = tree[self._target]
        return None if parent == wanted.origin else parent

    def _is_sure_of(self, name: str, key: str) -> bool:
        life = self._lives.get(name)
        return life is None or life.is_sure_of(key)

    def _may_have(self, name: str, key: str) -> bool:
        life = self._lives.get(name)
        return life is None or life.filter.may_hold(key)

    def _is_open(self, name: str) -> bool:
        breaker = self._breakers.get(name)
        is_broken = breaker is not None and breaker.why_not("get") is not None
        return is_broken or time.monotonic() < self._distrusted_until.get(name, 0.0)

    async def _asked(
        self, store: ObjectStore, wanted: Wanted, operation: str, call: Callable[[], Awaitable[T]]
    ) -> T:
        """One question, timed; a source that hangs is taken for one that cannot be reached."""
        begun, answer = time.monotonic(), "failed"
        limit = None if store.name == wanted.origin else ASK_SECONDS
        try:
            async with asyncio.timeout(limit):
                found = await call()
            answer = "found"
        except ObjectMissingError:
            answer = "missing"
            raise
        except TimeoutError:
            error = StoreUnreachableError(
                operation, store.name, wanted.key, detail=f"said nothing for {ASK_SECONDS:.0f} s"
            )
            self._distrusted_until[store.name] = time.monotonic() + _DISTRUST_SECONDS
            if (breaker := self._breakers.get(store.name)) is not None:
                breaker.failed(error)
            raise error from None
        finally:
            self.reads.asked(store.name, time.monotonic() - begun, answer)
        return found
