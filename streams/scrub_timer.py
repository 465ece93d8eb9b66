"""Comparisons, sweeps and reading back by themselves, in a worker of the replica.

Whoever holds the replica's first partition does it, so one worker does, and another when that one
is gone. Two may overlap for a moment: a comparison changes nothing, and a finding that is handed
over twice is carried out once.

When it is due is told by what was published last, whoever published it: a restart neither repeats
a comparison nor puts it off. Its view is opened for each turn and closed after it: folding the log
all the time would cost the worker as much as copying does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tidestore.connectors.errors import StoreError
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.findings import ReadbackMoved, ScrubReported
from tidestore.streams.readback import Readback
from tidestore.streams.scrub import Scrubber
from tidestore.streams.scrub_open import open_scrubber
from tidestore.streams.scrub_uploads import sweep_replica
from tidestore.streams.scrub_view import ScrubRows
from tidestore.streams.settings import WorkerSettings

LOGGER: Final = logging.getLogger("tidestore.scrub")

# A replica that was never compared: not while it is still being filled by its first minutes' work.
_FIRST_SECONDS: Final = 600.0
# Bytes are read back in turns of this length, each with its share of the day's budget.
_TURN_SECONDS: Final = 600.0
_DAY_SECONDS: Final = 86_400.0
_HOUR_MS: Final = 3_600_000
# From the beginning of one round of reading back to that of the next.
_ROUND_MS_MIN: Final = 7 * 24 * _HOUR_MS
# Within a turn they are read a little faster than the budget, so that a turn fits into its time.
_HASTE: Final = 1.5


class ScrubTimer:
    """Takes its turns until cancelled. Belongs to the worker's event loop."""

    def __init__(
        self,
        settings: WorkerSettings,
        store: ObjectStore,
        writer: LogWriter,
        is_ours: Callable[[], bool],
        *,
        first_seconds: float = _FIRST_SECONDS,
        turn_seconds: float = _TURN_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._store = store
        self._writer = writer
        self._is_ours = is_ours
        self._first_seconds = first_seconds
        self._turn_seconds = turn_seconds
        self._clock = clock
        # What a large object took beyond its turn's share, to be saved by the next ones.
        self._debt_bytes = 0.0
        self._folder: Path = settings.data_folder / "scrub"

    async def run(self) -> None:
        """Work until cancelled."""
        chosen = self._settings.scrub
        if not chosen.every_hours and not chosen.readback_gb_per_day:
            await asyncio.Event().wait()  # a worker's tasks end with the worker alone
        wait_seconds = self._first_seconds
        while True:
            await asyncio.sleep(wait_seconds)
            wait_seconds = self._turn_seconds
            if not self._is_ours():
                continue
            try:
                await self._turn()
            except (StoreError, LogError) as error:
                LOGGER.warning("%s: no scrub now: %s", self._settings.replica.name, error)

    async def _turn(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            scrubber = await open_scrubber(
                self._settings, self._store, self._writer, self._folder, stack,
                keys_per_second_max=self._settings.scrub.keys_per_second,
            )  # fmt: skip
            await scrubber.fold()
            rows = ScrubRows(scrubber.view, scrubber.identity.replica)
            chosen, now_ms = self._settings.scrub, int(self._clock() * 1000)
            if is_comparison_due(rows.last_report(), chosen.every_hours, now_ms):
                outcome = await scrubber.run()
                LOGGER.info("%s: scrub: %s", outcome.report.replica, outcome.report.verdict)
                await sweep_replica(scrubber, now_ms)
            if is_reading_due(rows.readback(), now_ms):
                await self._read_back(scrubber)

    async def _read_back(self, scrubber: Scrubber) -> None:
        rate = self._settings.scrub.readback_gb_per_day * 1e9 / _DAY_SECONDS
        budget = rate * self._turn_seconds - self._debt_bytes
        self._debt_bytes = max(0.0, -budget)
        if budget > 0:
            readback = Readback(scrubber, bytes_per_second=rate * _HASTE)
            await readback.run(int(budget))
            self._debt_bytes = max(0.0, readback.done_bytes - budget)


def is_comparison_due(last: ScrubReported | None, every_hours: float, now_ms: int) -> bool:
    """Whether the replica is to be compared now; `last` is what was published last."""
    if not every_hours:
        return False
    return last is None or now_ms >= last.ended_at_ms + every_hours * _HOUR_MS


def is_reading_due(place: ReadbackMoved | None, now_ms: int) -> bool:
    """Whether there is anything to read: within a round always, else when the next one may begin.

    Reading a small store again and again proves little, and may cost egress.
    """
    if place is None or place.after_key or not place.last_round_began_at_ms:
        return True
    return now_ms >= place.last_round_began_at_ms + _ROUND_MS_MIN
