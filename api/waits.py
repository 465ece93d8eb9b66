"""Answering a write: its position, and on request only when enough replicas have it.

`?replicas=n`, `?replica=name` or `Prefer: wait=seconds` asks for the second. A name chooses where
to wait, never where to write (design point 2). The object is durable and in the log
before this begins, so running out of time is no failure: the answer is then 202, with what is
there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tidestore.api.context import (
    POSITION_HEADER,
    gateway_of,
    number_parameter,
    single_parameter,
)
from tidestore.api.origin import Outcome
from tidestore.connectors.kafka import LogUnavailableError
from tidestore.schemas.objects import ObjectKey

_DEFAULT_SECONDS: Final = 30.0
_WAIT = re.compile(r"(?:^|[,;]\s*)wait(?:\s*=\s*\"?(\d{1,6})\"?)?\s*(?:$|[,;])")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a writer wants to wait for."""

    replicas: int
    seconds: float
    replica: str | None = None
    # No number was named: wherever it is to be.
    is_everywhere: bool = False

    def is_met(self, present: set[str], excluded: Collection[str] = ()) -> bool:
        """Whether the replicas that have it are enough. `excluded`: those that never will."""
        if self.replica is not None:
            return self.replica in present
        without = len(excluded) if self.is_everywhere else 0
        return len(present) >= self.replicas - without

    def is_in_vain(self, count: int, excluded: Collection[str]) -> bool:
        """Whether waiting cannot help: of `count` replicas too many are not to have it."""
        if self.replica is not None:
            return self.replica in excluded
        return not self.is_everywhere and self.replicas > count - len(excluded)


def asked_of(request: web.Request) -> Asked | None:
    """What the request asks to wait for; raises MalformedError."""
    gateway = gateway_of(request)
    count = len(gateway.stores)
    preference = _WAIT.search(request.headers.get("Prefer", ""))
    replica = single_parameter(request, "replica")
    if replica is not None:
        gateway.check_replica(replica)
    if preference is None and replica is None and "replicas" not in request.query:
        return None
    seconds = _DEFAULT_SECONDS
    if preference is not None and preference[1]:
        seconds = float(preference[1])
    replicas = number_parameter(request, "replicas", count, 1, count)
    is_everywhere = "replicas" not in request.query
    seconds = min(seconds, gateway.settings.limits.wait_seconds_max)
    return Asked(replicas, seconds, replica, is_everywhere)


async def answer_write(
    request: web.Request,
    key: ObjectKey,
    outcome: Outcome,
    document: dict[str, Any],
    asked: Asked | None,
) -> web.StreamResponse:
    """The answer to a write that is done: 201 or 200, or 202 when a wait was not fulfilled.

    `asked` was read before the write: a request that is refused must not have written anything.
    """
    status = 201 if outcome.is_new else 200
    headers = {POSITION_HEADER: str(outcome.position)}
    document["position"] = str(outcome.position)
    if asked is not None:
        present, excluded = await _wait(request, key, outcome, asked)
        document["present_on"] = sorted(present)
        if excluded:
            document["excluded_on"] = sorted(excluded)
        headers["Preference-Applied"] = "wait"
        if not asked.is_met(present, excluded):
            status = 202
            document["waiting_for"] = asked.replica or asked.replicas
    return web.json_response(document, status=status, headers=headers)


async def _wait(
    request: web.Request, key: ObjectKey, outcome: Outcome, asked: Asked
) -> tuple[set[str], set[str]]:
    """Where it is by then, and where it is not to be."""
    gateway = gateway_of(request)
    news = gateway.watchers.subscribe(key)
    present: set[str] = set()
    excluded: set[str] = set()
    try:
        async with asyncio.timeout(asked.seconds):
            await gateway.index.reach(outcome.position)
            while True:
                news.clear()
                row = gateway.index.find(key)
                if row is not None:
                    copies = gateway.index.copies(key)
                    present = gateway.index.present_on(row, copies)
                    excluded = gateway.excluded_on(key, copies) - present
                if asked.is_met(present, excluded) or asked.is_in_vain(
                    len(gateway.stores), excluded
                ):
                    return present, excluded
                await news.wait()
    except (TimeoutError, LogUnavailableError):
        return present, excluded
    finally:
        gateway.watchers.unsubscribe(key, news)
