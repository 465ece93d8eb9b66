"""The door of a gateway: requests go to the application of the log generation that is in use.

    request --door--> application (generation 1)          step on the topic `replicas`:
               |                                           building: read the new index ahead
               '-- a write, while the log is closing:      closing: hold writes
                   wait for the next application,          open: make the next application, go over,
                   503 after HOLD_SECONDS                        let the old one finish, close it

Killed anywhere: the next start finds which generation is open and begins there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from aiohttp import web

from tidestore.api.index import IndexFold
from tidestore.api.problems import Problem
from tidestore.api.settings import GatewaySettings
from tidestore.connectors.directory import Directory, served
from tidestore.connectors.errors import StoreError
from tidestore.connectors.generations import folder_of
from tidestore.connectors.kafka import LogError
from tidestore.connectors.view import View
from tidestore.schemas.generations import (
    GenerationChanged,
    GenerationState,
    step_ahead,
    topics_now,
)
from tidestore.schemas.objects import MalformedError
from tidestore.schemas.topics import Topics

LOGGER: Final = logging.getLogger("tidestore.front")

# How long a write waits at the door: `tidestore migrate` needs some seconds between closing and
# opening, and clients and proxies allow 30 s at least.
HOLD_SECONDS: Final = 10.0
# When a held write was given up, a move that goes well is over a moment later.
RETRY_AFTER_SECONDS: Final = 5
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PAUSE_SECONDS: Final = 1.0

DIRECTORY: Final = web.AppKey("directory", Directory)

MakeApplication = Callable[[GatewaySettings, contextlib.AsyncExitStack], Awaitable[web.Application]]


@dataclass(slots=True)
class Place:
    """One application, what it has opened, and how many requests are in it."""

    topics: Topics
    app: web.Application
    stack: contextlib.AsyncExitStack
    requests: int = 0
    is_empty: asyncio.Event = field(default_factory=asyncio.Event)


class Front:
    """Belongs to the event loop."""

    def __init__(
        self, settings: GatewaySettings, make: MakeApplication, *, finish_seconds: float
    ) -> None:
        self._settings = settings
        self._make = make
        self._finish_seconds = finish_seconds
        self._place: Place | None = None
        self._is_closing = False
        self._went_over = asyncio.Event()
        self._news = asyncio.Event()
        self._ahead: View | None = None

    async def start(self, topics: Topics) -> None:
        """Open the application of a generation. Raises what making it raises."""
        self._place = await self._open(topics)
        self._look(self._place)

    async def stop(self) -> None:
        """Close everything."""
        if self._ahead is not None:
            await self._ahead.stop()
        if self._place is not None:
            await self._place.stack.aclose()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Give a request to the application in use; a write waits while there is none for it."""
        if self._is_closing and request.method not in _READS:
            refused = await self._hold()
            if refused is not None:
                return refused
        place = self._place
        assert place is not None, "start() comes first"  # noqa: S101
        place.requests += 1
        place.is_empty.clear()
        try:
            # Not public in aiohttp 3.14; should it go, no request is answered at all.
            return await place.app._handle(request)
        finally:
            place.requests -= 1
            if not place.requests:
                place.is_empty.set()

    async def run(self) -> None:
        """Follow the steps of a move, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._step()
            except (LogError, StoreError, MalformedError) as error:
                LOGGER.warning("cannot go over to the new log generation yet: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                self._news.set()

    async def _hold(self) -> web.StreamResponse | None:
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                await self._went_over.wait()
        except TimeoutError:
            return Problem(
                503,
                "moving",
                "the log is moving to more partitions and takes no writes just now",
                hint=f"send it again after {RETRY_AFTER_SECONDS} s; when this lasts for minutes,"
                " `tidestore migrate` was interrupted and has to be given again",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            ).response()
        return None

    async def _open(self, topics: Topics) -> Place:
        stack = contextlib.AsyncExitStack()
        try:
            app = await self._make(self._settings_of(topics), stack)
        except BaseException:
            await stack.aclose()
            raise
        app.freeze()
        return Place(topics, app, stack)

    def _settings_of(self, topics: Topics) -> GatewaySettings:
        settings = self._settings
        folder = folder_of(settings.data_folder, topics)
        return replace(settings, topics=topics, data_folder=folder)

    def _look(self, place: Place) -> None:
        """Hear of every change of the topic `replicas`, and look at it once now."""
        place.app[DIRECTORY].listen(self._heard)
        self._heard()

    def _heard(self) -> None:
        """On the loop. Holding begins at once, whatever else is under way."""
        place = self._place
        if place is not None and (step := self._next_step(place)) is not None:
            if step.state == GenerationState.CLOSING or step.is_open:
                self._is_closing = True
            self._news.set()

    def _next_step(self, place: Place) -> GenerationChanged | None:
        return step_ahead(place.topics, place.app[DIRECTORY].generations())

    async def _step(self) -> None:
        place = self._place
        step = self._next_step(place) if place is not None else None
        if place is None or step is None:
            return
        topics = replace(place.topics, generation=step.generation, partitions=step.partitions)
        if step.is_open:
            await self._go_over(place, topics_now(place.topics, [step]))
        elif self._ahead is None:
            await self._read_ahead(place, topics)

    async def _read_ahead(self, place: Place, topics: Topics) -> None:
        """Fold the index of the next generation where its application will look for it."""
        settings = self._settings_of(topics)
        known = place.app[DIRECTORY].known()
        lives = served(settings.replicas, known, settings.keyring).values()
        copies = {topics.copies(life.name, life.incarnation): str(life.name) for life in lives}
        about = [topics.redactions, topics.replicas, topics.objectives]
        fold = IndexFold(copies, lambda _: None, topics=topics)
        path = settings.data_folder / "index.sqlite"
        view = View(path, fold, settings.kafka, [*about, topics.log, *copies])
        await view.start()
        self._ahead = view
        LOGGER.warning("log generation %d is being filled; reading it ahead", topics.generation)

    async def _go_over(self, place: Place, topics: Topics) -> None:
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            await ahead.stop()
        self._place = await self._open(topics)
        LOGGER.warning("went over to log generation %d", topics.generation)
        self._is_closing = False
        self._went_over.set()
        self._went_over = asyncio.Event()
        self._look(self._place)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._finish_seconds):
                while place.requests:
                    await place.is_empty.wait()
        await place.stack.aclose()
