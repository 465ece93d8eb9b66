"""One hook on one partition: its cursor, and what is sent under it, in order.

    records from the cursor on --match?--> POST --2xx--> cursor + 1
                                            |
                                            '-- else: attempt + 1, due later (durable), same record

Order per key holds because a partition's records are sent one after another. A failing receiver
holds up itself alone. The cursor is written at once when a wait begins, and otherwise now and then:
killed in between, some deliveries are sent again with the same id.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from tidestore.api.hooks.lanes import Lanes
from tidestore.api.hooks.payload import matches, render
from tidestore.api.hooks.schedule import Again, LetGo, SwitchOff, after_failure
from tidestore.connectors.correlation import enter_request, tell
from tidestore.connectors.feed_reader import FeedReader, FeedRecord, Place
from tidestore.connectors.kafka import LogError
from tidestore.connectors.traces import annotate, span
from tidestore.connectors.webhook import Delivery, Reply, WebhookSender
from tidestore.schemas.events import (
    ChangeAnnounced,
    CursorMoved,
    DeliveryAttempted,
    HookSaved,
)

LOGGER: Final = logging.getLogger("tidestore.hooks")

FETCH_RECORDS: Final = 200
# Progress is written at most this often: what it costs, and how much is sent twice after a crash.
SAVE_SECONDS: Final = 1.0
_ERROR_PAUSE_SECONDS: Final = 2.0
_RESPONSE_CHARS_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class Bench:
    """What all pumps of a dispatcher share."""

    reader: FeedReader
    sender: WebhookSender
    generation: int
    # What is older than this may be all that compaction left of its key (R9).
    replay_ms: int
    save: Callable[[CursorMoved], Awaitable[bool]]
    tell: Callable[[DeliveryAttempted], Awaitable[None]]
    switch_off: Callable[[HookSaved], Awaitable[None]]
    lanes: Lanes
    count: Callable[[str], None]


class Pump:
    """Sends one partition's changes to one hook. Belongs to the event loop."""

    def __init__(
        self, bench: Bench, hook: HookSaved, secret: str, place: Place, cursor: CursorMoved
    ) -> None:
        self._bench = bench
        self._hook = hook
        self._secret = secret
        self._place = place
        self._cursor = cursor
        self._saved_offset = cursor.offset_next
        self._saved_at = 0.0
        self._newest_claim = -1
        self.news = asyncio.Event()

    async def run(self) -> None:
        """Pump until cancelled; what was sent by then is remembered."""
        try:
            while True:
                self.news.clear()
                records = await self._records()
                for record in records:
                    await self._take(record)
                await self._save_now_and_then()
                if not records:
                    await self._wait_for_news()
        finally:
            if self._cursor.offset_next != self._saved_offset:
                # Best effort, and bounded: without it some deliveries are sent once more.
                saving = asyncio.ensure_future(self._bench.save(self._cursor))
                await asyncio.wait([asyncio.shield(saving)], timeout=2)

    async def _records(self) -> list[FeedRecord]:
        """The next records: out of memory when we are near the end, else fetched."""
        ring = self._bench.reader.rings.get(self._place)
        offset = self._cursor.offset_next
        if ring is not None and offset >= ring.offset_first:
            return ring.since(offset)
        try:
            return await self._bench.reader.fetch(self._place, offset, FETCH_RECORDS)
        except LogError as error:
            LOGGER.warning("hook %s cannot catch up: %s", self._hook.hook_id, error)
            await asyncio.sleep(_ERROR_PAUSE_SECONDS)
            return []

    async def _wait_for_news(self) -> None:
        is_saved = self._cursor.offset_next == self._saved_offset
        try:
            await asyncio.wait_for(self.news.wait(), None if is_saved else SAVE_SECONDS)
        except TimeoutError:
            await self._save()

    async def _take(self, record: FeedRecord) -> None:
        while record.is_unknown:
            # A newer release announced this: nobody may go past it, and it knows how to send it.
            LOGGER.error("hook %s waits at %s/%d: unknown schema", self._hook.hook_id, *self._place)
            await asyncio.sleep(60)
        event = record.event
        if isinstance(event, ChangeAnnounced) and self._is_valid(event):
            is_summary = event.announced_at_ms < time.time() * 1000 - self._bench.replay_ms
            if matches(self._hook, event, is_summary=is_summary):
                await self._deliver(event, record.offset, is_summary=is_summary)
        elif event is not None and type(event).__name__ == "PartitionClaimed":
            self._newest_claim = record.offset
        self._cursor = replace(
            self._cursor, offset_next=record.offset + 1, attempt=0, next_try_at_ms=None
        )

    def _is_valid(self, event: ChangeAnnounced) -> bool:
        """Whether this is not the late word of a frozen feeds worker (design point 4).

        A hook that begins behind a claim never reads it; the words under it tell where it stands.
        """
        if event.claim < self._newest_claim:
            return False
        self._newest_claim = event.claim
        return True

    async def _deliver(self, change: ChangeAnnounced, offset: int, *, is_summary: bool) -> None:
        """Try until it is taken, or let go after a week; every failure is durable."""
        hook = self._hook
        enter_request(change.request_id)
        body = render(change, self._bench.generation, self._place[1], is_summary=is_summary)
        attempt = self._cursor.attempt if self._cursor.offset_next == offset else 0
        if attempt and self._cursor.next_try_at_ms:
            await asyncio.sleep(max(0.0, self._cursor.next_try_at_ms / 1000 - time.time()))
        while True:
            attempt += 1
            delivery = Delivery(
                change.id, change.type, body, hook.hook_id, attempt, change.request_id
            )
            async with self._bench.lanes.place(hook.hook_id):
                about = (delivery.delivery_id, hook.hook_id, attempt)  # as in its traceparent
                with span("deliver", *about, key=change.key, hook_id=hook.hook_id, attempt=attempt):
                    reply = await self._bench.sender.send(hook.url, self._secret, delivery)
                    annotate(event=change.type, status=reply.status)
                self._bench.lanes.note(hook.hook_id, is_taken=reply.is_success)
            await self._bench.tell(
                attempted(hook, change.id, change.type, change.key, attempt, reply)
            )
            self._bench.count("success" if reply.is_success else "failure")
            tell_attempt(delivery, change.key, reply)
            if reply.is_success:
                self._cursor = replace(
                    self._cursor, delivered=self._cursor.delivered + 1,
                    last_status=reply.status, last_error=None,
                )  # fmt: skip
                return
            verdict = after_failure(
                attempt,
                reply.status,
                reply.retry_after_seconds,
                dice=random.random(),  # noqa: S311
            )
            if isinstance(verdict, SwitchOff):
                await self._bench.switch_off(hook)
                return
            if isinstance(verdict, LetGo):
                LOGGER.error("hook %s: %s is let go: %s", hook.hook_id, change.id, verdict.reason)
                self._cursor = replace(self._cursor, last_error=verdict.reason)
                return
            await self._wait_to_retry(offset, attempt, verdict, reply)

    async def _wait_to_retry(self, offset: int, attempt: int, verdict: Again, reply: Reply) -> None:
        due = time.time() + verdict.seconds
        self._cursor = replace(
            self._cursor,
            offset_next=offset,
            attempt=attempt,
            next_try_at_ms=int(due * 1000),
            last_status=reply.status,
            last_error=reply.error[:500],
        )
        await self._save()
        await asyncio.sleep(verdict.seconds)

    async def _save_now_and_then(self) -> None:
        is_due = time.monotonic() - self._saved_at >= SAVE_SECONDS
        if is_due and self._cursor.offset_next != self._saved_offset:
            await self._save()

    async def _save(self) -> None:
        offset = self._cursor.offset_next
        if await self._bench.save(self._cursor):
            self._saved_offset = offset
            self._saved_at = time.monotonic()


def tell_attempt(delivery: Delivery, key: str, reply: Reply) -> None:
    """One line of the object's story."""
    tell(
        "delivered" if reply.is_success else "not delivered",
        key=key,
        hook_id=delivery.hook_id,
        delivery_id=delivery.delivery_id,
        event=delivery.event,
        attempt=delivery.attempt,
        status=reply.status,
        duration_ms=reply.duration_ms,
    )


def attempted(
    hook: HookSaved, delivery_id: str, event: str, key: str, attempt: int, reply: Reply
) -> DeliveryAttempted:
    """What the delivery log keeps of one attempt."""
    return DeliveryAttempted(
        hook_id=hook.hook_id,
        delivery_id=delivery_id,
        change_type=event,
        key=key,
        attempt=attempt,
        attempted_at_ms=int(time.time() * 1000),
        duration_ms=reply.duration_ms,
        status=reply.status,
        error=reply.error or None,
        response=reply.body[:_RESPONSE_CHARS_MAX],
    )
