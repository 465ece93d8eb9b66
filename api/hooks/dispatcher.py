"""Rings the hooks: one pump per hook and held partition, fed from the changes topics.

    changes.* --FeedReader (group)--> rings --> Pump(hook, partition) --POST--> receiver
                                                   |--> cursors (claimed, stamped)
                                                   '--> deliveries

Gateways share the partitions as members of one group; a claim on `cursors` tells a late gateway
that its partition has gone. Built to grow: a pump knows nothing of how records are found, matched
or stored, so filters, batches and streams can be other pumps on the same cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import replace
from typing import Final

from tidestore.api.hooks.cursors import CursorsFold, find_cursor, find_cursors
from tidestore.api.hooks.lanes import Lanes
from tidestore.api.hooks.pump import Bench, Pump
from tidestore.api.hooks.registry import HookBook
from tidestore.api.metrics import GatewayMetrics
from tidestore.api.settings import GatewaySettings
from tidestore.connectors.feed_reader import FeedReader, Place
from tidestore.connectors.holdings import Holdings
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.view import View
from tidestore.schemas.events import CursorMoved, DeliveryAttempted, HookSaved
from tidestore.schemas.objects import check_dataset
from tidestore.schemas.positions import Cut
from tidestore.schemas.topics import partition_of

LOGGER: Final = logging.getLogger("tidestore.hooks")


class Dispatcher:
    """The hooks' side of one gateway. Belongs to its event loop."""

    def __init__(
        self,
        settings: GatewaySettings,
        writer: LogWriter,
        book: HookBook,
        metrics: GatewayMetrics,
    ) -> None:
        self._settings = settings
        self._topics = settings.topics
        self._writer = writer
        self._book = book
        self._pumps: dict[tuple[str, Place], tuple[HookSaved, Pump, asyncio.Task[None]]] = {}
        self._assigned: set[Place] = set()
        self._feeds = {dataset: self._topics.changes(dataset) for dataset in settings.datasets}
        group = self._topics.group("dispatch")
        self._reader = FeedReader(
            settings.kafka, group, list(self._feeds.values()), self._on_assigned, self._on_news
        )
        self._view = View(
            settings.data_folder / "cursors.sqlite",
            CursorsFold(self._on_claims),
            settings.kafka,
            [self._topics.cursors],
        )
        self._holdings = Holdings(
            writer,
            self._view,
            self._topics.cursors,
            f"gateway-{settings.gateway_id}/{os.getpid()}",
            self._on_held,
        )
        self._loop = asyncio.get_running_loop()
        self._bench = Bench(
            reader=self._reader,
            sender=book.sender,
            generation=self._topics.generation,
            replay_ms=self._topics.windows.replay_ms,
            save=self._save,
            tell=self._tell,
            switch_off=self._switch_off,
            lanes=Lanes(),
            count=lambda outcome: metrics.deliveries.labels(outcome).inc(),
        )

    async def start(self) -> None:
        """Begin to ring."""
        await self._view.start()
        await self._reader.start()

    async def stop(self) -> None:
        """Stop ringing; cursors are saved as far as deliveries are done."""
        await self._reader.stop()
        await self._end(list(self._pumps))
        await self._holdings.close()
        await self._view.stop()

    def holds(self, partition: int) -> bool:
        """Whether this gateway has the claim on a partition of the cursors."""
        return self._holdings.stamp(partition) is not None

    def progress_of(self, hook_id: str) -> list[CursorMoved]:
        """How far a hook has come on each partition, whichever gateway rings it."""
        return find_cursors(self._view, hook_id)

    def hooks_changed(self) -> None:
        """The hooks' view folded something; called in its thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._reconcile)

    # Callbacks of reader, view and holdings.

    def _on_assigned(self, places: set[Place]) -> None:
        self._assigned = places
        self._holdings.assign({partition for _, partition in places})
        self._reconcile()
        self._on_news(places)  # rings begin anew: what came before them has to be fetched

    def _on_news(self, places: set[Place]) -> None:
        for (_, place), (_, pump, _) in self._pumps.items():
            if place in places:
                pump.news.set()

    def _on_claims(self, claims: list[tuple[int, int, str]]) -> None:
        def tell() -> None:
            for partition, offset, worker in claims:
                self._holdings.claimed(partition, offset, worker)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(tell)

    async def _on_held(self, partition: int) -> None:
        del partition
        self._reconcile()

    def _reconcile(self) -> None:
        """Make the pumps be those of the active hooks on the held partitions."""
        held = set(self._holdings.held)
        hooks = {hook.hook_id: hook for hook in self._book.all() if hook.is_active}
        self._bench.lanes.keep(set(hooks))
        self._reader.want(is_wanted=bool(hooks))
        wanted = {
            (hook.hook_id, (topic, partition))
            for hook in hooks.values()
            if (topic := self._feeds.get(check_dataset(hook.dataset))) is not None
            for partition in held
            if (topic, partition) in self._assigned
        }
        stale = [
            name
            for name, (hook, _, _) in self._pumps.items()
            if name not in wanted or hooks[name[0]] != hook
        ]
        if stale:
            task = asyncio.ensure_future(self._end(stale))
            task.add_done_callback(lambda _: self._reconcile())
            return
        for name in wanted - self._pumps.keys():
            self._begin(hooks[name[0]], name[1])

    def _begin(self, hook: HookSaved, place: Place) -> None:
        cursor = find_cursor(self._view, hook.hook_id, place[1])
        if cursor is None:
            cut = Cut.parse(hook.start_cut)
            # Of an earlier generation of the log and without a cursor, it was saved by a gateway
            # that slept through the move: it hears the feed from its start, nothing is lost to it.
            is_ours = cut.generation == self._topics.generation
            first = cut.offsets_next[place[1]] if is_ours else 0
            cursor = CursorMoved(hook.hook_id, place[1], first, 0, 0)
        elif cursor.last_error or cursor.delivered:
            self._bench.lanes.note(hook.hook_id, is_taken=not cursor.last_error)
        try:
            secret = self._book.secret_of(hook)
        except ValueError as error:
            LOGGER.error("%s; the hook is not rung", error)
            return
        pump = Pump(self._bench, hook, secret, place, cursor)
        task = asyncio.create_task(pump.run())
        task.add_done_callback(lambda done: self._ended(hook, done))
        self._pumps[hook.hook_id, place] = (hook, pump, task)

    def _ended(self, hook: HookSaved, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error("the pump of hook %s broke", hook.hook_id, exc_info=error)
            for name, (_, _, other) in list(self._pumps.items()):
                if other is task:
                    del self._pumps[name]
            # Begun again from its saved cursor after a moment, not in a tight circle.
            self._loop.call_later(5.0, self._reconcile)

    async def _end(self, names: list[tuple[str, Place]]) -> None:
        ended = [self._pumps.pop(name)[2] for name in names if name in self._pumps]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    # What pumps ask for.

    async def _save(self, cursor: CursorMoved) -> bool:
        """Write a cursor; False when that is not possible now. Nothing is lost: it is behind."""
        stamp = self._holdings.stamp(cursor.partition)
        if stamp is None:
            return False
        stamped = replace(cursor, claim=stamp, moved_at_ms=int(time.time() * 1000))
        key = f"{cursor.hook_id}/{cursor.partition}"
        try:
            await self._writer.append(self._topics.cursors, cursor.partition, key, stamped)
        except LogError as error:
            LOGGER.warning("cannot save a cursor now: %s", error)
            return False
        return True

    async def _tell(self, attempt: DeliveryAttempted) -> None:
        partition = partition_of(attempt.hook_id, self._topics.partitions)
        try:
            await self._writer.append(self._topics.deliveries, partition, attempt.hook_id, attempt)
        except LogError as error:
            LOGGER.warning("cannot write the delivery log now: %s", error)

    async def _switch_off(self, hook: HookSaved) -> None:
        """410: the receiver is gone for good. The pumps end when the hook is folded."""
        LOGGER.warning("hook %s answered 410 and is switched off", hook.hook_id)
        off = replace(hook, is_active=False, updated_at_ms=int(time.time() * 1000))
        try:
            await self._book.save(off)
        except LogError as error:
            LOGGER.warning("cannot switch hook %s off now: %s", hook.hook_id, error)
