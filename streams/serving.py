"""One process that serves a replica, whatever becomes of it: paused, resumed, retired, added again.

    start --> read the topic `replicas` --> wanted?  --yes--> ReplicateWorker of this life
                       ^                       | no                 |
                       |                       v                    |
                       '---- a change ---- stand still              |
                       '---- a change that concerns it: stop it <---'

What changes about other replicas is told to the running worker: it may read from them. Killed
anywhere: the next start reads the topic, and the group of the life goes on at its last commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from tidestore.connectors.directory import Directory, Served, served
from tidestore.connectors.generations import refuse_moved
from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import provision
from tidestore.schemas.objects import MalformedError
from tidestore.streams.metrics import WorkerMetrics
from tidestore.streams.replicate import ReplicateWorker
from tidestore.streams.settings import ServingSettings, WorkerSettings

LOGGER: Final = logging.getLogger("tidestore.serving")


class ServingWorker:
    """Runs until stopped, or until its worker breaks; then the process must be started again."""

    def __init__(self, settings: ServingSettings, metrics: WorkerMetrics | None = None) -> None:
        self._settings = settings
        self._metrics = metrics or WorkerMetrics()
        self._stack = contextlib.AsyncExitStack()
        self._news = asyncio.Event()
        self._worker: ReplicateWorker | None = None
        self._life: Served | None = None

    async def start(self) -> None:
        """Read which replicas there are, and begin to serve ours. Raises StoreError, LogError.

        Raises MalformedError when nobody has ever heard of it.
        """
        settings = self._settings
        topics = settings.topics
        specs = [spec for spec in topics.specs([], []) if spec.name == topics.replicas]
        await provision(settings.kafka, specs, replication=topics.replication)
        writer = LogWriter(settings.kafka)
        await writer.start()
        self._stack.push_async_callback(writer.stop)
        self._directory = Directory(
            settings.kafka, topics.replicas, settings.data_folder / "replicas.sqlite"
        )
        self._stack.push_async_callback(self._directory.stop)
        await self._directory.start(writer)
        self._directory.listen(self._news.set)
        known = {*self._directory.known(), *(str(item.name) for item in settings.replicas)}
        if settings.name not in known:
            raise MalformedError(
                "replica",
                f"there is no replica {settings.name!r}",
                hint="one of " + ", ".join(sorted(known)),
            )
        await self._apply()

    async def run(self) -> None:
        """Follow what becomes of the replica. Returns when its worker has ended by itself."""
        while True:
            news = asyncio.create_task(self._news.wait())
            waited: set[asyncio.Task[object]] = {news}
            if self._worker is not None:
                waited.add(asyncio.create_task(self._worker.run()))
            try:
                done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waited:
                    task.cancel()
            for task in done - {news}:
                task.result()
                return
            self._news.clear()
            await self._apply()

    async def stop(self) -> None:
        """Finish what is under way and close everything."""
        if self._worker is not None:
            await self._worker.stop()
        await self._stack.aclose()

    async def _apply(self) -> None:
        """Make what runs here equal to what the topic says.

        Raises GenerationMovedError: then all of this is to be made anew.
        """
        settings = self._settings
        refuse_moved(settings.topics, self._directory.generations())
        all_ = served(settings.replicas, self._directory.known(), settings.keyring)
        life = all_.get(settings.name)
        if life is not None and life.is_paused:
            life = None
        if self._worker is not None and (life is None or not is_same(life, self._life)):
            LOGGER.warning("%s: stops serving incarnation %d", settings.name, self._incarnation)
            worker, self._worker = self._worker, None
            await worker.stop()
        if life is None:
            LOGGER.warning("%s: is paused or retired; standing still", settings.name)
        elif self._worker is None:
            self._life = life
            # What stop() finds is what it closes, also after a start that failed half way.
            self._worker = ReplicateWorker(self._worker_settings(life, all_), self._metrics)
            await self._worker.start()
        else:
            await self._worker.use_sources(list(all_.values()))

    @property
    def _incarnation(self) -> int:
        return self._life.incarnation if self._life is not None else 0

    def _worker_settings(self, life: Served, all_: dict[str, Served]) -> WorkerSettings:
        settings = self._settings
        origin = self._directory.origin()
        is_origin = life.name == (origin[0] if origin else settings.origin)
        return settings.make_worker(life, tuple(all_.values()), is_origin)


def is_same(one: Served, other: Served | None) -> bool:
    """Whether a worker of one may go on as the worker of the other: same life, same place."""
    return other is not None and (one.incarnation, one.address.place, one.filter) == (
        other.incarnation,
        other.address.place,
        other.filter,
    )
