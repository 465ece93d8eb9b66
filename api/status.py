"""How it goes: health, readiness, metrics, tasks. Replicas: see replica_admin.py."""

from __future__ import annotations

import json
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from tidestore import __version__
from tidestore.api.auth import READ
from tidestore.api.context import gateway_of
from tidestore.api.lags import Lags, lateness
from tidestore.api.metrics import GatewayMetrics
from tidestore.api.problems import Problem
from tidestore.api.scrubs import SCRUBS
from tidestore.api.staging import TASK_BOARD, task_document
from tidestore.connectors.view import View
from tidestore.schemas.objects import check_dataset

INDEX_VIEW: Final = web.AppKey("index_view", View)
REGISTRY: Final = web.AppKey("registry", CollectorRegistry)
METRICS: Final = web.AppKey("metrics", GatewayMetrics)
LAGS: Final = web.AppKey("lags", Lags)
_TASK_ID_CHARS: Final = 32


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
    for entry in gateway.lives.values():
        place = (entry.name, entry.incarnation)
        gauges.set_scrub(entry.name, book.report(*place), book.readback(*place))
    limits = gateway.settings.limits
    late = {name: lateness(request.app[LAGS], limits, name) for name in gateway.stores}
    gauges.lateness.set(late, limits.objective_percent)
    return web.Response(
        body=generate_latest(request.app[REGISTRY]), headers={"Content-Type": CONTENT_TYPE_LATEST}
    )
