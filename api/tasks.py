"""Long writes that outlive their request, and their gateway.

A task is one compacted record. The gateway that runs it holds a lease, which it renews with each
progress record; when a lease ends, any gateway takes the task over under a higher lease number.

    queued --lease 1--> running --progress, lease renewed--> running --> succeeded | failed
                          |                                                ^
                          '-- gateway killed, lease ends --lease 2 by another gateway

Of two gateways that take the same lease number the first record in the topic wins; a record with
an older lease came from a frozen gateway and is passed over, but it is the last of its key, which
compaction would keep (connectors/overruled.py). A task that runs is soon spoken of again by its
owner; of one that is over any gateway says the right record again. Should two run one task at the
same time all the same, nothing is lost: every step is a conditional create.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final

from tidestore.api.problems import Problem
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.overruled import QUERY as OVERRULED_QUERY
from tidestore.connectors.overruled import OverruledKeys, create_overruled
from tidestore.connectors.view import Folded, View
from tidestore.schemas.events import TaskChanged, TaskState

LOGGER: Final = logging.getLogger("tidestore.tasks")

# Renewed this many times before it would end, so that a slow broker does not cost a task its owner.
_RENEWALS: Final = 5
_LOOK_SECONDS: Final = 2.0
# In which another gateway may say a record again, so that not all of them do.
_SPREAD_SECONDS: Final = 1.0
# Each task streams one object; more at once would only share the same bandwidth and more memory.
_TASKS_AT_ONCE: Final = 4
# More wait for their turn, each with a record that its lease keeps alive; then writers must wait.
_TASKS_MAX: Final = 200
_COLUMNS: Final = tuple(item.name for item in fields(TaskChanged))

# A runner gets the task and a function to report bytes with; it returns the result as JSON text.
# It raises TaskFailedError for a final failure, anything else for one that may pass.
Report = Callable[[int, int | None], None]
Runner = Callable[[TaskChanged, Report], Awaitable[str]]


class TaskFailedError(Exception):
    """The task cannot succeed: its cause is for the client to read."""


class TasksFold:
    """The newest record of each task, by lease; and the tasks whose last record is a late one."""

    version = 2

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE tasks (task_id TEXT PRIMARY KEY, state TEXT, lease INTEGER,"
            " lease_until_ms INTEGER, owner TEXT, request TEXT, created_at_ms INTEGER,"
            " changed_at_ms INTEGER, bytes_done INTEGER, bytes_total INTEGER, cause TEXT,"
            " result TEXT) WITHOUT ROWID"
        )
        create_overruled(db)

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        keys = OverruledKeys(db)
        for record in records:
            event = record.event
            if not isinstance(event, TaskChanged):
                continue
            held = db.execute(
                "SELECT lease, owner, state FROM tasks WHERE task_id = ?", (event.task_id,)
            ).fetchone()
            place = (record.topic, record.partition, event.task_id)
            if held is not None and _is_late(event, *held):
                keys.late(*place, event)
                continue
            keys.said(*place)
            values = [getattr(event, name) for name in _COLUMNS]
            marks = ", ".join("?" * len(_COLUMNS))
            names = ", ".join(_COLUMNS)
            db.execute(f"INSERT OR REPLACE INTO tasks ({names}) VALUES ({marks})", values)
        keys.store()

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""


class TaskBoard:
    """Starts, runs, takes over and answers for tasks. Belongs to the gateway's event loop."""

    def __init__(
        self,
        view: View,
        writer: LogWriter,
        topic: str,
        owner: str,
        runner: Runner,
        *,
        lease_ms: int,
    ) -> None:
        self._view = view
        self._writer = writer
        self._topic = topic
        self._owner = owner
        self._runner = runner
        self._lease_ms = lease_ms
        self._running: dict[str, asyncio.Task[None]] = {}
        self._places = asyncio.Semaphore(_TASKS_AT_ONCE)

    async def find(self, task_id: str) -> TaskChanged | None:
        """A task by id, as new as the topic's end."""
        found = self._find(task_id)
        if found is None or not found.state.is_final:
            ends = await self._writer.ends(self._topic, [0])
            await self._view.reached(self._topic, ends, timeout_seconds=5)
            found = self._find(task_id)
        return found

    async def submit(self, task_id: str, request: str, total: int | None) -> TaskChanged:
        """Make a task, or find the one that was made for the same request and is not failed.

        Raises Problem 429 when too many are under way here already.
        """
        found = await self.find(task_id)
        if found is not None and found.state is not TaskState.FAILED:
            return found
        if len(self._running) >= _TASKS_MAX:
            raise Problem(
                429,
                "too_many_tasks",
                f"{_TASKS_MAX} tasks are under way at this gateway",
                hint="send it again when some are done",
                headers={"Retry-After": "10"},
            )
        now = _now_ms()
        task = TaskChanged(
            task_id=task_id,
            state=TaskState.QUEUED,
            lease=found.lease + 1 if found is not None else 1,
            lease_until_ms=now + self._lease_ms,
            owner=self._owner,
            request=request,
            created_at_ms=now,
            changed_at_ms=now,
            bytes_total=total,
        )
        await self._say(task)
        self._start(task)
        return task

    async def run(self) -> None:
        """Take over tasks whose gateway is gone, until cancelled."""
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                try:
                    await self._take_over()
                    await self._say_again()
                except LogError as error:
                    LOGGER.warning("cannot look for tasks now: %s", error)
        finally:
            for task in self._running.values():
                task.cancel()

    def _find(self, task_id: str) -> TaskChanged | None:
        rows = self._view.query(
            f"SELECT {', '.join(_COLUMNS)} FROM tasks WHERE task_id = ?",
            (task_id,),
        )
        return _task(rows[0]) if rows else None

    async def _take_over(self) -> None:
        if len(self._running) >= _TASKS_AT_ONCE:
            return
        rows = self._view.query(
            f"SELECT {', '.join(_COLUMNS)} FROM tasks"
            " WHERE state IN ('queued', 'running') AND lease_until_ms < ? LIMIT ?",
            (_now_ms(), _TASKS_AT_ONCE),
        )
        for row in rows:
            stale = _task(row)
            if stale.task_id in self._running:
                continue
            mine = replace(
                stale,
                lease=stale.lease + 1,
                owner=self._owner,
                state=TaskState.RUNNING,
                lease_until_ms=_now_ms() + self._lease_ms,
            )
            await self._say(mine)
            held = await self.find(mine.task_id)
            if held is not None and held.owner == self._owner and held.lease == mine.lease:
                LOGGER.info("task %s taken over from %s", mine.task_id, stale.owner)
                self._start(mine)

    def _overruled(self) -> list[TaskChanged]:
        """Tasks that are over and whose last record is a frozen gateway's."""
        rows = self._view.query(f"{OVERRULED_QUERY} LIMIT ?", (self._topic, 0, _TASKS_MAX))
        found = [self._find(row[0]) for row in rows]
        return [task for task in found if task is not None and task.state.is_final]

    async def _say_again(self) -> None:
        """Say the right record behind a late one, just as it was: the same again changes nothing.

        Killed before: every gateway's view has the row. Two that say it: the same record twice.
        """
        if not self._overruled():
            return
        await asyncio.sleep(random.uniform(0, _SPREAD_SECONDS))  # noqa: S311  no secret
        for task in self._overruled():
            LOGGER.warning("task %s is over; a late record of it is overruled", task.task_id)
            await self._writer.append(self._topic, 0, task.task_id, task)

    def _is_lost(self, task: TaskChanged) -> bool:
        """Whether another gateway has taken a task from us: we were frozen, or too late."""
        held = self._find(task.task_id)
        return held is not None and (
            held.lease > task.lease or (held.lease == task.lease and held.owner != task.owner)
        )

    def _start(self, task: TaskChanged) -> None:
        if task.task_id in self._running:
            return
        running = asyncio.create_task(self._carry_out(task))
        self._running[task.task_id] = running
        running.add_done_callback(lambda _: self._running.pop(task.task_id, None))

    async def _carry_out(self, task: TaskChanged) -> None:
        """Run one task to its end. Killed here, the lease ends and somebody else begins again."""
        progress = [task.bytes_done, task.bytes_total]

        def report(done: int, total: int | None) -> None:
            progress[:] = [done, total]

        has_begun = asyncio.Event()

        async def take_turn() -> str:
            async with self._places:
                has_begun.set()
                return await self._runner(task, report)

        work = asyncio.ensure_future(take_turn())
        try:
            while True:
                done, _ = await asyncio.wait([work], timeout=self._lease_ms / 1000 / _RENEWALS)
                if self._is_lost(task):
                    LOGGER.warning("task %s is another gateway's now", task.task_id)
                    return
                task = replace(
                    task,
                    state=TaskState.RUNNING if has_begun.is_set() else TaskState.QUEUED,
                    lease_until_ms=_now_ms() + self._lease_ms,
                    bytes_done=progress[0] or 0,
                    bytes_total=progress[1],
                )
                if done:
                    break
                await self._say(task)
            await self._say(self._ended(task, work))
        except LogError as error:
            LOGGER.warning("task %s: cannot tell how it goes: %s", task.task_id, error)
        finally:
            work.cancel()

    def _ended(self, task: TaskChanged, work: asyncio.Future[str]) -> TaskChanged:
        try:
            result = work.result()
        except TaskFailedError as error:
            return replace(task, state=TaskState.FAILED, cause=str(error)[:2000])
        except Exception as error:  # noqa: BLE001  whatever it was, the client must learn of it
            LOGGER.warning("task %s failed: %s", task.task_id, error)
            return replace(task, state=TaskState.FAILED, cause=str(error)[:2000])
        return replace(task, state=TaskState.SUCCEEDED, result=result)

    async def _say(self, task: TaskChanged) -> None:
        said = replace(task, changed_at_ms=_now_ms())
        await self._writer.append(self._topic, 0, task.task_id, said)


def _is_late(event: TaskChanged, lease: int, owner: str, state: str) -> bool:
    """Whether a record comes from who has lost the task, or from before its end."""
    if event.lease != lease or event.owner != owner:
        return event.lease <= lease
    return TaskState(state).is_final and not event.state.is_final


def _task(row: sqlite3.Row) -> TaskChanged:
    values: dict[str, Any] = dict(row)
    values["state"] = TaskState(values["state"])
    return TaskChanged(**values)


def _now_ms() -> int:
    return int(time.time() * 1000)
