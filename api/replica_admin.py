"""/v1/replicas: which there are, how far they are, and changing that (docs/replicas.md)."""

from __future__ import annotations

import time
from typing import Any, Final

from aiohttp import web

from tidestore.api.auth import OPERATE
from tidestore.api.bodies import read_json
from tidestore.api.context import Gateway, gateway_of, single_parameter
from tidestore.api.lags import lags_document
from tidestore.api.problems import Problem
from tidestore.api.progress import ProgressMeter
from tidestore.api.replica_book import REPLICA_BOOK, NewReplica
from tidestore.api.scrubs import SCRUBS, scrub_document
from tidestore.api.status import LAGS
from tidestore.connectors.store import Capabilities
from tidestore.schemas.events import ReplicaRetired
from tidestore.schemas.filters import FILTER_CHARS_MAX, ReplicaFilter
from tidestore.schemas.objects import PUBLIC, MalformedError, check_replica

PROGRESS: Final = web.AppKey("progress", ProgressMeter)

URL_CHARS_MAX: Final = 2_048
CREDENTIAL_CHARS_MAX: Final = 63
REASON_CHARS_MAX: Final = 500
_NEW: Final = {"name", "url", "credential", "adopt", "filter"}
_CHANGE: Final = {"paused", "reason"}
_LOST: Final = {"incarnation", "reason"}
# Large copies that are listed for a replica: its workers have two each under way; others of them
# broke off and wait for their next try.
_UNDER_WAY_MAX: Final = 20
_NO_STORE: Final = {"Cache-Control": "no-store"}


async def get_replicas(request: web.Request) -> web.StreamResponse:
    """Every replica: where it is, what it can do, how far it is behind; and those that were."""
    gateway = gateway_of(request)
    known = request.app[REPLICA_BOOK].known()
    retired = [
        {
            "name": record.name,
            "incarnation": record.incarnation,
            "reason": record.reason,
            "retired_at_ms": record.retired_at_ms,
        }
        for name, about in sorted(known.items())
        if isinstance(record := about.record, ReplicaRetired) and name not in gateway.stores
    ]
    document = {
        "replicas": [_document(request, name) for name in gateway.replica_names],
        "objects": gateway.index.written_count(),
        "retired": retired,
    }
    return web.json_response(document, headers=_NO_STORE)


async def get_replica(request: web.Request) -> web.StreamResponse:
    """One replica."""
    name = _name(request)
    return web.json_response(_document(request, name), headers=_NO_STORE)


async def add_replica(request: web.Request) -> web.StreamResponse:
    """Examine a place and make it a replica: its backfill begins at once."""
    who = _operator(request)
    body = await read_json(request)
    _check_members(body, _NEW)
    name = check_replica(_text(body, "name", CREDENTIAL_CHARS_MAX, required=True))
    new = NewReplica(
        name,
        _text(body, "url", URL_CHARS_MAX, required=True),
        _text(body, "credential", CREDENTIAL_CHARS_MAX),
        _flag(body, "adopt", default=False),
        ReplicaFilter.parse(_text(body, "filter", FILTER_CHARS_MAX)),
    )
    event = await request.app[REPLICA_BOOK].add(new, who)
    document = {
        "name": event.name,
        "incarnation": event.incarnation,
        "url": event.url,
        "filter": event.filter,
        "registered_at_ms": event.registered_at_ms,
    }
    headers = {**_NO_STORE, "Location": f"/v1/replicas/{event.name}"}
    return web.json_response(document, status=201, headers=headers)


async def change_replica(request: web.Request) -> web.StreamResponse:
    """Pause a replica, or let it go on."""
    who = _operator(request)
    name = request.match_info["name"]
    body = await read_json(request)
    _check_members(body, _CHANGE)
    if "paused" not in body:
        raise MalformedError("paused", "is missing", hint="true or false")
    is_paused = _flag(body, "paused", default=False)
    reason = _text(body, "reason", REASON_CHARS_MAX)
    await request.app[REPLICA_BOOK].pause(name, who, reason, is_paused=is_paused)
    return web.json_response({"name": name, "is_paused": is_paused}, headers=_NO_STORE)


async def lose_replica(request: web.Request) -> web.StreamResponse:
    """Declare a replica's content gone: it begins again and is filled from the others."""
    who = _operator(request)
    name = request.match_info["name"]
    body = await read_json(request)
    _check_members(body, _LOST)
    life = body.get("incarnation")
    if not isinstance(life, int) or isinstance(life, bool) or life < 1:
        raise MalformedError("incarnation", "is not that of the life that is lost")
    reason = _text(body, "reason", REASON_CHARS_MAX)
    event = await request.app[REPLICA_BOOK].lost(name, life, who, reason)
    document = {"name": name, "incarnation": event.incarnation}
    return web.json_response(document, headers=_NO_STORE)


async def retire_replica(request: web.Request) -> web.StreamResponse:
    """Stop serving a replica. Its objects stay where they are."""
    who = _operator(request)
    reason = _text(
        {"reason": single_parameter(request, "reason") or ""}, "reason", REASON_CHARS_MAX
    )
    await request.app[REPLICA_BOOK].retire(request.match_info["name"], who, reason)
    return web.Response(status=204, headers=_NO_STORE)


def _document(request: web.Request, name: str) -> dict[str, object]:
    gateway = gateway_of(request)
    life, scrubs = gateway.lives[name], request.app[SCRUBS]
    topic = gateway.settings.topics.copies(life.name, life.incarnation)
    lag = gateway.index.lag(name)
    now_ms = int(time.time() * 1000)
    oldest = lag.oldest_written_at_ms
    return {
        "name": name,
        "incarnation": life.incarnation,
        "url": life.url,
        "is_origin": name == gateway.settings.origin,
        "is_paused": life.is_paused,
        "filter": str(life.filter),
        "registered_at_ms": life.registered_at_ms,
        "gaps": gateway.stores[name].capabilities.gaps(Capabilities()),
        "present": lag.present,
        "excluded": lag.excluded,
        "lag": {
            "objects": lag.pending,
            "bytes": lag.pending_bytes,
            "seconds": 0.0 if oldest is None else max(0.0, (now_ms - oldest) / 1000),
            "oldest_key": lag.oldest_key,
        },
        "waiting": lag.waiting,
        "parked": lag.parked,
        "progress": request.app[PROGRESS].document(name, topic, life.registered_at_ms),
        **lags_document(request.app[LAGS], gateway.settings.limits, name),
        **scrub_document(
            scrubs.report(name, life.incarnation), scrubs.readback(name, life.incarnation)
        ),
        "under_way": [
            {
                "key": copy.key,
                "size": copy.size,
                "bytes_done": copy.bytes_done,
                "changed_at_ms": copy.changed_at_ms,
            }
            for copy in gateway.index.under_way(name, _UNDER_WAY_MAX)
        ],
    }


def _name(request: web.Request) -> str:
    gateway: Gateway = gateway_of(request)
    name = request.match_info["name"]
    if name not in gateway.stores:
        hint = "one of " + ", ".join(gateway.replica_names)
        raise Problem(404, "unknown_replica", "no replica of this name is served", hint=hint)
    return name


def _operator(request: web.Request) -> str:
    return gateway_of(request).auth.require(request, OPERATE, PUBLIC).name


def _check_members(body: dict[str, Any], known: set[str]) -> None:
    unknown = body.keys() - known
    if unknown:
        hint = "known are " + ", ".join(sorted(known))
        raise MalformedError("body", f"has the unknown member {min(unknown)[:50]!r}", hint=hint)


def _text(body: dict[str, Any], name: str, chars_max: int, *, required: bool = False) -> str:
    value = body.get(name, None if required else "")
    if not isinstance(value, str) or len(value) > chars_max or (required and not value):
        raise MalformedError(name, f"must be a text of at most {chars_max} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MalformedError(name, "holds half a character") from None
    return value


def _flag(body: dict[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise MalformedError(name, "must be true or false")
    return value
