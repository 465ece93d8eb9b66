"""Says on the log when a replica misses its objective and when it keeps it again.

    every few seconds: is it kept? --as the topic says--> nothing
                                   '-otherwise--> fold all that the log and the copies hold now,
                                                  look again --still so--> ObjectiveChanged

Every gateway watches; the index of each holds the same, so they agree. One that sees a change waits
a random moment first, in which another may have said it; if both say it, the two records have one
number. Killed before the append: the next look finds it again. Killed after: it is said.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Final

from tidestore.api.lags import Lags, Lateness, is_kept, lateness
from tidestore.api.settings import GatewaySettings
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.view import View
from tidestore.schemas.objectives import ObjectiveChanged
from tidestore.schemas.topics import scrub_key

LOGGER: Final = logging.getLogger("tidestore.objective")

# Often enough that a change is told well within the promised time, rarely enough to cost nothing.
_CHECK_SECONDS_MAX: Final = 10.0
_CHECK_SECONDS_MIN: Final = 0.5
# In which somebody else may say it.
_SPREAD_SECONDS: Final = 1.0
# A new gateway has the whole log to fold before it may judge.
_FOLD_SECONDS_MAX: Final = 3_600.0


class ObjectiveWatch:
    """Watches all replicas for one gateway. Belongs to its event loop."""

    def __init__(
        self,
        settings: GatewaySettings,
        served: Callable[[], dict[str, str]],
        view: View,
        lags: Lags,
        writer: LogWriter,
    ) -> None:
        self._settings = settings
        # The copies topic of each replica that is served now, and its name.
        self._served = served
        self._view = view
        self._lags = lags
        self._writer = writer
        promised = settings.limits.objective_seconds
        self._pause = min(_CHECK_SECONDS_MAX, max(_CHECK_SECONDS_MIN, promised / 4))

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self._pause)
            for topic, replica in self._served().items():
                try:
                    await self._look(replica, topic)
                except LogError as error:
                    LOGGER.warning("cannot tell of the objective of %s yet: %s", replica, error)

    async def _look(self, replica: str, copies: str) -> None:
        incarnation = int(copies.rpartition(".")[2])
        if self._judge(replica) is self._said(replica, incarnation)[0]:
            return
        await asyncio.sleep(random.uniform(0, _SPREAD_SECONDS))  # noqa: S311  no secret
        await self._fold_all(copies)
        is_kept_now = self._judge(replica)
        said, number = self._said(replica, incarnation)
        if is_kept_now is not said:
            await self._tell(replica, incarnation, number + 1, is_kept_now=is_kept_now)

    async def _fold_all(self, copies: str) -> None:
        """What is not folded yet is neither late nor in time: wait for what the brokers have."""
        topics = self._settings.topics
        wide = list(range(topics.partitions))
        for topic, partitions in ((topics.log, wide), (copies, wide), (topics.objectives, [0])):
            ends = await self._writer.ends(topic, partitions)
            await self._view.reached(topic, ends, timeout_seconds=_FOLD_SECONDS_MAX)

    def _late(self, replica: str) -> Lateness:
        return lateness(self._lags, self._settings.limits, replica)

    def _judge(self, replica: str) -> bool:
        return is_kept(self._late(replica), self._settings.limits.objective_percent)

    def _said(self, replica: str, incarnation: int) -> tuple[bool, int]:
        """What the topic says: kept, until it says otherwise."""
        rows = self._view.query(
            "SELECT is_kept, number FROM objectives WHERE replica = ? AND incarnation = ?",
            (replica, incarnation),
        )
        return (bool(rows[0][0]), rows[0][1]) if rows else (True, 0)

    async def _tell(
        self, replica: str, incarnation: int, number: int, *, is_kept_now: bool
    ) -> None:
        late, limits, topic = self._late(replica), self._settings.limits, self._topic
        event = ObjectiveChanged(
            replica=replica,
            incarnation=incarnation,
            number=number,
            is_kept=is_kept_now,
            promised_ppm=round(limits.objective_percent * 10_000),
            in_time_ppm=round(late.in_time * 1_000_000),
            within_ms=round(limits.objective_seconds * 1000),
            overdue=late.overdue,
            changed_at_ms=int(time.time() * 1000),
            told_by=self._settings.gateway_id,
        )
        placed = await self._writer.append(topic, 0, scrub_key(replica, incarnation), event)
        LOGGER.warning(
            "%s: the objective is %s: %.2f %% of the last hour's copies within %g s, %d overdue;"
            " a canary waits for %.0f s",
            replica, "kept again" if is_kept_now else "missed",
            late.in_time * 100, limits.objective_seconds, late.overdue,
            late.canary.waiting_seconds,
        )  # fmt: skip
        ends: Mapping[int, int] = {0: placed.offset + 1}
        await self._view.reached(topic, dict(ends), timeout_seconds=_FOLD_SECONDS_MAX)

    @property
    def _topic(self) -> str:
        return self._settings.topics.objectives
