"""The partitions that this worker holds, and the stamps it writes with: the active side of claims.

    assigned --take()--> claim appended --view folded up to it--> held (stamp = the claim's offset)
                              ^                                      |
                              |   somebody else's newer claim <------+
                              '--- still assigned: claim again       revoked: drop()

Crash between claim and fold: the claim stays, nobody writes under it, the next owner claims again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.view import View
from tidestore.schemas.events import PartitionClaimed
from tidestore.schemas.topics import claim_key

LOGGER: Final = logging.getLogger("tidestore.holdings")

# Folding up to the claim means reading what the last owner wrote; a new worker reads everything.
_FOLD_SECONDS_MAX: Final = 600.0
_RETRY_SECONDS: Final = 1.0
# A woken worker that no longer owns a partition may still claim it once. Its owner waits a moment
# before it claims back, so that Kafka's own word reaches the other first.
_RECLAIM_SECONDS: Final = 1.0


class Holdings:
    """Claims on partitions of one topic, for one worker. Belongs to its event loop."""

    def __init__(
        self,
        writer: LogWriter,
        view: View,
        topic: str,
        worker: str,
        on_held: Callable[[int], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._view = view
        self._topic = topic
        self._worker = worker
        self._on_held = on_held
        self._stamps: dict[int, int] = {}
        # The last claim that was folded of each partition, whoever wrote it.
        self._newest: dict[int, int] = {}
        self._taking: dict[int, asyncio.Task[None]] = {}

    def assign(self, partitions: set[int]) -> None:
        """Kafka gave us just these partitions: claim the new ones, drop the others."""
        for partition in (set(self._taking) | set(self._stamps)) - partitions:
            self.drop(partition)
        for partition in partitions:
            if partition not in self._stamps and partition not in self._taking:
                self._begin(partition, 0.0)

    def drop(self, partition: int) -> None:
        """Kafka took the partition away: nothing more is written for it."""
        self._stamps.pop(partition, None)
        task = self._taking.pop(partition, None)
        if task is not None:
            task.cancel()

    @property
    def held(self) -> list[int]:
        """The partitions that may be written for now."""
        return sorted(self._stamps)

    def stamp(self, partition: int) -> int | None:
        """The claim to stamp a record with; None when the partition is not held."""
        return self._stamps.get(partition)

    async def await_stamp(self, partition: int) -> int | None:
        """The claim to stamp a record with, once it is held; None when it is not ours."""
        while (stamp := self._stamps.get(partition)) is None:
            task = self._taking.get(partition)
            if task is None:
                return None
            await asyncio.wait([task])
        return stamp

    def claimed(self, partition: int, offset: int, worker: str) -> None:
        """A claim was folded. One newer than ours, while we still are assigned, is answered."""
        self._newest[partition] = offset
        mine = self._stamps.get(partition)
        if mine is not None and offset > mine:
            LOGGER.warning(
                "%s/%d was claimed by %s while %s holds it; claiming again",
                self._topic, partition, worker, self._worker,
            )  # fmt: skip
            del self._stamps[partition]
            self._begin(partition, _reclaim_pause())

    async def close(self) -> None:
        """Stop claiming."""
        tasks = list(self._taking.values())
        for partition in set(self._taking) | set(self._stamps):
            self.drop(partition)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, partition: int, delay_seconds: float) -> None:
        task = asyncio.create_task(self._take(partition, delay_seconds))
        self._taking[partition] = task
        task.add_done_callback(lambda done: self._ended(partition, done))

    def _ended(self, partition: int, task: asyncio.Task[None]) -> None:
        if self._taking.get(partition) is task:
            del self._taking[partition]
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error("claiming %s/%d failed", self._topic, partition, exc_info=error)

    async def _take(self, partition: int, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        while True:
            claim = PartitionClaimed(self._worker, partition, int(time.time() * 1000))
            try:
                placed = await self._writer.append(
                    self._topic, partition, claim_key(partition), claim
                )
                await self._view.reached(
                    self._topic, {partition: placed.offset + 1}, timeout_seconds=_FOLD_SECONDS_MAX
                )
            except LogError as error:
                LOGGER.warning("cannot claim %s/%d yet: %s", self._topic, partition, error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if self._newest.get(partition, -1) <= placed.offset:
                break
            # Somebody claimed while we were reading, which may take minutes: under our claim every
            # word would be late, and be answered by ourselves with the next late one.
            await asyncio.sleep(_reclaim_pause())
        self._stamps[partition] = placed.offset
        LOGGER.info("%s/%d is held under claim %d", self._topic, partition, placed.offset)
        await self._on_held(partition)


def _reclaim_pause() -> float:
    return _RECLAIM_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311  jitter


class AllHeld:
    """Claims on several topics at once: a partition is ours when all of them are."""

    def __init__(self, holdings: list[Holdings]) -> None:
        self._holdings = holdings

    async def await_stamp(self, partition: int) -> int | None:
        """See intake.Stamps."""
        stamps = [await holdings.await_stamp(partition) for holdings in self._holdings]
        return None if None in stamps else stamps[0]
