"""Bytes read back and hashed, so many a day: what no listing shows.

    keys in order, round after round:  a b c d | e f g ...      one publishes where it is (scrubs),
                             read in this round ^ after_key      so that any process goes on there

The next key is always the one whose bytes were proved longest ago: all before it were read later in
this round, and what was written meanwhile is younger than the round (R4 proved it when it came).

Wrong bytes become a finding, `rotten`, which the owner of the partition mends. What is missing is
left to the comparison, which knows whether it should be there. Killed anywhere: the last published
place is where the next one begins; some objects are read twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sqlite3
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tidestore.connectors.errors import ObjectMissingError
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.events import CopyState
from tidestore.schemas.findings import FindingKind, FindingReported, ReadbackMoved
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.topics import scrub_key
from tidestore.streams.scrub_compare import Counts
from tidestore.streams.scrub_judge import Judge, reason_to_stop
from tidestore.streams.scrub_spool import Suspicion
from tidestore.streams.scrub_view import ScrubRows, mark_of

if TYPE_CHECKING:
    from tidestore.streams.scrub import Scrubber

LOGGER: Final = logging.getLogger("tidestore.readback")

# One request's worth: long reads at a slow pace would outlast a connection.
PIECE_BYTES: Final = 8 * 1024 * 1024
# The place is published after so many objects or seconds: what a killed one reads again.
_OBJECTS_PER_MOVE: Final = 200
_SECONDS_PER_MOVE: Final = 30.0


@dataclass(slots=True)
class _Batch:
    """What was read since the place was published."""

    objects: int = 0
    bytes: int = 0
    rotten: list[Suspicion] = field(default_factory=list)


class Readback:
    """Reads one replica back. Belongs to the scrubber's event loop."""

    def __init__(self, scrubber: Scrubber, *, bytes_per_second: float = 0.0) -> None:
        self._scrubber = scrubber
        self._rows = ScrubRows(scrubber.view, scrubber.identity.replica)
        self._bytes_per_second = bytes_per_second
        self._place = self._first_place()
        self._begun = time.monotonic()
        self._done_bytes = 0
        self.findings: list[FindingReported] = []
        self.stopped = ""

    async def run(self, budget_bytes: int) -> ReadbackMoved:
        """Read on until so many bytes were read, or a round is over; where it came to stand.

        An object is read whole, so a large one may take more than the budget: the caller counts
        (`bytes` of the answer grows). Raises StoreError, LogError.
        """
        await self._scrubber.fold()
        self._place = self._rows.readback() or self._first_place()
        batch, moved_at = _Batch(), time.monotonic()
        last = self._place.after_key
        for row in self._rows.rows(last):
            if self._done_bytes >= budget_bytes or self.stopped:
                return await self._move(batch, last)
            await self._take(row, batch)
            last = row["key"]
            is_late = time.monotonic() - moved_at > _SECONDS_PER_MOVE
            if batch.objects >= _OBJECTS_PER_MOVE or is_late:
                await self._move(batch, last)
                batch, moved_at = _Batch(), time.monotonic()
        await self._move(batch, last)
        if self.stopped:
            return self._place
        return await self._end_round()

    async def _take(self, row: sqlite3.Row, batch: _Batch) -> None:
        """Read one object, if it has to be here."""
        if not self._is_here(row):
            return
        key = ObjectKey(row["key"])
        try:
            info, digest, size = await self._hash(key)
        except ObjectMissingError:
            return
        batch.objects += 1
        batch.bytes += size
        if (size, digest) != (row["size"], row["sha256"]):
            detail = f"{size} bytes with sha256 {digest} were read back"
            seen = (info.size, info.etag)
            batch.rotten.append(
                Suspicion(FindingKind.ROTTEN, key, mark_of(row), detail, *seen, row["size"])
            )

    def _is_here(self, row: sqlite3.Row) -> bool:
        if self._rows.is_redacted(row["key"]):
            return False
        if row["state"] is None:
            return bool(row["origin"] == self._scrubber.identity.replica)
        return bool(row["state"] == CopyState.PRESENT)

    async def _hash(self, key: ObjectKey) -> tuple[ObjectInfo, str, int]:
        """Hash an object piece by piece, at the pace."""
        hasher, start = hashlib.sha256(), 0
        first: ObjectInfo | None = None
        while first is None or start < first.size:
            stream = await self._scrubber.store.get(key, start=start, length=PIECE_BYTES)
            try:
                if first is None:
                    first = stream.info
                elif stream.info.etag != first.etag:  # repaired under our hands: begin again
                    hasher, start, first = hashlib.sha256(), 0, None
                    continue
                async for chunk in stream.chunks:
                    start += len(chunk)
                    self._done_bytes += len(chunk)
                    await asyncio.to_thread(hasher.update, chunk)
            finally:
                await stream.close()
            await self._pace()
        return first, hasher.hexdigest(), start

    async def _pace(self) -> None:
        if self._bytes_per_second:
            due = self._done_bytes / self._bytes_per_second
            await self._scrubber.sleep(max(0.0, due - (time.monotonic() - self._begun)))

    async def _move(self, batch: _Batch, last: str) -> ReadbackMoved:
        """Hand over what is rotten, then publish the place: never the other way round."""
        if batch.rotten:
            await self._hand_over(batch)
        place = self._place
        self._place = replace(
            place,
            after_key=place.after_key if self.stopped else last,
            objects=place.objects + batch.objects,
            bytes=place.bytes + batch.bytes,
            rotten=place.rotten + len(batch.rotten),
            moved_at_ms=_now_ms(),
        )
        await self._publish()
        return self._place

    async def _hand_over(self, batch: _Batch) -> None:
        scrubber = self._scrubber
        await scrubber.fold()
        judge = Judge(
            scrubber.identity, self._rows, scrubber.rules, "readback", _now_ms(),
            is_origin=scrubber.writes_here(self._rows),
        )  # fmt: skip
        found = judge.judge(batch.rotten).findings
        counts = Counts(expected=batch.objects, listed=batch.objects)
        self.stopped = reason_to_stop(counts, {"rotten": len(found)}, scrubber.rules)
        self.findings += found
        if self.stopped:
            LOGGER.error("reading %s back stopped: %s", scrubber.identity.replica, self.stopped)
        else:
            await scrubber.hand_over(found)

    async def _end_round(self) -> ReadbackMoved:
        now_ms, place = _now_ms(), self._place
        LOGGER.info(
            "%s: round %d of reading back is over: %d objects, %d rotten",
            place.replica, place.round, place.objects, place.rotten,
        )  # fmt: skip
        self._place = replace(
            place,
            round=place.round + 1,
            round_began_at_ms=now_ms,
            last_round_began_at_ms=place.round_began_at_ms,
            after_key="",
            objects=0,
            bytes=0,
            rotten=0,
            moved_at_ms=now_ms,
        )
        await self._publish()
        return self._place

    async def _publish(self) -> None:
        scrubber, place = self._scrubber, self._place
        key = scrub_key(place.replica, place.incarnation, "readback")
        await scrubber.writer.append(scrubber.topics.scrubs, 0, key, place)

    @property
    def done_bytes(self) -> int:
        """What was read by now."""
        return self._done_bytes

    def _first_place(self) -> ReadbackMoved:
        identity, now_ms = self._scrubber.identity, _now_ms()
        return ReadbackMoved(
            identity.replica, identity.incarnation, 1, now_ms, 0, "", 0, 0, 0, now_ms
        )


def _now_ms() -> int:
    return int(time.time() * 1000)
