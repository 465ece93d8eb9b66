"""Reading feed topics as one of a group: live records by assignment, old ones by place.

Two consumers in two threads. The live one is a member of a group, so several gateways share the
partitions; it begins at the end of what it is given, keeps the newest records of each partition in
memory, and commits nothing: what was done is remembered by cursors. The other one fetches older
stretches for whoever is behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidestore.connectors.kafka import (
    ClientSettings,
    KafkaSettings,
    LogError,
    QuietLogger,
    translate_kafka,
)
from tidestore.schemas.codec import CodecError, UnknownSchemaError, decode
from tidestore.schemas.events import Event

LOGGER: Final = logging.getLogger("tidestore.feed")

# Records kept per partition: a hook that is not further behind than this needs no second fetch.
RING_RECORDS: Final = 2_000
_POLL_SECONDS: Final = 0.2
# A stretch that does not come in this time is asked for again; others wait behind it.
_FETCH_SECONDS: Final = 1.0
_SESSION_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class FeedRecord:
    """One record of a feed.

    `event` is None for one that is poisoned; with `is_unknown` it is of a schema that this release
    does not know, and nobody may go past it.
    """

    offset: int
    event: Event | None
    is_unknown: bool = False


@dataclass(slots=True)
class Ring:
    """The newest records of a partition. Everything from `offset_first` on is in here."""

    offset_first: int
    offset_next: int
    records: deque[FeedRecord] = field(default_factory=deque)

    def add(self, record: FeedRecord) -> None:
        """Take the next record; the oldest goes."""
        self.records.append(record)
        self.offset_next = record.offset + 1
        if len(self.records) > RING_RECORDS:
            self.records.popleft()
            self.offset_first = self.records[0].offset

    def since(self, offset: int) -> list[FeedRecord]:
        """The records from an offset on; it must not be before `offset_first`."""
        found: list[FeedRecord] = []
        for record in reversed(self.records):
            if record.offset < offset:
                break
            found.append(record)
        found.reverse()
        return found


# topic, partition
Place = tuple[str, int]


class FeedReader:
    """Follows feed topics in a group. Callbacks run on the event loop it was started on."""

    def __init__(
        self,
        settings: KafkaSettings,
        group: str,
        topics: list[str],
        on_assigned: Callable[[set[Place]], None],
        on_news: Callable[[set[Place]], None],
    ) -> None:
        self._settings = settings
        self._group = group
        self._topics = topics
        self._on_assigned = on_assigned
        self._on_news = on_news
        self.rings: dict[Place, Ring] = {}
        self._is_stopping = threading.Event()
        # Whether anybody wants records; without that the group's share is kept and not read.
        self._is_wanted = False
        self._share: list[TopicPartition] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._old: Consumer | None = None
        self._old_lock = asyncio.Lock()

    async def start(self) -> None:
        """Join the group."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="feed-reader", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Leave the group."""
        self._is_stopping.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        if self._old is not None:
            await asyncio.to_thread(self._old.close)

    def want(self, *, is_wanted: bool) -> None:
        """Read or rest, from the next moment on. A reader at rest has its share and no rings."""
        self._is_wanted = is_wanted

    async def fetch(self, place: Place, offset: int, limit: int) -> list[FeedRecord]:
        """Up to `limit` records of a partition from an offset on; raises LogError.

        An offset that is compacted or deleted away gives the next record that is there.
        """
        await self._old_lock.acquire()  # one consumer, one stretch at a time: memory stays bounded
        fetching = asyncio.ensure_future(asyncio.to_thread(self._fetch, place, offset, limit))
        # Whoever asked may be cancelled; the thread goes on, and until it ends the consumer is its.
        # Two threads on one consumer take each other's assignment away.
        fetching.add_done_callback(self._fetched)
        return await asyncio.shield(fetching)

    def _fetched(self, fetching: asyncio.Future[list[FeedRecord]]) -> None:
        self._old_lock.release()
        if not fetching.cancelled():
            fetching.exception()  # it is told to whoever still waits, and to nobody else

    def _fetch(self, place: Place, offset: int, limit: int) -> list[FeedRecord]:
        try:
            if self._old is None:
                self._old = Consumer(self._client("earliest"), logger=QuietLogger())
            consumer = self._old
            consumer.assign([TopicPartition(*place, offset)])
            found: list[FeedRecord] = []
            first = consumer.poll(_FETCH_SECONDS)
            messages = [] if first is None else [first, *consumer.consume(limit - 1, 0.05)]
            for message in messages:
                error = message.error()
                if error is None:
                    if (message.topic(), message.partition()) == place:
                        found.append(record_of(message))
                elif error.code() != KafkaError._PARTITION_EOF:
                    raise translate_kafka(error)
            consumer.unassign()
        except KafkaException as error:
            raise translate_kafka(error) from None
        return found

    def _client(self, reset: str) -> ClientSettings:
        return self._settings.client(
            {
                "group.id": self._group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": reset,
                "enable.partition.eof": reset == "earliest",
                "session.timeout.ms": _SESSION_MS,
                # Range gives one member the same partition number of every topic.
                "partition.assignment.strategy": "range",
                "fetch.error.backoff.ms": 50,
                "queued.max.messages.kbytes": 8 * 1024,
                # See connectors/view.py; a hook is rung within a blink all the same.
                "queued.min.messages": 1 if reset == "latest" else 1_000,
                "fetch.queue.backoff.ms": 10,
            }
        )

    # Everything below runs in the reader's thread.

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            consumer = Consumer(self._client("latest"), logger=QuietLogger())
            try:
                consumer.subscribe(self._topics, on_assign=self._assigned, on_revoke=self._revoked)
                is_reading = False
                while not self._is_stopping.is_set():
                    if is_reading != self._is_wanted:
                        is_reading = self._is_wanted
                        if self._share:  # else it is begun when it comes
                            self._begin(consumer)
                    first = consumer.poll(_POLL_SECONDS)
                    if first is not None:
                        self._take([first, *consumer.consume(499, 0)])
            except (KafkaException, LogError) as error:
                LOGGER.warning("cannot follow the feed, trying again: %s", error)
                self._is_stopping.wait(1.0)
            finally:
                self._on_loop(lambda: self._set_rings({}, set()))
                with contextlib.suppress(KafkaException, RuntimeError):
                    consumer.close()

    def _assigned(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._share = places
        self._begin(consumer)

    def _begin(self, consumer: Consumer) -> None:
        """Read our share from its end on, for whoever is behind fetches the rest; or read nothing.

        Called again when that changes. The group knows nothing of it: our share stays ours.
        """
        rings: dict[Place, Ring] = {}
        share: set[Place] = {(place.topic, place.partition) for place in self._share}
        places = self._share if self._is_wanted else []
        for place in places:
            _, end = consumer.get_watermark_offsets(place, timeout=10)
            place.offset = end
            rings[place.topic, place.partition] = Ring(end, end)
        consumer.assign(places)
        self._on_loop(lambda: self._set_rings(rings, share))

    def _revoked(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        del consumer, places
        self._share = []
        self._on_loop(lambda: self._set_rings({}, set()))

    def _take(self, messages: list[Message]) -> None:
        records: list[tuple[Place, FeedRecord]] = []
        for message in messages:
            error = message.error()
            if error is None:
                place = (str(message.topic()), int(message.partition() or 0))
                records.append((place, record_of(message)))
                continue
            failure = translate_kafka(error)
            if not failure.is_retryable:
                raise failure
        if records:
            self._on_loop(lambda: self._receive(records))

    def _on_loop(self, call: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closing
                self._loop.call_soon_threadsafe(call)

    # On the event loop: rings are read and changed there alone.

    def _set_rings(self, rings: dict[Place, Ring], share: set[Place]) -> None:
        self.rings = rings
        self._on_assigned(share)

    def _receive(self, records: list[tuple[Place, FeedRecord]]) -> None:
        news: set[Place] = set()
        for place, record in records:
            ring = self.rings.get(place)
            if ring is not None:
                ring.add(record)
                news.add(place)
        if news:
            self._on_news(news)


def record_of(message: Message) -> FeedRecord:
    """A consumed message as a record of the feed."""
    offset, raw = message.offset(), message.value()
    assert offset is not None, "a consumed message has a place"  # noqa: S101
    event: Event | None = None
    is_unknown = False
    try:
        event = decode(raw) if isinstance(raw, bytes) else None
    except UnknownSchemaError as error:
        LOGGER.error("feed record at %d: %s", offset, error)
        is_unknown = True
    except CodecError as error:
        LOGGER.error("feed record at %d is passed over: %s", offset, error)
    return FeedRecord(offset, event, is_unknown)
