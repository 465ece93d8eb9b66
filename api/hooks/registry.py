"""POST, GET and DELETE of hooks, in the shape of GitHub's API; the hook itself is a record.

The secret is sealed before it is written anywhere (seal.py) and never shown again after the answer
to its creation. The start cut is resolved when the hook is made and kept with it (design point 7).
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from tidestore.api.auth import HOOKS
from tidestore.api.bodies import read_json
from tidestore.api.context import dataset_of, gateway_of
from tidestore.api.hooks.payload import ALL_EVENTS, PING, render_ping
from tidestore.api.hooks.pump import attempted
from tidestore.api.hooks.seal import Seal
from tidestore.api.problems import Problem
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.view import Folded, View
from tidestore.connectors.webhook import (
    SECRET_PREFIX,
    Delivery,
    WebhookSender,
    signing_key,
    split_url,
)
from tidestore.schemas.events import ChangeType, CursorMoved, HookRemoved, HookSaved
from tidestore.schemas.objects import MalformedError, check_dataset
from tidestore.schemas.positions import Cut
from tidestore.schemas.topics import Topics, partition_of

LOGGER: Final = logging.getLogger("tidestore.hooks")

_EVENTS: Final = frozenset({*(kind.value for kind in ChangeType), ALL_EVENTS})
# Standard Webhooks: 24 to 64 bytes of randomness.
_SECRET_BYTES: Final = 32
_SECRET_BYTES_MIN: Final = 16
_SECRET_CHARS_MAX: Final = 256
_SHAPE_HINT: Final = '{"name": "web", "events": ["*"], "config": {"url": "https://..."}}'
# Each may wait for a slow receiver; beyond this nobody needs another one now.
_PINGS_MAX: Final = 16
_COLUMNS: Final = tuple(item.name for item in fields(HookSaved))


class HooksFold:
    """The hooks as they stand."""

    version = 1

    def __init__(self, on_changed: Callable[[], None]) -> None:
        self._on_changed = on_changed

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE hooks (hook_id TEXT PRIMARY KEY, url TEXT, events TEXT, dataset TEXT,"
            " secret_sealed BLOB, is_active INTEGER, start_cut TEXT, created_by TEXT,"
            " created_at_ms INTEGER, updated_at_ms INTEGER) WITHOUT ROWID"
        )

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        for record in records:
            event = record.event
            if isinstance(event, HookSaved):
                values = {name: getattr(event, name) for name in _COLUMNS}
                values["events"] = json.dumps(event.events)
                marks = ", ".join("?" * len(_COLUMNS))
                db.execute(
                    f"INSERT OR REPLACE INTO hooks ({', '.join(_COLUMNS)}) VALUES ({marks})",
                    list(values.values()),
                )
            elif isinstance(event, HookRemoved):
                db.execute("DELETE FROM hooks WHERE hook_id = ?", (event.hook_id,))

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        del records
        self._on_changed()


@dataclass(frozen=True, slots=True)
class HookBook:
    """The hooks of a store, for handlers and dispatcher. Belongs to the event loop."""

    view: View
    writer: LogWriter
    topics: Topics
    seal: Seal
    sender: WebhookSender
    hooks_max: int
    progress_of: Callable[[str], list[CursorMoved]]
    _pings: set[asyncio.Task[None]] = field(default_factory=set)

    def all(self) -> list[HookSaved]:
        """Every hook."""
        rows = self.view.query(f"SELECT {', '.join(_COLUMNS)} FROM hooks ORDER BY created_at_ms")
        return [_hook(row) for row in rows]

    def find(self, hook_id: str) -> HookSaved | None:
        """A hook by id."""
        rows = self.view.query(
            f"SELECT {', '.join(_COLUMNS)} FROM hooks WHERE hook_id = ?",
            (hook_id,),
        )
        return _hook(rows[0]) if rows else None

    def secret_of(self, hook: HookSaved) -> str:
        """The hook's secret in clear."""
        return self.seal.open(hook.secret_sealed, hook.hook_id)

    async def save(self, hook: HookSaved) -> None:
        """Write a hook and wait until this gateway knows it."""
        await self._append(hook.hook_id, hook)

    async def remove(self, hook_id: str, by: str) -> None:
        """Remove a hook and wait until this gateway knows it."""
        await self._append(hook_id, HookRemoved(hook_id, by, _now_ms()))

    def begin_ping(self, hook: HookSaved, document: dict[str, Any]) -> bool:
        """Send a ping beside everything else; False when too many are under way."""
        if len(self._pings) >= _PINGS_MAX:
            return False
        task = asyncio.create_task(self._ping(hook, render_ping(document, _now_ms())))
        self._pings.add(task)
        task.add_done_callback(self._pings.discard)
        return True

    async def end_pings(self) -> None:
        """Give up what is under way."""
        tasks = list(self._pings)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ping(self, hook: HookSaved, body: bytes) -> None:
        delivery = Delivery(f"ping_{secrets.token_hex(16)}", PING, body, hook.hook_id, 1)
        try:
            reply = await self.sender.send(hook.url, self.secret_of(hook), delivery)
            tried = attempted(hook, delivery.delivery_id, PING, "", 1, reply)
            partition = partition_of(hook.hook_id, self.topics.partitions)
            await self.writer.append(self.topics.deliveries, partition, hook.hook_id, tried)
        except (LogError, ValueError) as error:
            LOGGER.warning("the ping of hook %s: %s", hook.hook_id, error)

    async def catch_up(self) -> None:
        """Wait until everything written to the topic so far is known here."""
        ends = await self.writer.ends(self.topics.hooks, [0])
        await self.view.reached(self.topics.hooks, ends, timeout_seconds=5)

    async def _append(self, hook_id: str, event: HookSaved | HookRemoved) -> None:
        placed = await self.writer.append(self.topics.hooks, 0, hook_id, event)
        await self.view.reached(self.topics.hooks, {0: placed.offset + 1}, timeout_seconds=5)


HOOK_BOOK: Final = web.AppKey("hook_book", HookBook)


async def create_hook(request: web.Request) -> web.StreamResponse:
    """Register a hook; the answer is the only one that shows a secret that we made."""
    dataset = dataset_of(request)
    principal = gateway_of(request).auth.require(request, HOOKS, dataset)
    book = request.app[HOOK_BOOK]
    body = await read_json(request)
    unknown = body.keys() - {"name", "active", "events", "config", "start"}
    if unknown:
        raise MalformedError(
            "body", f"has the unknown member {min(unknown)[:50]!r}", hint=_SHAPE_HINT
        )
    config = body.get("config")
    if body.get("name", "web") != "web" or not isinstance(config, dict):
        raise MalformedError("body", "is not a hook", hint=_SHAPE_HINT)
    url, secret, is_made = await _read_config(book, config)
    active = body.get("active", True)
    if not isinstance(active, bool):
        raise MalformedError("active", "is neither true nor false", hint="leave it out for true")
    await book.catch_up()
    if len(book.all()) >= book.hooks_max:
        raise Problem(
            429,
            "too_many_hooks",
            f"this store keeps {book.hooks_max} hooks",
            hint="remove one that is not needed, or ask the operator for a higher hooks_max",
        )
    hook_id = str(int.from_bytes(secrets.token_bytes(6), "big"))
    now_ms = _now_ms()
    hook = HookSaved(
        hook_id=hook_id,
        url=url,
        events=_read_events(body.get("events", [ALL_EVENTS])),
        dataset=dataset,
        secret_sealed=book.seal.close(secret, hook_id),
        is_active=active,
        start_cut=await _start_cut(book, dataset, body.get("start", "now")),
        created_by=principal.name,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )
    await book.save(hook)
    document = hook_document(request, hook)
    book.begin_ping(hook, document)
    if is_made:
        document["config"]["secret"] = secret
    return web.json_response(document, status=201, headers={"Location": f"/v1/hooks/{hook_id}"})


async def list_hooks(request: web.Request) -> web.StreamResponse:
    """All hooks of a dataset."""
    dataset = dataset_of(request)
    gateway_of(request).auth.require(request, HOOKS, dataset)
    book = request.app[HOOK_BOOK]
    await book.catch_up()
    found = [hook_document(request, hook) for hook in book.all() if hook.dataset == dataset]
    return web.json_response(found)


async def get_hook(request: web.Request) -> web.StreamResponse:
    """One hook."""
    return web.json_response(hook_document(request, await _find(request)))


async def delete_hook(request: web.Request) -> web.StreamResponse:
    """Remove a hook. A gateway that has not heard of it yet may send it what it holds just now."""
    hook = await _find(request)
    principal = gateway_of(request).auth.principal_of(request)
    await request.app[HOOK_BOOK].remove(hook.hook_id, principal.name)
    return web.Response(status=204)


async def ping_hook(request: web.Request) -> web.StreamResponse:
    """Send a ping now, once; the delivery log has what came of it."""
    hook = await _find(request)
    if not request.app[HOOK_BOOK].begin_ping(hook, hook_document(request, hook)):
        raise Problem(
            429, "too_many_pings", "too many pings are under way",
            hint="try again in a moment", headers={"Retry-After": "5"},
        )  # fmt: skip
    return web.Response(status=204)


def hook_document(request: web.Request, hook: HookSaved) -> dict[str, Any]:
    """A hook as GitHub shows one, with our words where there is no other."""
    base = f"{request.scheme}://{request.host}/v1/hooks/{hook.hook_id}"
    return {
        "type": "Dataset",
        "id": int(hook.hook_id),
        "name": "web",
        "active": hook.is_active,
        "events": list(hook.events),
        "config": {
            "url": hook.url,
            "content_type": "json",
            "insecure_ssl": "0",
            "secret": "********",
        },
        "dataset": hook.dataset,
        "start_cut": hook.start_cut,
        "last_response": _last_response(request, hook),
        "url": base,
        "ping_url": f"{base}/pings",
        "created_at": _moment(hook.created_at_ms),
        "updated_at": _moment(hook.updated_at_ms),
    }


def _last_response(request: web.Request, hook: HookSaved) -> dict[str, Any]:
    """What the receiver said last, in GitHub's shape. Up to a second old."""
    moved = request.app[HOOK_BOOK].progress_of(hook.hook_id)
    tried = [cursor for cursor in moved if cursor.last_status or cursor.last_error]
    if not tried:
        return {"code": None, "status": "unused", "message": None}
    last = max(tried, key=lambda cursor: cursor.moved_at_ms)
    status = "failing" if last.last_error else "active"
    return {"code": last.last_status, "status": status, "message": last.last_error}


async def _find(request: web.Request) -> HookSaved:
    gateway = gateway_of(request)
    gateway.auth.principal_of(request)
    book = request.app[HOOK_BOOK]
    # What another gateway made or removed a moment ago counts here too.
    await book.catch_up()
    hook = book.find(request.match_info["hook_id"])
    if hook is None:
        gateway.auth.require(request, HOOKS, dataset_of(request))
        raise Problem(404, "not_found", "there is no such hook")
    gateway.auth.require(request, HOOKS, check_dataset(hook.dataset))
    return hook


async def _read_config(book: HookBook, config: dict[str, Any]) -> tuple[str, str, bool]:
    """URL and secret of a new hook, and whether the secret was made here."""
    unknown = config.keys() - {"url", "content_type", "secret", "insecure_ssl"}
    if unknown:
        hint = "known are url, content_type, secret, insecure_ssl"
        raise MalformedError("config", f"has the unknown member {min(unknown)[:50]!r}", hint=hint)
    url = config.get("url")
    if not isinstance(url, str):
        raise MalformedError("config.url", "is missing", hint=_SHAPE_HINT)
    split_url(url)
    await book.sender.check_url(url)
    if config.get("content_type", "json") != "json":
        raise MalformedError("config.content_type", "is not known", hint="json")
    if str(config.get("insecure_ssl", "0")) != "0":
        raise MalformedError(
            "config.insecure_ssl", "is not offered", hint="use a valid certificate"
        )
    secret = config.get("secret")
    if secret is None:
        made = base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
        return url, SECRET_PREFIX + made, True
    if not isinstance(secret, str) or len(secret) > _SECRET_CHARS_MAX:
        raise MalformedError(
            "config.secret",
            f"is not a text of up to {_SECRET_CHARS_MAX} characters",
            hint="leave it out, and one is made for you",
        )
    if len(signing_key(secret)) < _SECRET_BYTES_MIN:
        hint = "leave it out, and one is made for you"
        raise MalformedError("config.secret", f"is under {_SECRET_BYTES_MIN} bytes", hint=hint)
    return url, secret, False


def _read_events(events: object) -> tuple[str, ...]:
    hint = "known are " + ", ".join(sorted(_EVENTS))
    if not isinstance(events, list) or not events:
        raise MalformedError("events", "is not a list of event types", hint=hint)
    for event in events:
        if not isinstance(event, str) or event not in _EVENTS:
            raise MalformedError("events", "names an event that does not exist", hint=hint)
    return tuple(dict.fromkeys(str(event) for event in events))


async def _start_cut(book: HookBook, dataset: str, start: object) -> str:
    """From where on a hook hears: what is announced after now, or everything that is kept."""
    topics = book.topics
    if start == "earliest":
        return str(Cut(topics.generation, (0,) * topics.partitions))
    if start != "now":
        raise MalformedError("start", "is not known", hint="now or earliest")
    topic = topics.changes(check_dataset(dataset))
    return str(await book.writer.cut(topic, topics.partitions, topics.generation))


def _hook(row: sqlite3.Row) -> HookSaved:
    values = dict(row)
    values["events"] = tuple(json.loads(values["events"]))
    values["is_active"] = bool(values["is_active"])
    return HookSaved(**values)


def _moment(moment_ms: int) -> str:
    return datetime.fromtimestamp(moment_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _now_ms() -> int:
    return int(time.time() * 1000)
