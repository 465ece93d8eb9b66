"""One member of a Kafka group that reads the log: assignment, intake, commits, a quiet end.

Kafka says which partitions are ours; claims say when we may write for them; the intake says how far
they may be committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

import faust
from faust.types import TP

from tidestore.connectors.kafka import KafkaSettings
from tidestore.streams.app import GATHER_SECONDS, add_agent, commit, make_app
from tidestore.streams.intake import Intake

LOGGER: Final = logging.getLogger("tidestore.member")

# A commit is one small request for all partitions; what is not committed is only read again.
COMMIT_SECONDS: Final = 0.5
# How long what is under way may go on after the worker was told to stop.
DRAIN_SECONDS: Final = 8.0


class Assignee(Protocol):
    """Who has to know which partitions are ours."""

    def assign(self, partitions: set[int]) -> None:
        """Just these are ours now."""
        ...

    def drop(self, partition: int) -> None:
        """This one is not ours any more."""
        ...


class GroupMember:
    """A Faust app that feeds an intake. Belongs to the event loop it was made on."""

    def __init__(
        self,
        group: str,
        topic: str,
        kafka: KafkaSettings,
        intake: Intake,
        assignees: Iterable[Assignee],
        *,
        worker_id: str,
        session_seconds: float,
        data_folder: Path,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self._topic = topic
        self._intake = intake
        self._assignees = list(assignees)
        self._committed: dict[int, int] = {}
        self._background: list[asyncio.Task[None]] = []
        self._app = make_app(
            group,
            kafka,
            worker_id=worker_id,
            session_seconds=session_seconds,
            data_folder=data_folder,
            gather_seconds=gather_seconds,
        )
        add_agent(self._app, topic, intake.take)
        self._app.on_partitions_revoked.connect(self._revoked)  # type: ignore[arg-type]
        self._app.on_partitions_assigned.connect(self._assigned)  # type: ignore[arg-type]

    async def start(self) -> None:
        """Join the group."""
        for work in (self._intake.run(), self._commit_regularly()):
            self._background.append(asyncio.create_task(work))
        await self._app.start()

    async def run(self) -> None:
        """Wait for the end: returns when Faust has crashed, raises when a task of ours has."""
        crashed = asyncio.create_task(self._app.wait_until_stopped())
        try:
            await asyncio.wait([crashed, *self._background], return_when=asyncio.FIRST_COMPLETED)
            for task in self._background:
                if task.done():
                    task.result()
        finally:
            crashed.cancel()

    async def stop(self) -> None:
        """Finish what is under way, commit it, leave the group."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_SECONDS
        with contextlib.suppress(Exception):  # an app that never started has no consumer
            self._app.consumer.stop_flow()
        while self._intake.in_flight and loop.time() < deadline:
            await asyncio.sleep(0.05)
        with contextlib.suppress(Exception):  # a broker that is gone keeps nobody from ending
            await asyncio.wait_for(self._commit(), 3)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._app.stop(), 10)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    async def seek(self, partition: int, offset: int) -> None:
        """Read a partition from an offset on, again."""
        await self._app.consumer.seek(TP(self._topic, partition), offset)

    async def _revoked(self, app: faust.App, revoked: set[TP], **_: object) -> None:
        """Kafka takes partitions away: save what is finished, then write nothing more for them."""
        del app
        with contextlib.suppress(Exception):  # not saved means read again
            await asyncio.wait_for(self._commit(), 2)
        partitions = {place.partition for place in revoked}
        self._intake.drop(partitions)
        for partition in partitions:
            self._committed.pop(partition, None)
            for assignee in self._assignees:
                assignee.drop(partition)

    async def _assigned(self, app: faust.App, assigned: set[TP], **_: object) -> None:
        del app
        partitions = {place.partition for place in assigned}
        LOGGER.info("%s: assigned partitions %s", self._topic, sorted(partitions))
        for assignee in self._assignees:
            assignee.assign(partitions)

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._commit()

    async def _commit(self) -> None:
        offsets = {
            partition: offset
            for partition, offset in self._intake.committable().items()
            if self._committed.get(partition) != offset
        }
        if offsets:
            await commit(self._app, self._topic, offsets)
            self._committed.update(offsets)
