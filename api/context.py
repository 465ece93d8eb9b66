"""What every handler of one gateway shares, and what they read from a request alike."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from tidestore.api.auth import WRITE, Authenticator
from tidestore.api.lookup import CopyRow, Index, Watchers
from tidestore.api.origin import Author, OriginWriter
from tidestore.api.problems import Handler, Problem
from tidestore.api.settings import GatewaySettings
from tidestore.connectors.budget import ByteBudget
from tidestore.connectors.correlation import correlated, parent_in
from tidestore.connectors.directory import Served
from tidestore.connectors.log import LogWriter
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.traces import ROOT, annotate, is_tracing, span
from tidestore.schemas.events import CopyState
from tidestore.schemas.objects import PUBLIC, DatasetName, MalformedError, check_dataset
from tidestore.schemas.positions import Position

POSITION_HEADER: Final = "Tidestore-Position"
REQUEST_ID_HEADER: Final = "X-Request-Id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of a running gateway."""

    settings: GatewaySettings
    auth: Authenticator
    index: Index
    watchers: Watchers
    writer: LogWriter
    origin: OriginWriter
    # The replicas that are served now, in the order of preference for reading (fleet.py).
    stores: dict[str, ObjectStore]
    bodies: ByteBudget
    lives: dict[str, Served] = field(default_factory=dict)

    @property
    def replica_names(self) -> list[str]:
        """The replicas that are served now, in the order of preference for reading."""
        return list(self.stores)

    def check_replica(self, name: str) -> str:
        """A replica that a request names; raises Problem 400."""
        if name not in self.stores:
            hint = "one of " + ", ".join(self.replica_names)
            raise Problem(400, "unknown_replica", "there is no such replica", hint=hint)
        return name

    def excluded_on(self, key: str, copies: Mapping[str, CopyRow]) -> set[str]:
        """The replicas that are not to have an object, by their word or, before it, their filter.

        One that is left out today comes along with what refers to it tomorrow.
        """
        return {
            name
            for name, life in self.lives.items()
            if ((copy := copies.get(name)) is None and not life.filter.is_root(key))
            or (copy is not None and copy.state is CopyState.EXCLUDED)
        }


GATEWAY: Final = web.AppKey("gateway", Gateway)


def gateway_of(request: web.Request) -> Gateway:
    """The gateway that a request came to."""
    return request.app[GATEWAY]


def dataset_of(request: web.Request) -> DatasetName:
    """`?dataset=`, by default the public one; raises MalformedError, Problem 404."""
    text = single_parameter(request, "dataset")
    dataset = PUBLIC if text is None else check_dataset(text)
    if dataset not in gateway_of(request).settings.datasets:
        known = ", ".join(gateway_of(request).settings.datasets)
        hint = f"this store has {known}"
        raise Problem(404, "unknown_dataset", "there is no such dataset", hint=hint)
    return dataset


def author_of(request: web.Request, dataset: DatasetName) -> Author:
    """Whoever may write into a dataset; raises Problem 401 or 403."""
    principal = gateway_of(request).auth.require(request, WRITE, dataset)
    return Author(principal.name, str(request.get("request_id", "")))


def single_parameter(request: web.Request, name: str) -> str | None:
    """A query parameter that may be given once; raises MalformedError when it comes twice."""
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise MalformedError(name, "is given more than once")
    return values[0] if values else None


def number_parameter(request: web.Request, name: str, default: int, low: int, high: int) -> int:
    """A query parameter that is a whole number within bounds; raises MalformedError."""
    text = single_parameter(request, name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
        raise MalformedError(name, "is not a number in its range", hint=f"{low} to {high}")
    return int(text)


def flag_parameter(request: web.Request, name: str) -> bool:
    """A query parameter that is true or false; raises MalformedError."""
    text = single_parameter(request, name)
    if text not in (None, "true", "false", "1", "0"):
        raise MalformedError(name, "is neither true nor false")
    return text in ("true", "1")


async def wait_for_position(request: web.Request) -> None:
    """`?at=` on a read: wait until this gateway knows that position (read your writes)."""
    text = single_parameter(request, "at")
    if text is not None:
        await gateway_of(request).index.reach(Position.parse(text))


@web.middleware
async def request_id_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every request an id that follows it into the log: the client's own, if it is plain."""
    request_id = _request_id_of(request)
    request["request_id"] = request_id
    with correlated(request_id):
        response = await _traced(request, handler)
    if not response.prepared:
        response.headers[REQUEST_ID_HEADER] = request_id
    return response


def _request_id_of(request: web.Request) -> str:
    """The client's own id, else that of the trace it is in, else a new one: a trace id, too."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    if _REQUEST_ID.fullmatch(given):
        return given
    parent = parent_in(request.headers.get("traceparent", ""))
    return parent[0] if parent else secrets.token_hex(16)


async def _traced(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A write is the first span of its trace; what is only read is not worth one."""
    if not is_tracing() or request.method not in ("PUT", "POST", "DELETE"):
        return await handler(request)
    parent = parent_in(request.headers.get("traceparent", ""))
    if parent and parent[0] != request["request_id"]:
        parent = None  # the client gave an id of its own, which is another trace
    with span(ROOT, parent=parent, method=request.method):
        response = await handler(request)
        annotate(status=response.status)
        return response
