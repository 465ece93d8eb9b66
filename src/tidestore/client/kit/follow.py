"""Keeping a third party's replica: the feed in, objects copied, redactions obeyed, receipts out.

    page of the feed --one transaction--> owed, condemned, cursor      (state.py)
         ^                                  |          |
         |                                  v          v
         '--- again, or wait <-- receipts <-- copy     erase

One round does each of these in turn, so no copy is under way while a redaction is taken in. What
fails is tried again later by itself; it holds nothing else up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Sequence
from typing import Any, Final

from tidestore.client.api import Client, ClientError
from tidestore.client.kit.copying import Copier, OtherBytesError
from tidestore.client.kit.state import Decision, Held, State
from tidestore.connectors.errors import StoreError
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.objects import MalformedError

LOGGER: Final = logging.getLogger("tidestore.kit")

_PAGE_RECORDS: Final = 500
# Below what proxies cut off.
_WAIT_SECONDS: Final = 25
# With several datasets each is waited for in turn.
_SHORT_WAIT_SECONDS: Final = 5
# Copies at once: enough to hide a small object's round trips, few enough for a small machine.
_COPIES_AT_ONCE: Final = 8
# Copied before the feed is looked at again, so that a redaction is not long behind a backlog.
_ROUND_COPIES: Final = 64
# More that is owed is not taken in: the feed keeps it better.
_OWED_MAX: Final = 10_000
_RECEIPTS: Final = 200
_PAUSE_SECONDS_MAX: Final = 60.0
# Somebody waits for the end: what has failed so often is left to the next run.
_TRIES_ONCE: Final = 3
_RETRY_SECONDS_MAX: Final = 3_600.0
# No answer means that the gateway restarts; these mean that it does not want us any more.
_FINAL: Final = frozenset({401, 403})


class Follower:
    """Keeps one replica. Belongs to one event loop."""

    def __init__(
        self, client: Client, store: ObjectStore, state: State, name: str, datasets: Sequence[str]
    ) -> None:
        self._client = client
        self._state = state
        self._path = f"/v1/replicas/{name}/receipts"
        self._datasets = list(datasets)
        self._copier = Copier(client, store, state)

    async def run(self, stop: asyncio.Event) -> None:
        """Keep it until told to stop. Raises ClientError when the store does not want us."""
        failures = 0
        self._state.try_all()
        while not stop.is_set():
            try:
                await self.round(self._patience())
            except ClientError as error:
                if error.status in _FINAL:
                    raise
                failures += 1
                pause = min(_PAUSE_SECONDS_MAX, 2.0**failures) * random.uniform(0.5, 1)  # noqa: S311
                LOGGER.warning("%s; again in %.0f s", error, pause)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
            else:
                failures = 0

    async def catch_up(self) -> bool:
        """Go on to the end of the feed; whether nothing is left that failed. Raises ClientError."""
        self._state.try_all()
        while True:
            if await self.round(0):
                continue
            due = self._state.next_try()
            if due is None:
                return True
            if not self._state.untried(_TRIES_ONCE):
                return False
            await asyncio.sleep(max(0.0, due - time.time()))

    async def round(self, wait: int) -> bool:
        """One round, waiting so many seconds at the end of the feed; whether anything moved."""
        state = self._state
        has_moved = False
        if state.counts()["owed"] < _OWED_MAX:
            for dataset in self._datasets:
                has_moved |= await self._take_page(dataset, wait)
        for key in state.condemned(_ROUND_COPIES):
            has_moved = True
            await self._guarded(key, erase=True)
        due = state.due(time.time(), _ROUND_COPIES)
        if due:
            has_moved = True
            turns = asyncio.Semaphore(_COPIES_AT_ONCE)

            async def copy(key: str) -> None:
                async with turns:
                    await self._guarded(key, erase=False)

            await asyncio.gather(*(copy(key) for key in due))
        while receipts := state.untold(_RECEIPTS):
            has_moved = True
            await self._tell(receipts)
        return has_moved

    def _patience(self) -> int:
        """How long to wait at the end of the feed: until the next try is due, and bounded."""
        now, due = time.time(), self._state.next_try()
        if self._state.condemned(1):
            return 1
        longest = _WAIT_SECONDS if len(self._datasets) == 1 else _SHORT_WAIT_SECONDS
        return longest if due is None else max(0, min(longest, math.ceil(due - now)))

    async def _take_page(self, dataset: str, wait: int) -> bool:
        before = self._state.cursor(dataset)
        try:
            page: dict[str, Any] = await self._client.get(
                "/v1/changes", dataset=dataset, after=before, limit=_PAGE_RECORDS, wait=wait
            )
        except ClientError as error:
            if error.code != "cursor_gone":
                raise
            LOGGER.warning("%s: %s; read again from the beginning", dataset, error)
            self._state.begin_again(dataset)
            return True
        decisions = [
            Decision(item["target"], item["number"], item["is_lifted"], tuple(item["keys"]))
            for item in page["redactions"]
        ]
        keys = [change["data"]["key"] for change in page["changes"]]
        if page["next"] != before:
            self._state.take(dataset, decisions, keys, page["next"])
        return bool(page["next"] != before)

    async def _guarded(self, key: str, *, erase: bool) -> None:
        """Work at one key; what goes wrong is its own affair. Raises ClientError of `_FINAL`."""
        try:
            if erase:
                await self._copier.erase(key)
            else:
                await self._copier.copy(key)
        except ClientError as error:
            if error.status in _FINAL:
                raise
            self._failed(key, error)
        except (StoreError, MalformedError, OtherBytesError) as error:
            self._failed(key, error)

    def _failed(self, key: str, error: Exception) -> None:
        attempts = self._state.attempts(key)
        pause = min(_RETRY_SECONDS_MAX, 2.0**attempts) * random.uniform(0.5, 1)  # noqa: S311
        LOGGER.warning("%s: %s; again in %.0f s", key, error, pause)
        self._state.failed(key, str(error)[:500], time.time() + pause)

    async def _tell(self, receipts: Sequence[Held]) -> None:
        """Tell the store, as our word, what is here and what is gone."""
        document = {
            "receipts": [
                {"key": item.key, "state": item.state, "size": item.size, "sha256": item.sha256}
                for item in receipts
            ]
        }
        try:
            await self._client.post(self._path, document)
        except ClientError as error:
            if error.code != "receipt_mismatch":
                raise
            if len(receipts) > 1:  # one of them is refused: find it, and tell the others
                middle = len(receipts) // 2
                await self._tell(receipts[:middle])
                await self._tell(receipts[middle:])
                return
            LOGGER.error("%s: the store does not take our receipt: %s", receipts[0].key, error)
        self._state.told(receipts)
