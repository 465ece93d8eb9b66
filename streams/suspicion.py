"""A source gave wrong bytes and another the right ones: told to whoever holds its copy.

    here:   wrong bytes from A, right ones from B --> finding `suspected` about A's copy
    at A:   its owner reads the copy back, under its claim --wrong--> corrupt, mended (mending.py)
                                                           '-right--> nothing: it was on the way

Nothing is believed of what is told here, so it may be lost (killed before it is appended: the next
comparison or reading back finds the same) and it may be told twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from tidestore.connectors.errors import ChecksumMismatchError, StoreError
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.schemas.checksums import checksums_text
from tidestore.schemas.findings import FindingKind, FindingReported
from tidestore.schemas.topics import retry_key
from tidestore.streams.records import Wanted

LOGGER: Final = logging.getLogger("tidestore.suspicion")

# What one worker tells of one source in an hour. Each costs the source's worker a read; a store
# that is bad altogether is a matter for a comparison, which stops and calls for a person.
TOLD_PER_HOUR: Final = 100
_HOUR_SECONDS: Final = 3_600.0
# Told but not appended yet: the broker is away, and comparisons will find what is left out.
_WAITING_MAX: Final = 1_000
_RETRY_SECONDS: Final = 5.0
_TEXT_CHARS_MAX: Final = 1_000


def suspects_among(errors: list[StoreError]) -> list[ChecksumMismatchError]:
    """Of what went wrong before a source had the right bytes: those that gave wrong ones."""
    return [error for error in errors if isinstance(error, ChecksumMismatchError)]


class Suspicions:
    """Tells of one worker's sources. Belongs to its event loop.

    `life_of` names the incarnation in which a source is read; None when it is none any more.
    """

    def __init__(
        self,
        writer: LogWriter,
        topic: str,
        life_of: Callable[[str], int | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._topic = topic
        self._life_of = life_of
        self._clock = clock
        self._told: dict[str, deque[float]] = {}
        self._waiting: deque[FindingReported] = deque(maxlen=_WAITING_MAX)
        self._news = asyncio.Event()

    def tell(self, wanted: Wanted, error: StoreError) -> None:
        """A source, which the error names, gave wrong bytes for what another one had."""
        source, now = error.store, self._clock()
        LOGGER.warning("%s gave wrong bytes of %s: %s", source, wanted.key, error)
        life = self._life_of(source)
        told = self._told.setdefault(source, deque(maxlen=TOLD_PER_HOUR))
        if life is None or (len(told) == TOLD_PER_HOUR and now - told[0] < _HOUR_SECONDS):
            return
        told.append(now)
        self._waiting.append(_finding(wanted, source, life, str(error)))
        self._news.set()

    async def run(self) -> None:
        """Append what is told, until cancelled."""
        while True:
            self._news.clear()
            while self._waiting:
                finding = self._waiting[0]
                key = retry_key(finding.replica, finding.incarnation, finding.key)
                try:
                    await self._writer.append(self._topic, 0, key, finding)
                except LogError as error:
                    LOGGER.warning("cannot tell of %s yet: %s", finding.key, error)
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                self._waiting.popleft()
            await self._news.wait()


def _finding(wanted: Wanted, source: str, incarnation: int, text: str) -> FindingReported:
    now_ms = int(time.time() * 1000)
    return FindingReported(
        key=wanted.key,
        replica=source,
        incarnation=incarnation,
        kind=FindingKind.SUSPECTED.value,
        changed_at_ms=0,
        log_offset=wanted.log_offset,
        size=wanted.size,
        sha256=wanted.sha256,
        checksums=checksums_text(wanted.sums) if wanted.sums is not None else "",
        content_type=wanted.content_type,
        origin=wanted.origin,
        written_at_ms=wanted.written_at_ms,
        scrub_id="copy",
        found_at_ms=now_ms,
        first_found_at_ms=now_ms,
        detail=text[:_TEXT_CHARS_MAX],
    )
