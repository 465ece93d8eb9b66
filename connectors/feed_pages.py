"""A page of the feed from any cursor on, and waiting for more: for readers who come by HTTP.

    cursor --places--> FeedPages --assign, read to the ends or to the limit--> page
                       FeedTail  --one consumer at the ends, while anybody waits--> woken

A page is read from the brokers by a consumer of its own, taken from a few that are kept; nothing
is remembered of a reader but what its cursor says. A reader who is at the end waits for the tail:
one thread and one consumer for all of them, at rest when nobody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from tidestore.connectors.feed_reader import FeedRecord, Place, record_of
from tidestore.connectors.kafka import (
    KafkaSettings,
    LogError,
    LogUnavailableError,
    QuietLogger,
    translate_kafka,
)

LOGGER: Final = logging.getLogger("tidestore.feed")

# Readers at once, a consumer each (a few MiB and three threads); a page takes milliseconds, so
# others wait their turn.
_PAGES_AT_ONCE: Final = 4
_TURN_SECONDS: Final = 10.0
# A page that is not full by then is given as it is; the reader comes again.
_PAGE_SECONDS: Final = 3.0
_REQUEST_SECONDS: Final = 10.0
# How often the tail's thread looks whether anybody has come or gone.
_POLL_SECONDS: Final = 0.2
# Each holds a connection to this gateway and a line in a list.
_WAITING_MAX: Final = 500


class CursorGoneError(Exception):
    """There is nothing at a reader's place any more: before the topic's beginning, or behind."""


@dataclass(slots=True)
class FeedPage:
    """What was read: records in the order of each partition, and where to go on.

    `is_end` says that all that was there has been read.
    """

    records: list[tuple[Place, FeedRecord]] = field(default_factory=list)
    offsets_next: dict[Place, int] = field(default_factory=dict)
    is_end: bool = False


class FeedPages:
    """Reads pages. Belongs to one event loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._turns = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._idle: list[Consumer] = []

    async def stop(self) -> None:
        """Let go of the consumers. No page may be under way."""
        for consumer in self._idle:
            await asyncio.to_thread(consumer.close)
        self._idle.clear()

    async def read(self, places: dict[Place, int], limit: int) -> FeedPage:
        """Up to `limit` records from these offsets on; 0 is the beginning, wherever that is.

        Raises CursorGoneError, LogError.
        """
        try:
            await asyncio.wait_for(self._turns.acquire(), _TURN_SECONDS)
        except TimeoutError:
            raise LogUnavailableError("too many read the feed at once") from None
        reading = asyncio.ensure_future(asyncio.to_thread(self._read, places, limit))
        # Whoever asked may be cancelled; the thread goes on, and the turn is its until it ends.
        reading.add_done_callback(self._ended)
        return await asyncio.shield(reading)

    def _ended(self, reading: asyncio.Future[FeedPage]) -> None:
        self._turns.release()
        if not reading.cancelled():
            reading.exception()  # told to whoever still waits

    def _read(self, places: dict[Place, int], limit: int) -> FeedPage:
        try:
            consumer = self._idle.pop()
        except IndexError:
            consumer = _consumer(self._settings)
        is_sound = False
        try:
            page = _read_page(consumer, places, limit)
            consumer.unassign()
            is_sound = True
        except KafkaException as error:
            raise translate_kafka(error) from None
        except CursorGoneError:
            consumer.unassign()
            is_sound = True
            raise
        finally:
            if is_sound:
                self._idle.append(consumer)
            else:
                with contextlib.suppress(KafkaException, RuntimeError):
                    consumer.close()
        return page


def _read_page(consumer: Consumer, places: dict[Place, int], limit: int) -> FeedPage:
    page = FeedPage(offsets_next=dict(places))
    consumer.assign(
        [TopicPartition(*place, offset or OFFSET_BEGINNING) for place, offset in places.items()]
    )
    left = set(places)
    deadline = time.monotonic() + _PAGE_SECONDS
    while left and len(page.records) < limit:
        first = consumer.poll(max(0.0, deadline - time.monotonic()))
        if first is None:
            break
        room = limit - len(page.records) - 1
        for message in [first, *(consumer.consume(room, 0) if room else ())]:
            _take(message, page, left)
    page.is_end = not left
    return page


def _take(message: Message, page: FeedPage, left: set[Place]) -> None:
    place = (str(message.topic()), int(message.partition() or 0))
    error, offset = message.error(), message.offset()
    if error is None and place in page.offsets_next:
        record = record_of(message)
        page.records.append((place, record))
        page.offsets_next[place] = record.offset + 1
    elif error is None:
        return  # of what this consumer read before
    elif error.code() == KafkaError._PARTITION_EOF:
        left.discard(place)
        if offset is not None and offset >= 0:
            # What compaction has taken at the end is behind the reader now.
            page.offsets_next[place] = offset
    elif error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise CursorGoneError
    else:
        failure = translate_kafka(error)
        if not failure.is_retryable:
            raise failure


class FeedTail:
    """Wakes whoever waits at the end of some topics. Belongs to one event loop."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[asyncio.Future[None], dict[Place, int]] = {}
        self._ends: dict[Place, int] = {}
        self._wanted: frozenset[Place] = frozenset()
        self._is_stopping = False
        self._called = threading.Event()
        self._thread: threading.Thread | None = None

    async def stop(self) -> None:
        """End the thread."""
        self._is_stopping = True
        self._called.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def beyond(self, places: dict[Place, int], seconds: float) -> bool:
        """Wait until one of these partitions has more than that; False when the time is over.

        Raises LogUnavailableError when too many wait.
        """
        if len(self._waiting) >= _WAITING_MAX:
            raise LogUnavailableError("too many wait at the end of the feed")
        woken: asyncio.Future[None] = self._loop.create_future()
        self._waiting[woken] = places
        self._want()
        try:
            await asyncio.wait_for(woken, seconds)
        except TimeoutError:
            return False
        finally:
            self._waiting.pop(woken, None)
            self._want()
        return True

    def _want(self) -> None:
        self._wanted = frozenset(place for places in self._waiting.values() for place in places)
        self._called.set()
        if self._wanted and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="feed-tail", daemon=True)
            self._thread.start()

    def _know(self, ends: dict[Place, int], *, is_new: bool) -> None:
        """On the loop: how far the partitions go now."""
        self._ends = ends if is_new else {**self._ends, **ends}
        for woken, places in self._waiting.items():
            if not woken.done() and any(
                self._ends.get(place, 0) > offset for place, offset in places.items()
            ):
                woken.set_result(None)

    # Everything below runs in the tail's thread.

    def _run(self) -> None:
        while not self._is_stopping:
            self._called.wait()
            consumer = _consumer(self._settings)
            try:
                self._follow(consumer)
            except (KafkaException, LogError) as error:
                LOGGER.warning("cannot follow the end of the feed, trying again: %s", error)
                self._called.clear()
                self._called.wait(1.0)
                self._called.set()
            finally:
                with contextlib.suppress(KafkaException, RuntimeError):
                    consumer.close()

    def _follow(self, consumer: Consumer) -> None:
        """Until nobody waits, or the brokers are not there."""
        followed: frozenset[Place] = frozenset()
        while not self._is_stopping:
            self._called.clear()
            wanted = self._wanted
            if not wanted:
                return
            if wanted != followed:
                followed = wanted
                self._begin(consumer, wanted)
            first = consumer.poll(_POLL_SECONDS)
            if first is None:
                continue
            ends: dict[Place, int] = {}
            for message in [first, *consumer.consume(499, 0)]:
                error = message.error()
                if error is None:
                    place = (str(message.topic()), int(message.partition() or 0))
                    ends[place] = int(message.offset() or 0) + 1
                elif error.code() not in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
                    failure = translate_kafka(error)
                    if not failure.is_retryable:
                        raise failure
            self._tell(ends, is_new=False)

    def _begin(self, consumer: Consumer, wanted: frozenset[Place]) -> None:
        places = [TopicPartition(*place) for place in sorted(wanted)]
        ends: dict[Place, int] = {}
        for place in places:
            _, end = consumer.get_watermark_offsets(place, timeout=_REQUEST_SECONDS)
            place.offset = end
            ends[place.topic, place.partition] = end
        consumer.assign(places)
        # What came since a waiter read its last page shows in the ends, so nothing is missed.
        self._tell(ends, is_new=True)

    def _tell(self, ends: dict[Place, int], *, is_new: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closing
            self._loop.call_soon_threadsafe(lambda: self._know(ends, is_new=is_new))


def _consumer(settings: KafkaSettings) -> Consumer:
    """A consumer of no group: it says itself where it reads."""
    return Consumer(
        settings.client(
            {
                "group.id": "tidestore-pages",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                # A place that is not there any more must be said, not silently replaced.
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.error.backoff.ms": 50,
                "queued.max.messages.kbytes": 8 * 1024,
                "queued.min.messages": 1_000,
            }
        ),
        logger=QuietLogger(),
    )
