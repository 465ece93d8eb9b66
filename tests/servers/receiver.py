"""A webhook receiver for tests: remembers what came, answers as the test says, checks nothing."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Heard:
    """One request."""

    moment: float
    headers: dict[str, str]
    body: bytes
    document: dict[str, Any]

    @property
    def id(self) -> str:
        """The delivery's id."""
        return self.headers["webhook-id"]

    @property
    def attempt(self) -> int:
        """Which attempt this was."""
        return int(self.headers["x-tidestore-attempt"])

    @property
    def key(self) -> str:
        """The object's key; "" of a ping."""
        return str(self.document["data"].get("key", ""))

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.document["type"])


Answer = Callable[[Heard], Awaitable[web.StreamResponse]]


async def taken(heard: Heard) -> web.StreamResponse:
    """204, as a receiver does that has it."""
    del heard
    return web.Response(status=204)


@dataclass(slots=True)
class Receiver:
    """An HTTP server on loopback. An asynchronous context manager."""

    answer: Answer = taken
    port: int = 0
    host: str = "127.0.0.1"
    heard: list[Heard] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=4 * 1024 * 1024)
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *details: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where to POST."""
        return f"http://{self.host}:{self.port}/hook"

    def events(self, key: str = "") -> list[Heard]:
        """What came but for pings, of one key or of all."""
        return [one for one in self.heard if one.type != "ping" and key in ("", one.key)]

    async def _take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        heard = Heard(time.monotonic(), headers, body, json.loads(body))
        self.heard.append(heard)
        return await self.answer(heard)


async def hang(heard: Heard) -> web.StreamResponse:
    """Never answer."""
    del heard
    await asyncio.sleep(3600)
    raise AssertionError("nobody waits this long")


def hook(url: str, *events: str, secret: str | None = None, **more: Any) -> dict[str, Any]:
    """The body that registers a hook."""
    config = {"url": url, "content_type": "json", **({"secret": secret} if secret else {})}
    return {"name": "web", "active": True, "events": list(events or "*"), "config": config, **more}
