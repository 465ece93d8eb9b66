"""What does not come from the log just now: due or asked tries, woken manifests, late records.

All of it is durable elsewhere (in the topics copies and retries), so these lanes may forget
everything at any time; they find it again in the view. None of them touches the log's offsets.

    view: pending, due now  --+       (large ones: few at a time, in a lane of their own)
    view: child has changed --+--> one task per key, bounded --> mover.again(key)
    view: a retry is asked  --+--> one task per key, bounded --> mover.retry(key, which record)
    taken a partition       --+
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any, Final

from tidestore.connectors.holdings import Holdings
from tidestore.schemas.events import CopyChanged
from tidestore.streams.copies import CopiesQueries, FoldNotes
from tidestore.streams.fair_places import as_backlog
from tidestore.streams.mover import Mover
from tidestore.streams.states import KnownStates

LOGGER: Final = logging.getLogger("tidestore.lanes")

# Due copies are fetched from the view in such portions, and at most so many wait for a place.
_DUE_RECORDS: Final = 200
_TASKS_MAX: Final = 400
# Of large ones so many: more than have a place (Sources), so that no place is empty while the next
# is asked for, and few enough that however many are due, small ones find a task (R8).
LARGE_TASKS_MAX: Final = 8
# Without any word from the view it is asked this often all the same: a bound, not the mechanism.
_IDLE_SECONDS: Final = 5.0
# About what the view needs to fold what was just written.
_FOLD_SECONDS: Final = 0.02


class Lanes:
    """Drives retries and wakes of one worker. Belongs to its event loop."""

    def __init__(
        self,
        topic: str,
        mover: Mover,
        queries: CopiesQueries,
        known: KnownStates,
        holdings: Holdings,
    ) -> None:
        self._topic = topic
        self._mover = mover
        self._queries = queries
        self._known = known
        self._holdings = holdings
        self._news = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # Those of the tasks that copy a large object.
        self._large: set[str] = set()
        self._resending: set[asyncio.Task[None]] = set()
        self._woken: dict[str, None] = {}
        # Parked copies that somebody wants tried again, and the moment of the record that is meant.
        self._asked: dict[str, int] = {}
        # Copies that failed for an edge's sake up to this moment are due now: see drain().
        self._drained_to_ms: int | None = None

    def drain(self) -> None:
        """A store answers again: what waits for one is due at once, whatever its next try was."""
        self._drained_to_ms = int(time.time() * 1000)
        self._news.set()

    def wake(self, partition: int, key: str) -> None:
        """Something that a copy waited for has come: try it now, whenever its next try was due."""
        if self._holdings.stamp(partition) is not None:
            self._woken[key] = None
            self._news.set()

    def notice(self, notes: FoldNotes) -> None:
        """The view folded something: note what it means for the partitions that are held."""
        for partition, offset, worker in notes.claims:
            self._holdings.claimed(partition, offset, worker)
        for partition, key in notes.wakes:
            if self._holdings.stamp(partition) is not None:
                self._woken[key] = None
        for partition, key, changed_at_ms in notes.retries:
            if self._holdings.stamp(partition) is not None:
                self._asked[key] = changed_at_ms
        for partition, record in notes.overruled:
            self._answer(partition, record)
        if notes.wakes or notes.retries or notes.has_pending:
            self._news.set()

    async def held(self, partition: int) -> None:
        """A partition was taken: what its last owner left undone is ours now."""
        for key in self._queries.waiting_to_wake(partition):
            self._woken[key] = None
        self._asked.update(self._queries.asked_again(partition))
        for late in self._queries.overruled(self._topic, partition):
            self._say_again(late)
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._news.clear()
                self._start_woken()
                self._start_asked()
                wait_seconds = self._start_due()
                # Not wait_for: in Python 3.11 that swallows a cancellation which comes together
                # with the news, and whoever ends this worker would wait for ever.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_seconds):
                        await self._news.wait()
        finally:
            for task in [*self._tasks.values(), *self._resending]:
                task.cancel()

    def _start_woken(self) -> None:
        for key in list(self._woken):
            if len(self._tasks) >= _TASKS_MAX:
                return
            if key not in self._tasks:
                del self._woken[key]
                self._start(key, self._mover.again(key))

    def _start_asked(self) -> None:
        for key in list(self._asked):
            if len(self._tasks) >= _TASKS_MAX:
                return
            if key not in self._tasks:
                self._start(key, self._mover.retry(key, self._asked.pop(key)))

    def _start_due(self) -> float:
        """Start what is due; the seconds until there is more to do."""
        held = self._holdings.held
        if not held:
            return _IDLE_SECONDS
        now_ms = int(time.time() * 1000)
        places = _TASKS_MAX - len(self._tasks)
        if places > 0:
            self._start_records(held, now_ms, places)
        if self._tasks:
            return _IDLE_SECONDS  # each task's end is news
        if self._drained_to_ms is not None:
            return _FOLD_SECONDS
        due_ms = self._queries.next_due_ms(held)
        if due_ms is None:
            return _IDLE_SECONDS
        # Never zero: a record whose newer outcome is not folded yet would spin this loop.
        return min(_IDLE_SECONDS, max(_FOLD_SECONDS, (due_ms - now_ms) / 1000))

    def _start_records(self, held: list[int], now_ms: int, places: int) -> None:
        rooms = {False: min(_DUE_RECORDS, places), True: LARGE_TASKS_MAX - len(self._large)}
        are_more = False
        for is_large, room in rooms.items():
            if room <= 0:
                are_more = True  # not asked, so not known
                continue
            # Records of keys that are under way stay due in the view until their outcome is folded.
            records = self._queries.due(
                held,
                now_ms,
                room + len(self._tasks),
                is_large=is_large,
                drained_to_ms=self._drained_to_ms or 0,
            )
            are_more = are_more or bool(records)
            for record in records:
                if is_large and len(self._large) >= LARGE_TASKS_MAX:
                    break
                self._start_record(record, now_ms, is_large=is_large)
        if not are_more:
            self._drained_to_ms = None

    def _start_record(self, record: CopyChanged, now_ms: int, *, is_large: bool) -> None:
        key = record.key
        if key in self._tasks or self._mover.is_busy(key):
            return
        newest = self._known.find_record(key) or record
        if newest.next_try_at_ms is None:
            return  # its outcome is confirmed and not folded yet: a parked one stays parked
        is_drained = newest.changed_at_ms <= (self._drained_to_ms or 0)
        if is_drained or newest.next_try_at_ms <= now_ms:
            if is_large:
                self._large.add(key)
            with as_backlog():
                self._start(key, self._mover.again(key))

    def _start(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        self._large.discard(key)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error("trying %s again failed", key, exc_info=error)
        self._news.set()

    def _answer(self, partition: int, late: CopyChanged) -> None:
        """Write what is right behind a late record, so that compaction keeps the right one."""
        if self._holdings.stamp(partition) is not None:  # else whoever holds it next finds it
            self._say_again(late)

    def _say_again(self, late: CopyChanged) -> None:
        # The late one itself is said when nothing else is known of its key: it may be the word of
        # the true owner, overtaken by a claim of somebody who woke up.
        task = asyncio.create_task(self._mover.repeat(late))
        self._resending.add(task)
        task.add_done_callback(self._resending.discard)
