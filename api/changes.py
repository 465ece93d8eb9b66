"""GET /v1/changes: the feed of a dataset by pages, for who may not or will not reach Kafka.

    after=<cursor> --entitled?--> one page of changes.<dataset> and of redactions --> next=<cursor>
                                     |
                                     '- nothing there: wait at the end, a bounded time; once more

Nothing is kept of a reader here. What a death between two pages leaves is the reader's cursor: the
page is read again (R9: at least once, in order of each key). See docs/api.md.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any, Final

from aiohttp import web

from tidestore.api.auth import READ
from tidestore.api.context import (
    Gateway,
    dataset_of,
    gateway_of,
    number_parameter,
    single_parameter,
)
from tidestore.api.feed_cursor import FeedCursor, FeedNews, identity_of, read_news
from tidestore.api.hooks.payload import render
from tidestore.api.problems import Problem, unavailable
from tidestore.connectors.feed_pages import CursorGoneError, FeedPages, FeedTail
from tidestore.connectors.provision import topic_ids
from tidestore.schemas.events import RedactionDecided, RedactionLifted
from tidestore.schemas.objects import DatasetName

CHANGES: Final = 100
CHANGES_MAX: Final = 1_000
# Below what proxies cut off; whoever wants to wait longer asks again.
WAIT_SECONDS_MAX: Final = 30
# Of a lift: far more than the versions of a file. A reader that misses some still has the feed.
_LIFTED_KEYS_MAX: Final = 1_000


class FeedDesk:
    """Reads pages of the feed for handlers. Belongs to the gateway's loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        kafka = gateway.settings.kafka
        self._pages, self._tail = FeedPages(kafka), FeedTail(kafka)
        # By dataset: the first cursor, with the identity of its topics.
        self._first: dict[DatasetName, FeedCursor] = {}

    async def stop(self) -> None:
        """Let go of the consumers."""
        await self._tail.stop()
        await self._pages.stop()

    async def cursor(self, dataset: DatasetName, text: str | None) -> FeedCursor:
        """The place that a request names; raises Problem 410 for one that is of other topics."""
        first = await self._first_of(dataset)
        if text is None:
            return first
        if text == "latest":
            return await self._latest(dataset, first)
        cursor = FeedCursor.parse(text)
        if not cursor.is_of(first):
            raise cursor_gone("this cursor is of another log, or of an earlier generation of it")
        return cursor

    async def news(self, dataset: DatasetName, cursor: FeedCursor, limit: int) -> FeedNews:
        """What comes next; raises Problem 410, LogError."""
        topics = self._gateway.settings.topics
        feed = topics.changes(dataset)
        try:
            page = await self._pages.read(self._places(dataset, cursor), limit)
        except CursorGoneError:
            detail = "there is nothing at this place any more: the log begins later, or ends before"
            raise cursor_gone(detail) from None
        found = read_news(cursor, page, feed, topics.redactions)
        has_moved = found.cursor != cursor
        if not page.records and not page.is_end and not has_moved:
            raise unavailable("the log is not reachable just now", code="log_unavailable")
        if found.is_held and not has_moved:
            raise unavailable("what comes next is of a newer release", retry_after=60)
        return found

    async def more(self, dataset: DatasetName, cursor: FeedCursor, seconds: float) -> bool:
        """Wait, at the end, until there is more."""
        return await self._tail.beyond(self._places(dataset, cursor), seconds)

    def _places(self, dataset: DatasetName, cursor: FeedCursor) -> dict[tuple[str, int], int]:
        topics = self._gateway.settings.topics
        feed = topics.changes(dataset)
        places = {(feed, number): offset for number, offset in enumerate(cursor.offsets_next)}
        places[topics.redactions, 0] = cursor.redactions_next
        return places

    async def _first_of(self, dataset: DatasetName) -> FeedCursor:
        if dataset not in self._first:
            topics, kafka = self._gateway.settings.topics, self._gateway.settings.kafka
            names = [topics.changes(dataset), topics.redactions]
            ids = await asyncio.to_thread(topic_ids, kafka, names)
            identity = identity_of([ids[name] for name in names])
            first = FeedCursor.first(topics.generation, identity, topics.partitions)
            self._first[dataset] = first
        return self._first[dataset]

    async def _latest(self, dataset: DatasetName, first: FeedCursor) -> FeedCursor:
        topics, writer = self._gateway.settings.topics, self._gateway.writer
        cut = await writer.cut(topics.changes(dataset), topics.partitions, topics.generation)
        ends = await writer.ends(topics.redactions, [0])
        return replace(first, offsets_next=cut.offsets_next, redactions_next=ends[0])


FEED_DESK: Final = web.AppKey("feed_desk", FeedDesk)


async def get_changes(request: web.Request) -> web.StreamResponse:
    """One page of a dataset's feed, from a cursor on."""
    gateway = gateway_of(request)
    dataset = dataset_of(request)
    gateway.auth.require(request, READ, dataset)
    limit = number_parameter(request, "limit", CHANGES, 1, CHANGES_MAX)
    wait = number_parameter(request, "wait", 0, 0, WAIT_SECONDS_MAX)
    desk = request.app[FEED_DESK]
    cursor = await desk.cursor(dataset, single_parameter(request, "after"))
    deadline = time.monotonic() + wait
    while True:
        news = await desk.news(dataset, cursor, limit)
        if news.decisions:  # what a lift brings back is asked of the index
            await gateway.index.reach_redactions(news.cursor.redactions_next)
        page = _page(gateway, dataset, news)
        left = deadline - time.monotonic()
        if page["changes"] or page["redactions"] or left <= 0:
            break
        # Claims, late words and other datasets' redactions were read: they tell nobody anything.
        cursor = news.cursor
        await desk.more(dataset, cursor, left)
        gateway.auth.require(request, READ, dataset)  # may have been taken away meanwhile
    body = json.dumps(page, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=body, content_type="application/json", headers=headers)


def _page(gateway: Gateway, dataset: DatasetName, news: FeedNews) -> dict[str, Any]:
    topics, index = gateway.settings.topics, gateway.index
    # Hidden means hidden for everybody: what is redacted by now is not told of, nor named.
    gone = set(index.redacted_among([change.key for _, change in news.changes]))
    oldest_ms = time.time() * 1000 - topics.windows.replay_ms
    changes = [
        json.loads(
            render(
                change,
                topics.generation,
                partition,
                is_summary=change.announced_at_ms < oldest_ms,
            )
        )
        for partition, change in news.changes
        if change.key not in gone
    ]
    redactions = [
        _decision(gateway, decision)
        for decision in news.decisions
        if decision.target.startswith(f"{dataset}/")
    ]
    return {"changes": changes, "redactions": redactions, "next": str(news.cursor)}


def _decision(gateway: Gateway, decision: RedactionDecided | RedactionLifted) -> dict[str, Any]:
    """A decision without who made it; a lift says which objects come back."""
    document: dict[str, Any] = {"target": decision.target, "number": decision.number}
    if isinstance(decision, RedactionDecided):
        document |= {
            "is_lifted": False,
            "reason": decision.reason,
            "at_ms": decision.decided_at_ms,
            "keys": [],
        }
        return document
    keys = gateway.index.redactions.keys_of(decision.target, _LIFTED_KEYS_MAX)
    return document | {
        "is_lifted": True,
        "reason": "",
        "at_ms": decision.lifted_at_ms,
        "keys": [key for key in keys if gateway.index.redaction(key) is None],
    }


def cursor_gone(detail: str) -> Problem:
    """The answer to a place that is not there any more: nothing can be read on from it."""
    return Problem(
        410,
        "cursor_gone",
        detail,
        hint="begin again without `after`: what you hold already you will know by its key",
        headers={"Cache-Control": "no-store"},
    )
