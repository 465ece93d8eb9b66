"""How it goes: replicas and their lag, health, readiness, metrics, tasks."""

from __future__ import annotations

import json
import time
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tidestore import __version__
from tidestore.api.auth import READ
from tidestore.api.context import Gateway, gateway_of
from tidestore.api.lags import Lags, lags_document, lateness
from tidestore.api.metrics import GatewayMetrics
from tidestore.api.problems import Problem
from tidestore.api.scrubs import SCRUBS, ScrubBook, scrub_document
from tidestore.api.staging import TASK_BOARD, task_document
from tidestore.connectors.store import Capabilities
from tidestore.connectors.view import View
from tidestore.schemas.objects import check_dataset

INDEX_VIEW: Final = web.AppKey("index_view", View)
REGISTRY: Final = web.AppKey("registry", CollectorRegistry)
METRICS: Final = web.AppKey("metrics", GatewayMetrics)
LAGS: Final = web.AppKey("lags", Lags)
_TASK_ID_CHARS: Final = 32
# Large copies that are listed for a replica: its workers have two each under way; others of them
# broke off and wait for their next try.
_UNDER_WAY_MAX: Final = 20


async def get_replicas(request: web.Request) -> web.StreamResponse:
    """Every replica: where it is, what it can do, how far it is behind."""
    gateway = gateway_of(request)
    book = request.app[SCRUBS]
    lags = request.app[LAGS]
    documents = [
        {**_replica(gateway, book, name), **lags_document(lags, gateway.settings.limits, name)}
        for name in gateway.replica_names
    ]
    return web.json_response(
        {"replicas": documents, "objects": gateway.index.written_count()},
        headers={"Cache-Control": "no-store"},
    )


def _replica(gateway: Gateway, book: ScrubBook, name: str) -> dict[str, object]:
    entry = next(item for item in gateway.settings.replicas if item.name == name)
    lag = gateway.index.lag(name)
    now_ms = int(time.time() * 1000)
    oldest = lag.oldest_written_at_ms
    return {
        "name": name,
        "incarnation": entry.incarnation,
        "url": entry.url.split("?", 1)[0],
        "is_origin": name == gateway.settings.origin,
        "gaps": gateway.stores[name].capabilities.gaps(Capabilities()),
        "present": lag.present,
        "lag": {
            "objects": lag.pending,
            "bytes": lag.pending_bytes,
            "seconds": 0.0 if oldest is None else max(0.0, (now_ms - oldest) / 1000),
            "oldest_key": lag.oldest_key,
        },
        "waiting": lag.waiting,
        "parked": lag.parked,
        **scrub_document(
            book.report(name, entry.incarnation), book.readback(name, entry.incarnation)
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


async def get_task(request: web.Request) -> web.StreamResponse:
    """A task, as any gateway knows it."""
    task_id = request.match_info["task_id"]
    if len(task_id) != _TASK_ID_CHARS or not task_id.isascii() or not task_id.isalnum():
        raise Problem(404, "not_found", "there is no such task")
    task = await request.app[TASK_BOARD].find(task_id)
    if task is None:
        raise Problem(404, "not_found", "there is no such task")
    dataset = check_dataset(json.loads(task.request)["dataset"])
    gateway_of(request).auth.require(request, READ, dataset)
    headers = {"Cache-Control": "no-store"}
    if not task.state.is_final:
        headers["Retry-After"] = "1"
    return web.json_response(task_document(task), headers=headers)


async def healthz(request: web.Request) -> web.StreamResponse:
    """Whether this process serves at all."""
    del request
    return web.json_response({"status": "ok", "version": __version__})


async def readyz(request: web.Request) -> web.StreamResponse:
    """Whether this gateway knows the log's present end, so that it can answer truly."""
    gateway = gateway_of(request)
    stuck = request.app[INDEX_VIEW].stuck()
    if stuck:
        (topic, partition), offset = next(iter(stuck.items()))
        raise Problem(
            503,
            "unknown_schema",
            f"{topic}/{partition} stops at {offset}: written by a newer release",
            hint="upgrade this gateway",
            headers={"Retry-After": "5"},
        )
    await gateway.index.now()
    return web.json_response({"status": "ready"})


async def metrics(request: web.Request) -> web.StreamResponse:
    """Prometheus text."""
    gateway = gateway_of(request)
    gauges, book = request.app[METRICS], request.app[SCRUBS]
    gauges.set_lags({name: gateway.index.lag(name) for name in gateway.stores})
    for entry in gateway.settings.replicas:
        place = (entry.name, entry.incarnation)
        gauges.set_scrub(entry.name, book.report(*place), book.readback(*place))
    limits = gateway.settings.limits
    late = {name: lateness(request.app[LAGS], limits, name) for name in gateway.stores}
    gauges.lateness.set(late, limits.objective_percent)
    return web.Response(
        body=generate_latest(request.app[REGISTRY]), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )
