"""The feed: log and copies joined into `changes.<dataset>`, in order per key, each change once.

    log --Faust agent--> Intake --> Announcer --append--> changes.<dataset>
    copies.*, changes.* --View--> touched keys --^              (claims and stamps as for copies)

Hooks, streams and outsiders read `changes.*` and nothing else, so that order and cursor are one.
A log record is finished when its announcement is confirmed; what a copy's record owes is found in
the view. Killed between two appends: the view of our own past words tells where to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from tidestore.connectors.correlation import correlated
from tidestore.connectors.directory import Directory, Served, served
from tidestore.connectors.generations import find_move, run_until_moved
from tidestore.connectors.holdings import AllHeld, Holdings
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LONG_LINGER_MS, LogWriter
from tidestore.connectors.provision import provision
from tidestore.connectors.traces import span
from tidestore.connectors.view import View
from tidestore.schemas.events import ChangeAnnounced, ObjectRedacted, ObjectWritten
from tidestore.schemas.objects import find_key_parts
from tidestore.schemas.topics import partition_of
from tidestore.streams.announce import announcements, first_announcement, lifted, redacted
from tidestore.streams.app import LONG_GATHER_SECONDS
from tidestore.streams.feeds_view import FeedsFold, FeedsQueries, Touched
from tidestore.streams.hidden import Lifts, name_of
from tidestore.streams.intake import Intake
from tidestore.streams.member import Assignee, GroupMember
from tidestore.streams.settings import FeedsSettings

LOGGER: Final = logging.getLogger("tidestore.feeds")

T = TypeVar("T")

_RECORD_PAUSE_SECONDS: Final = 1.0
_MEMORIES_MAX: Final = 5_000


class Announcer:
    """Announces changes of keys, one at a time per key. Belongs to the worker's event loop."""

    def __init__(
        self,
        settings: FeedsSettings,
        writer: LogWriter,
        view: View,
        holdings: dict[str, Holdings],
        replicas: Mapping[str, Served],
        lifts: Lifts,
    ) -> None:
        self._settings = settings
        # The replicas that are enabled now: kept up to date by the worker.
        self._replicas = replicas
        self._writer = writer
        self._view = view
        self._queries = FeedsQueries(view)
        self._lifts = lifts
        self._holdings = holdings
        self._busy: dict[str, asyncio.Future[None]] = {}
        # The last announcements that were confirmed: topic, partition, offset, record.
        self._recent: dict[str, tuple[str, int, int, ChangeAnnounced]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, event: ObjectWritten | ObjectRedacted, log_offset: int) -> None:
        """Announce a record of the log, and what its copies owe by now."""
        if isinstance(event, ObjectRedacted):
            await self._handle_redacted(event)
            return

        def changes() -> list[ChangeAnnounced]:
            last, owed = self._last(event.key), []
            if last is not None and last.is_redacted and self._lifts.is_lifted(event.key):
                last = lifted(last, name=name_of(event))
                owed.append(last)
            if last is None:
                last = first_announcement(
                    event, log_offset, name=name_of(event), expected=tuple(self._replicas)
                )
                owed.append(last)
            return [*owed, *self._owed(last)]

        async with self._alone(event.key):
            last = self._last(event.key)
            if last is not None and last.is_redacted:
                # Of a lift, or of a gateway that was frozen: `redactions` says which.
                await self._lifts.read()
            await self._say(event.key, changes)

    async def _handle_redacted(self, event: ObjectRedacted) -> None:
        """Announce that an object is hidden: when it is, not when the last replica is done.

        Of what was never announced there is nothing to take back. Killed before: the log's record
        is read again.
        """

        def changes() -> list[ChangeAnnounced]:
            last = self._last(event.key)
            if last is None:
                return []
            hidden = redacted(last, event)
            return [*([hidden] if hidden else []), *self._owed(hidden or last)]

        async with self._alone(event.key):
            await self._say(event.key, changes)

    async def hand_over(self, event: ObjectWritten, log_offset: int, lease_ms: int) -> bool:
        """Nothing else remembers an announcement: its record stays unfinished until it is made."""
        del event, log_offset, lease_ms
        return False

    def seconds_under_way(self, key: str) -> float:
        """An announcement is one append; there is nothing slow to hand over."""
        del key
        return 0.0

    async def park_unreadable(self, key: str, log_offset: int, reason: str) -> None:
        """The replicas' workers set poison aside; there is nothing to announce about it."""
        del key, log_offset, reason

    def touch(self, touched: list[Touched]) -> None:
        """Copies of these keys changed: look at those whose partition we hold."""
        ours = {
            p for p, _ in touched if any(h.stamp(p) is not None for h in self._holdings.values())
        }
        for key in {key for partition, key in touched if partition in ours}:
            task = asyncio.create_task(self._touched(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def held(self, partition: int) -> None:
        """A partition was taken: announce what its last owner still owed."""
        self.touch([(partition, key) for key in self._queries.owed(partition)])
        for topic in self._holdings:
            for late in self._queries.overruled(topic, partition):
                self._say_again(late)

    def repeat(self, topic: str, partition: int, late: ChangeAnnounced) -> None:
        """A late word of another worker stands behind the right one: say the right one again."""
        holdings = self._holdings.get(topic)
        if holdings is not None and holdings.stamp(partition) is not None:
            self._say_again(late)

    def _say_again(self, late: ChangeAnnounced) -> None:
        def changes() -> list[ChangeAnnounced]:
            # The late one itself when nothing else is known: it may be the true owner's word,
            # overtaken by a claim of somebody who woke up. What followed it is found anew.
            last = self._last(late.key) or late
            return [last, *self._owed(last)]

        async def again() -> None:
            async with self._alone(late.key):
                await self._say(late.key, changes)

        task = asyncio.create_task(again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Stop what is under way; it is found again by whoever takes the partitions."""
        for task in self._tasks:
            task.cancel()

    async def _touched(self, key: str) -> None:
        def changes() -> list[ChangeAnnounced]:
            last = self._last(key)
            # Without one its log record comes, and looks at the copies then.
            return self._owed(last) if last is not None else []

        async with self._alone(key):
            await self._say(key, changes)

    def _owed(self, last: ChangeAnnounced) -> list[ChangeAnnounced]:
        """What is so and was not announced yet, in the order in which it is to be."""
        key = last.key
        urls = {name: item.address.native_url(key) for name, item in self._replicas.items()}
        return announcements(last, self._queries.copies(key), urls)

    def _last(self, key: str) -> ChangeAnnounced | None:
        """The last announcement of a key that counts; the partition must be held now."""
        memory = self._recent.get(key)
        if memory is not None:
            topic, partition, _, record = memory
            # While we hold the partition under the same claim nobody else's word counts. Under
            # another one the view has folded all words before it, and ours after it was late.
            if self._holdings[topic].stamp(partition) == record.claim:
                return record
            del self._recent[key]
        return self._queries.announced(key)

    def _topic_of(self, key: str) -> str:
        parts = find_key_parts(key)
        return self._settings.topics.changes(parts.dataset) if parts is not None else ""

    async def _say(self, key: str, what: Callable[[], Sequence[ChangeAnnounced]]) -> None:
        """Append until confirmed, or until the partition is not ours any more.

        What is to be said is asked once the stamp is there: a claim of somebody else's may have
        made our last word a late one, and what follows it must not be said before it is said again.
        Killed in between: some of them are in the log, and the next owner goes on from there.
        """
        topic = self._topic_of(key)
        partition = partition_of(key, self._settings.topics.partitions)
        holdings = self._holdings.get(topic)
        if holdings is None:
            LOGGER.error("%s is of a dataset that is not configured", key)
            return
        while True:
            stamp = await holdings.await_stamp(partition)
            if stamp is None or not (changes := what()):
                return
            now_ms = int(time.time() * 1000)
            stamped = [replace(change, claim=stamp, announced_at_ms=now_ms) for change in changes]
            try:
                with (
                    correlated(stamped[-1].request_id),
                    span("announce", key=key, event=stamped[-1].type, changes=len(stamped)),
                ):
                    placed = await self._writer.append_row(topic, partition, key, stamped)
            except LogError as error:
                LOGGER.warning("cannot announce %s yet: %s", key, error)
                await asyncio.sleep(_RECORD_PAUSE_SECONDS)
                continue
            self._recent[key] = (topic, partition, placed.offset, stamped[-1])
            if len(self._recent) > _MEMORIES_MAX:
                self._forget_folded()
            return

    def _forget_folded(self) -> None:
        self._recent = {
            key: memory
            for key, memory in self._recent.items()
            if self._view.offset_next(memory[0], memory[1]) <= memory[2]
        }

    @contextlib.asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        while (other := self._busy.get(key)) is not None:
            await asyncio.wait([other])
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._busy[key] = done
        try:
            yield
        finally:
            del self._busy[key]
            done.set_result(None)


class FeedsWorker:
    """One worker of the feeds. Runs until stopped or until it has to be started again."""

    def __init__(self, settings: FeedsSettings) -> None:
        self._settings = settings
        self._name = f"feeds-{settings.worker_id}"
        self._stack = contextlib.AsyncExitStack()
        self._announcer: Announcer | None = None
        self._holdings: dict[str, Holdings] = {}
        self._replicas: dict[str, Served] = {}
        self._moved = asyncio.Event()

    async def start(self) -> None:
        """Open everything and join the group. Raises LogError."""
        settings, topics = self._settings, self._settings.topics
        replicas = [(item.name, item.incarnation) for item in settings.replicas]
        specs = topics.specs(replicas, list(settings.datasets))
        await provision(settings.kafka, specs, replication=topics.replication)
        writer = LogWriter(settings.kafka, linger_ms=LONG_LINGER_MS, is_patient=True)
        await writer.start()
        self._stack.push_async_callback(writer.stop)
        await self._open_directory(writer)
        loop = asyncio.get_running_loop()
        fold = FeedsFold(
            lambda touched: _soon(loop, self._touched, touched),
            lambda claims: _soon(loop, self._claimed, claims),
            lambda late: _soon(loop, self._overruled, late),
            topics,
        )
        feeds = [topics.changes(dataset) for dataset in settings.datasets]
        # While the machine has no time to spare, copies come first, and what is announced a moment
        # later is announced together: by then most of what is to be said of a key is so.
        view = View(
            settings.data_folder / "feeds.sqlite",
            fold,
            settings.kafka,
            self._followed(),
            gather_seconds=LONG_GATHER_SECONDS,
        )
        await view.start()
        self._stack.push_async_callback(view.stop)
        self._directory.listen(lambda: self._replicas_changed(view))
        self._replicas_changed(view)  # what changed since it was read
        worker = f"{self._name}/{os.getpid()}"
        for topic in feeds:
            held = Holdings(writer, view, topic, worker, self._held)
            self._stack.push_async_callback(held.close)
            self._holdings[topic] = held
        lifts = Lifts(view, writer, topics.redactions)
        self._announcer = Announcer(settings, writer, view, self._holdings, self._replicas, lifts)
        await lifts.read_once()  # not for ever: who asks a process to end waits for its start
        intake = Intake(
            self._announcer, AllHeld(list(self._holdings.values())), writer,
            poison_topic=None, name=self._name, seek=self._seek,
        )  # fmt: skip
        assignees: list[Assignee] = list(self._holdings.values())
        self._member = GroupMember(
            topics.group("feeds"),
            topics.log,
            settings.kafka,
            intake,
            assignees,
            worker_id=settings.worker_id,
            session_seconds=settings.session_seconds,
            data_folder=settings.data_folder,
            gather_seconds=LONG_GATHER_SECONDS,
        )
        await self._member.start()
        LOGGER.info("%s: ready", self._name)

    async def _open_directory(self, writer: LogWriter) -> None:
        settings = self._settings
        path = settings.data_folder / "replicas.sqlite"
        self._directory = Directory(settings.kafka, settings.topics.replicas, path)
        self._stack.push_async_callback(self._directory.stop)
        await self._directory.start(writer)
        self._use_replicas()

    async def run(self) -> None:
        """Wait for the end. Raises GenerationMovedError when this generation is over."""
        await run_until_moved(self._member.run(), self._moved)

    async def stop(self) -> None:
        """Finish what is under way and close everything."""
        if hasattr(self, "_member"):
            await self._member.stop()
        if self._announcer is not None:
            self._announcer.close()
        await self._stack.aclose()

    def _use_replicas(self) -> None:
        found = served(self._settings.replicas, self._directory.known(), self._settings.keyring)
        self._replicas.clear()
        self._replicas.update(found)

    def _replicas_changed(self, view: View) -> None:
        """On the loop: expect, and follow, the replicas that are enabled now (design point 7)."""
        self._use_replicas()
        view.follow(self._followed())
        if find_move(self._settings.topics, self._directory.generations()) is not None:
            self._moved.set()

    def _followed(self) -> list[str]:
        topics = self._settings.topics
        return [
            topics.redactions,
            *(topics.changes(dataset) for dataset in self._settings.datasets),
            *(topics.copies(item.name, item.incarnation) for item in self._replicas.values()),
        ]

    async def _seek(self, partition: int, offset: int) -> None:
        await self._member.seek(partition, offset)

    async def _held(self, partition: int) -> None:
        if self._announcer is not None:
            await self._announcer.held(partition)

    def _touched(self, touched: list[Touched]) -> None:
        if self._announcer is not None:
            self._announcer.touch(touched)

    def _claimed(self, claims: list[tuple[str, int, int, str]]) -> None:
        for topic, partition, offset, worker in claims:
            if topic in self._holdings:
                self._holdings[topic].claimed(partition, offset, worker)

    def _overruled(self, late: list[tuple[str, int, ChangeAnnounced]]) -> None:
        for topic, partition, change in late:
            if self._announcer is not None:
                self._announcer.repeat(topic, partition, change)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[T], None], value: T) -> None:
    """Called in the view's thread; the loop may be closing."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, value)
