"""The gateway put together: what is started in which order, and which path leads where."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from tidestore.api import status
from tidestore.api.auth import Authenticator
from tidestore.api.canary import CanarySender
from tidestore.api.changes import FEED_DESK, FeedDesk
from tidestore.api.context import (
    GATEWAY,
    REQUEST_ID_HEADER,
    Gateway,
    request_id_middleware,
)
from tidestore.api.fleet import Fleet
from tidestore.api.front import DIRECTORY, Front
from tidestore.api.hooks import registry as hooks
from tidestore.api.hooks.dispatcher import Dispatcher
from tidestore.api.hooks.seal import Seal
from tidestore.api.index import IndexFold
from tidestore.api.lags import Lags
from tidestore.api.lookup import Index, Watchers
from tidestore.api.metrics import GatewayMetrics
from tidestore.api.objective import ObjectiveWatch
from tidestore.api.openapi import openapi_document
from tidestore.api.openapi.routes import OPENAPI
from tidestore.api.origin import OriginWriter
from tidestore.api.parties import PARTY_BOOK, PartyBook, open_parties
from tidestore.api.problems import problems_middleware
from tidestore.api.progress import ProgressMeter
from tidestore.api.protocol import HEADERS_MAX, LINE_BYTES_MAX, GatewayRunner
from tidestore.api.reconcile import Reconciler
from tidestore.api.redactions import REDACTOR, REFERENCES
from tidestore.api.redactor import Redactor
from tidestore.api.references import References
from tidestore.api.replica_admin import PROGRESS
from tidestore.api.replica_book import REPLICA_BOOK, ReplicaBook
from tidestore.api.replicas import settle_replicas
from tidestore.api.routes import all_routes
from tidestore.api.scrubs import SCRUBS, ScrubBook, ScrubsFold
from tidestore.api.settings import GatewaySettings
from tidestore.api.staging import TASK_BOARD, run_task
from tidestore.api.tasks import Report, TaskBoard, TasksFold
from tidestore.connectors.addresses import AddressGuard
from tidestore.connectors.budget import ByteBudget
from tidestore.connectors.directory import Directory
from tidestore.connectors.generations import find_topics
from tidestore.connectors.heartbeat import LogHeartbeat
from tidestore.connectors.layers import StoreMetrics
from tidestore.connectors.log import START_PATIENCE_SECONDS, LogWriter
from tidestore.connectors.opening import open_patiently
from tidestore.connectors.provision import provision
from tidestore.connectors.view import View
from tidestore.connectors.webhook import WebhookSender
from tidestore.schemas.events import TaskChanged
from tidestore.schemas.findings import FindingReported

LOGGER: Final = logging.getLogger("tidestore.api")

# Reading what was written since the last start; a new gateway reads everything.
_FIRST_FOLD_SECONDS_MAX: Final = 3_600
# How long requests under way may go on after the gateway was told to stop.
STOP_SECONDS: Final = 10.0
REQUEST_BYTES_MAX: Final = 1024 * 1024


async def make_gateway(
    settings: GatewaySettings, stack: contextlib.AsyncExitStack
) -> web.Application:
    """Open everything a gateway needs and return its application, ready to serve.

    What is opened is closed by `stack`, in reverse order. Raises StoreError, LogError,
    MalformedError: each says what to do.
    """
    topics = settings.topics
    replicas = [(entry.name, entry.incarnation) for entry in settings.replicas]
    specs = topics.specs(replicas, list(settings.datasets))
    await provision(settings.kafka, specs, replication=topics.replication)
    registry = CollectorRegistry()
    metrics, store_metrics = GatewayMetrics(registry), StoreMetrics(registry)
    writer = LogWriter(settings.kafka)
    await writer.start()
    stack.push_async_callback(writer.stop)
    watchers, owed = Watchers(), asyncio.Event()
    fleet, book, epoch, directory = await _open_fleet(settings, writer, store_metrics, stack)
    stores = fleet.stores
    view, tasks_view = await _open_views(settings, watchers, owed, fleet, stack)
    seconds = settings.limits.catch_up_seconds_max
    index = Index(view, writer, topics, directory.generations, catch_up_seconds=seconds)
    progress = ProgressMeter(index)
    watchers.listen(lambda: progress.moved(stores))
    parties = await _read_first(writer, view, settings, stack)
    gateway = Gateway(
        settings=settings,
        auth=Authenticator(settings.tokens, settings.admins, parties.principal_of),
        index=index,
        watchers=watchers,
        writer=writer,
        origin=OriginWriter(stores[settings.origin], epoch, writer, index, topics, replicas=stores),
        stores=stores,
        bodies=ByteBudget(settings.limits.bodies_bytes_max),
        lives=fleet.lives,
    )

    async def runner(task: TaskChanged, report: Report) -> str:
        return await run_task(gateway, task, report)

    board = TaskBoard(
        tasks_view, writer, topics.tasks, settings.gateway_id, runner,
        lease_ms=int(settings.limits.task_lease_seconds * 1000),
    )  # fmt: skip
    app = _application(gateway, metrics, parties, stack)
    app[PROGRESS], app[REPLICA_BOOK], app[DIRECTORY] = progress, book, directory
    fleet.attach(view, lambda: _describe(app, gateway))
    await _start_hooks(app, gateway, metrics, stack)
    app[TASK_BOARD], app[status.INDEX_VIEW], app[status.REGISTRY] = board, view, registry
    lags = _watch_lags(settings, fleet, view, writer, stack)
    app[status.METRICS], app[status.LAGS] = metrics, lags
    await _start_redactor(app, gateway, owed, stack)
    heartbeat = LogHeartbeat(settings.kafka, topics, writer, settings.gateway_id)
    reconciler = _reconciler(gateway, view)
    for work in (board.run(), heartbeat.run(), reconciler.run()):
        _in_background(stack, work)
    app[SCRUBS] = await _start_scrubs(settings, reconciler, stack)
    return app


def _reconciler(gateway: Gateway, view: View) -> Reconciler:
    settings = gateway.settings
    return Reconciler(
        gateway.origin,
        gateway.index,
        view,
        unclean_stops=settings.kafka.unclean_stops,
        data_folder=settings.data_folder,
        inline_bytes_max=settings.limits.inline_bytes_max,
        inline_manifest_bytes_max=settings.limits.inline_manifest_bytes_max,
    )


async def _start_scrubs(
    settings: GatewaySettings, reconciler: Reconciler, stack: contextlib.AsyncExitStack
) -> ScrubBook:
    """Follow what comparisons say."""
    loop, topics = asyncio.get_running_loop(), settings.topics

    def dark(findings: list[FindingReported]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may be closing
            loop.call_soon_threadsafe(book.dark, findings)

    path = settings.data_folder / "scrubs.sqlite"
    view = View(path, ScrubsFold(dark), settings.kafka, [topics.scrubs, topics.findings])
    book = ScrubBook(view, reconciler, settings.origin)
    await view.start()
    stack.push_async_callback(view.stop)
    _in_background(stack, book.run())
    return book


async def _open_fleet(
    settings: GatewaySettings,
    writer: LogWriter,
    metrics: StoreMetrics,
    stack: contextlib.AsyncExitStack,
) -> tuple[Fleet, ReplicaBook, int, Directory]:
    """The replicas as the topic has them, those of the file registered; the origin's epoch."""
    path = settings.data_folder / "replicas.sqlite"
    directory = Directory(settings.kafka, settings.topics.replicas, path)
    stack.push_async_callback(directory.stop)
    await directory.start(writer)
    epoch = await settle_replicas(settings, writer, directory)
    fleet = Fleet(settings, directory, metrics, stack)
    await open_patiently(fleet.stores[settings.origin], stack)
    return fleet, ReplicaBook(settings, directory, writer, fleet), epoch, directory


async def _open_views(
    settings: GatewaySettings,
    watchers: Watchers,
    owed: asyncio.Event,
    fleet: Fleet,
    stack: contextlib.AsyncExitStack,
) -> tuple[View, View]:
    """The views of the index and the tasks, begun."""
    topics, folder = settings.topics, settings.data_folder
    loop = asyncio.get_running_loop()
    index = IndexFold(
        fleet.copies,
        lambda keys: _on_loop(loop, lambda: watchers.tell(keys)),
        lambda: _on_loop(loop, owed.set),
        topics,
    )
    views = (
        View(folder / "index.sqlite", index, settings.kafka, fleet.followed),
        View(folder / "tasks.sqlite", TasksFold(), settings.kafka, [topics.tasks]),
    )
    for view in views:
        await view.start()
        stack.push_async_callback(view.stop)
    return views


def _application(
    gateway: Gateway, metrics: GatewayMetrics, parties: PartyBook, stack: contextlib.AsyncExitStack
) -> web.Application:
    app = web.Application(
        middlewares=[request_id_middleware, metrics.middleware, problems_middleware],  # type: ignore[list-item]
        # Bodies are read by bodies.py with its own bounds; this is aiohttp's for everything else.
        client_max_size=REQUEST_BYTES_MAX,
    )
    app[GATEWAY], app[PARTY_BOOK] = gateway, parties
    desk = app[FEED_DESK] = FeedDesk(gateway)
    stack.push_async_callback(desk.stop)
    app.on_response_prepare.append(_add_headers)
    app.add_routes(all_routes())
    app[OPENAPI] = {}
    _describe(app, gateway)
    return app


def _describe(app: web.Application, gateway: Gateway) -> None:
    """Describe the API as it is now: which replicas a request may name."""
    app[OPENAPI].clear()
    app[OPENAPI].update(openapi_document(gateway.settings, gateway.replica_names))


async def _start_redactor(
    app: web.Application,
    gateway: Gateway,
    owed: asyncio.Event,
    stack: contextlib.AsyncExitStack,
) -> None:
    settings = gateway.settings
    index, writer = gateway.index, gateway.writer
    redactor = app[REDACTOR] = Redactor(index, writer, settings.topics, settings.kafka, owed)
    _in_background(stack, redactor.run())
    names = References(
        settings.data_folder, settings.kafka, settings.topics, writer, gateway.stores
    )
    stack.push_async_callback(names.close)
    app[REFERENCES] = names
    if index.redactions.are_any():
        await names.start()


async def _start_hooks(
    app: web.Application,
    gateway: Gateway,
    metrics: GatewayMetrics,
    stack: contextlib.AsyncExitStack,
) -> None:
    settings, topics = gateway.settings, gateway.settings.topics
    sender = WebhookSender(AddressGuard(settings.hook_networks))
    await sender.start()
    stack.push_async_callback(sender.stop)
    ringing: list[Dispatcher] = []

    def changed() -> None:
        for dispatcher in ringing:
            dispatcher.hooks_changed()

    view = View(
        settings.data_folder / "hooks.sqlite",
        hooks.HooksFold(changed),
        settings.kafka,
        [topics.hooks],
    )
    await view.start()
    stack.push_async_callback(view.stop)
    book = hooks.HookBook(
        view,
        gateway.writer,
        topics,
        Seal(settings.seal_key),
        sender,
        settings.limits.hooks_max,
        lambda hook_id: dispatcher.progress_of(hook_id),  # noqa: PLW0108  it is made from the book
    )
    app[hooks.HOOK_BOOK] = book
    stack.push_async_callback(book.end_pings)
    dispatcher = Dispatcher(settings, gateway.writer, book, metrics)
    ringing.append(dispatcher)
    await dispatcher.start()
    stack.push_async_callback(dispatcher.stop)
    canary = CanarySender(
        topics, gateway.writer, lambda: dispatcher.holds(0),
        seconds=settings.limits.canary_seconds, name=settings.gateway_id,
    )  # fmt: skip
    _in_background(stack, canary.run())
    if settings.hook_networks:
        LOGGER.warning("hooks may call these networks: %s", ", ".join(settings.hook_networks))


def _watch_lags(
    settings: GatewaySettings,
    fleet: Fleet,
    view: View,
    writer: LogWriter,
    stack: contextlib.AsyncExitStack,
) -> Lags:
    lags = Lags(view)
    watch = ObjectiveWatch(settings, lambda: fleet.copies, view, lags, writer)
    _in_background(stack, watch.run())
    return lags


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer carries. The server's name and version are nobody's business."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    response.headers.setdefault(REQUEST_ID_HEADER, str(request.get("request_id", "")))
    response.headers["Server"] = "tidestore"
    del request


async def _read_first(
    writer: LogWriter, view: View, settings: GatewaySettings, stack: contextlib.AsyncExitStack
) -> PartyBook:
    """Redactions to their end before anything else, then the log as it is now, then who is who."""
    topics = settings.topics
    ends = await writer.ends(topics.redactions, [0], patience_seconds=START_PATIENCE_SECONDS)
    await view.reached(topics.redactions, ends, timeout_seconds=_FIRST_FOLD_SECONDS_MAX)
    wide = list(range(topics.partitions))
    ends = await writer.ends(topics.log, wide, patience_seconds=START_PATIENCE_SECONDS)
    await view.reached(topics.log, ends, timeout_seconds=_FIRST_FOLD_SECONDS_MAX)
    return await open_parties(settings, writer, stack)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Called in the view's thread; the loop may be closing."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


def _in_background(stack: contextlib.AsyncExitStack, work: object) -> None:
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]
    task.add_done_callback(_say_why_ended)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(end)


def _say_why_ended(task: asyncio.Task[None]) -> None:
    """A background task never ends by itself; when one does, the operator must hear of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        LOGGER.error("a background task ended", exc_info=error)


async def serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Serve until told to stop; then finish what is under way, in order."""
    async with contextlib.AsyncExitStack() as stack:
        front = Front(settings, make_gateway, finish_seconds=STOP_SECONDS)
        stack.push_async_callback(front.stop)
        await front.start(await find_topics(settings.kafka, settings.topics))
        _in_background(stack, front.run())
        runner = GatewayRunner(
            web.Application(client_max_size=REQUEST_BYTES_MAX),
            front.handle,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=75,
            shutdown_timeout=STOP_SECONDS,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            # Bytes are stored as they come, and a coding is refused; unpacking one before that
            # would let a few bytes become gigabytes.
            auto_decompress=False,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
        await site.start()
        LOGGER.info(
            "gateway %s listens on %s:%d", settings.gateway_id, settings.host, settings.port
        )
        await stop.wait()
