"""What does not come from the log just now: due or asked tries, woken manifests, late records.

All of it is durable elsewhere (in the topics copies and retries), so these lanes may forget
everything at any time; they find it again in the view. None of them touches the log's offsets.

    view: pending, due now  --+       (all large ones: few at a time, in a lane of their own)
    view: child has changed --+--> one task per key, bounded --> mover.again(key)
    view: a retry is asked  --+--> one task per key, bounded --> mover.retry(key, which record)
    taken a partition       --+
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Container, Coroutine
from typing import Any, Final

from tidestore.connectors.holdings import Holdings
from tidestore.schemas.events import CopyChanged
from tidestore.streams.copies import CopiesQueries, FoldNotes
from tidestore.streams.fair_places import as_backlog
from tidestore.streams.mover import Mover
from tidestore.streams.plan import SMALL_BYTES_MAX
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


class _Asked:
    """Keys that wait for a task of their own, the large ones apart; each with a number."""

    def __init__(self) -> None:
        self._queues: dict[bool, dict[str, int]] = {False: {}, True: {}}

    def add(self, key: str, number: int = 0, *, is_large: bool) -> None:
        """Have the key tried; the newest number counts."""
        self._queues[is_large][key] = number

    def take(self, busy: Container[str], places: int, *, is_large: bool) -> list[tuple[str, int]]:
        """So many of them, but those that are busy; who came first comes first."""
        queue = self._queues[is_large]
        free = (key for key in queue if key not in busy)
        found = list(itertools.islice(free, max(0, places)))
        return [(key, queue.pop(key)) for key in found]


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
        self._woken = _Asked()
        # Parked copies that somebody wants tried again, and the moment of the record that is meant.
        self._asked = _Asked()
        # Copies that failed for an edge's sake up to this moment are due now: see drain().
        self._drained_to_ms: int | None = None

    def drain(self) -> None:
        """A store answers again: what waits for one is due at once, whatever its next try was."""
        self._drained_to_ms = int(time.time() * 1000)
        self._news.set()

    def wake(self, partition: int, key: str) -> None:
        """Something that a copy waited for has come: try it now, whenever its next try was due."""
        if self._holdings.stamp(partition) is not None:
            self._woken.add(key, is_large=self._is_large(key))
            self._news.set()

    def notice(self, notes: FoldNotes) -> None:
        """The view folded something: note what it means for the partitions that are held."""
        for partition, offset, worker in notes.claims:
            self._holdings.claimed(partition, offset, worker)
        for partition, key in notes.wakes:
            if self._holdings.stamp(partition) is not None:
                self._woken.add(key, is_large=False)  # only manifests wait for others
        for partition, key, changed_at_ms in notes.retries:
            if self._holdings.stamp(partition) is not None:
                self._asked.add(key, changed_at_ms, is_large=self._is_large(key))
        for partition, record in notes.overruled:
            self._answer(partition, record)
        if notes.wakes or notes.retries or notes.has_pending:
            self._news.set()

    async def held(self, partition: int) -> None:
        """A partition was taken: what its last owner left undone is ours now."""
        for key in self._queries.waiting_to_wake(partition):
            self._woken.add(key, is_large=False)
        for key, changed_at_ms in self._queries.asked_again(partition):
            self._asked.add(key, changed_at_ms, is_large=self._is_large(key))
        for late in self._queries.overruled(self._topic, partition):
            self._say_again(late)
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._news.clear()
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

    def _start_asked(self) -> None:
        """Start what is woken or asked for, as far as there are places; each task's end is news."""
        for is_large in (False, True):
            for key, _ in self._taken(self._woken, is_large=is_large):
                self._start(key, self._mover.again(key), is_large=is_large)
            for key, changed_at_ms in self._taken(self._asked, is_large=is_large):
                work = self._mover.retry(key, changed_at_ms)
                self._start(key, work, is_large=is_large)

    def _taken(self, asked: _Asked, *, is_large: bool) -> list[tuple[str, int]]:
        places = _TASKS_MAX - len(self._tasks)
        if is_large:
            places = min(places, LARGE_TASKS_MAX - len(self._large))
        return asked.take(self._tasks, places, is_large=is_large)

    def _is_large(self, key: str) -> bool:
        record = self._known.find_record(key)
        return record is not None and record.size > SMALL_BYTES_MAX

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
            with as_backlog():
                self._start(key, self._mover.again(key), is_large=is_large)

    def _start(self, key: str, work: Coroutine[Any, Any, None], *, is_large: bool) -> None:
        if is_large:
            self._large.add(key)
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
