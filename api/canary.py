"""Sends canaries: one after another, each on the next partition of the log (decision 0017).

    whoever holds partition 0 of `cursors` --CanarySent--> log --> every replica's worker

So of several gateways one sends, by the claim that it has for its hooks; while nobody has it,
nothing is sent, and nothing is missed. Moments are multiples of the pause, whoever sends, so a
hand-over neither doubles a canary nor leaves one out by much. Killed anywhere: the next one is sent
by the next holder. A gateway that was frozen sends one too many, which is proved like any other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.schemas.canaries import CanarySent
from tidestore.schemas.topics import Topics, canary_key

LOGGER: Final = logging.getLogger("tidestore.canary")


class CanarySender:
    """Sends for one gateway, `name`. Belongs to its event loop."""

    def __init__(
        self,
        topics: Topics,
        writer: LogWriter,
        is_holder: Callable[[], bool],
        *,
        seconds: float,
        name: str,
    ) -> None:
        self._topics = topics
        self._writer = writer
        self._is_holder = is_holder
        self._seconds = seconds
        self._name = name

    async def run(self) -> None:
        """Send until cancelled; not at all where the pause is 0."""
        while self._seconds > 0:
            await asyncio.sleep(pause_until_next(time.time(), self._seconds))
            if not self._is_holder():
                continue
            partition = round(time.time() / self._seconds) % self._topics.partitions
            event = CanarySent(partition, int(time.time() * 1000), self._name)
            try:
                await self._writer.append(self._topics.log, partition, canary_key(partition), event)
            except LogError as error:
                LOGGER.warning("cannot send a canary now: %s", error)


def pause_until_next(now: float, seconds: float) -> float:
    """Until the next multiple; never so short that one moment is met twice."""
    pause = seconds - now % seconds
    return pause if pause > seconds / 100 else pause + seconds
