"""`tidestore worker --all`: a child process for each replica of the topic, ended with it.

    replicas --Directory--> wanted names --> start | end a child `tidestore worker NAME`
    a child died ----------> started again, after 1 s, then 2, 4, ... 30

A child of a paused replica stands still by itself. Killed: the kernel asks the children to end
(Linux); the next one starts them again, and each goes on where its group is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Final

from tidestore.config import Config
from tidestore.connectors.directory import Directory, served
from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import provision
from tidestore.local.processes import end_with_parent

LOGGER: Final = logging.getLogger("tidestore.workers")

_PAUSE_SECONDS_FIRST: Final = 1.0
_PAUSE_SECONDS_MAX: Final = 30.0
# A child that lived this long was well: the next death is a new story.
_WELL_SECONDS: Final = 60.0
# Longer than a worker's own drain and its leaving of the group.
_END_SECONDS: Final = 25.0


class Workers:
    """Children by replica. Belongs to the event loop that runs it."""

    def __init__(self, config: Config, words: list[str], environ: dict[str, str]) -> None:
        self._config = config
        # What each child is told behind its replica's name.
        self._words = words
        self._environ = environ
        self._children: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Read which replicas there are, and start their workers. Raises LogError."""
        config, topics = self._config, self._config.topics
        specs = [spec for spec in topics.specs([], []) if spec.name == topics.replicas]
        await provision(config.kafka, specs, replication=topics.replication)
        writer = LogWriter(config.kafka)
        await writer.start()
        self._stack.push_async_callback(writer.stop)
        path = config.data_folder / f"workers-{self._words[1]}" / "replicas.sqlite"
        self._directory = Directory(config.kafka, topics.replicas, path)
        self._stack.push_async_callback(self._directory.stop)
        await self._directory.start(writer)
        self._directory.listen(self._news.set)
        self._news.set()

    async def run(self) -> None:
        """Follow the topic, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._apply()

    async def stop(self) -> None:
        """End all children, and close."""
        await self._end(list(self._children))
        await self._stack.aclose()

    async def _apply(self) -> None:
        wanted = served(self._config.served, self._directory.known(), self._config.keyring).keys()
        await self._end([name for name in self._children if name not in wanted])
        for name in wanted - self._children.keys():
            LOGGER.warning("%s: starting its worker", name)
            self._children[name] = asyncio.create_task(self._keep(name))

    async def _end(self, names: list[str]) -> None:
        tasks = [self._children.pop(name) for name in names]
        for name, task in zip(names, tasks, strict=True):
            LOGGER.warning("%s: ending its worker", name)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, name: str) -> None:
        """Keep one child running, until cancelled."""
        loop, pause = asyncio.get_running_loop(), _PAUSE_SECONDS_FIRST
        while True:
            begun = loop.time()
            code = await self._run_child(name)
            if loop.time() - begun > _WELL_SECONDS:
                pause = _PAUSE_SECONDS_FIRST
            LOGGER.error("%s: its worker ended (exit code %d); again in %g s", name, code, pause)
            await asyncio.sleep(pause)
            pause = min(_PAUSE_SECONDS_MAX, 2 * pause)

    async def _run_child(self, name: str) -> int:
        words = ["worker", name, *self._words]
        ends: Callable[[], None] | None = end_with_parent if sys.platform == "linux" else None
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tidestore", *words),
            stdin=asyncio.subprocess.DEVNULL,
            env=self._environ,
            start_new_session=True,
            preexec_fn=ends,
        )
        try:
            return await child.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_SECONDS):
                    await child.wait()
            if child.returncode is None:
                child.kill()
                await child.wait()
            raise
