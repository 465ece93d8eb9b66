"""A view: a local SQLite table folded from compacted topics, rebuilt from Kafka at will.

    topics --consumer--> fold(records) + offsets, one transaction --> tables <-- queries

The offsets of the fold are stored in the same transaction as its result, so a kill at any
instruction leaves a view that is behind, never wrong. Nothing but Kafka is needed to make it again,
which also is what happens, from the first record on, whenever what was folded may not be what the
log now holds (design point 10):

- the fold's own version, or the cluster's id of a topic, is another one;
- the log ends before what was folded, or its leader epoch says that a tail was cut and refilled;
- a lone broker stopped without a clean shutdown since (`unclean_stops`).

One thread consumes and folds. Queries run on the event loop's thread with a connection of their
own; SQLite's write-ahead log lets both go on at once.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from tidestore.connectors.kafka import (
    KafkaSettings,
    LogError,
    LogUnavailableError,
    QuietLogger,
    translate_kafka,
)
from tidestore.connectors.pace import SPARE_TIME
from tidestore.connectors.provision import topic_ids
from tidestore.connectors.view_tables import UNCLEAN_STOPS, Place, ViewTables
from tidestore.schemas.codec import PoisonedRecordError, UnknownSchemaError, decode
from tidestore.schemas.events import Event

LOGGER: Final = logging.getLogger("tidestore.view")

# One transaction: enough to make SQLite's commit cheap per record, little enough that a reader
# who waits for a position waits for few others.
BATCH_RECORDS: Final = 500
_POLL_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 1.0
# A record of an unknown schema is looked at again this often: a newer release may be running now.
_STUCK_SECONDS: Final = 5.0
_QUEUE_KIB: Final = 16 * 1024
# How long records gather when the machine has no time to spare (connectors/pace.py). Whoever waits
# for a position ends that.
GATHER_SECONDS: Final = 0.1

_TRUNCATED: Final = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError._LOG_TRUNCATION,
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)


@dataclass(frozen=True, slots=True)
class Folded:
    """One record as a fold gets it. `event` is None when it was poisoned: `reason` says why."""

    topic: str
    partition: int
    offset: int
    key: str
    event: Event | None
    timestamp_ms: int
    reason: str = ""


class Fold(Protocol):
    """What a view makes of records. All methods but `create` run in the view's thread."""

    # Grows with every change of tables or meaning: the view is then built anew.
    version: int

    def create(self, db: sqlite3.Connection) -> None:
        """Create the tables, empty."""
        ...

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """Take records in, in order per partition; commits with their offsets or not at all."""
        ...

    def folded(self, records: Sequence[Folded]) -> None:
        """Called after the commit, to tell others what is new. Must not block."""
        ...


class RefoldNeededError(Exception):
    """What was folded is not what the log holds; begin again."""


class View:
    """Follows topics into a fold. Belongs to the event loop it was started on."""

    def __init__(
        self,
        path: Path,
        fold: Fold,
        settings: KafkaSettings,
        topics: Iterable[str],
        *,
        gather_seconds: float = GATHER_SECONDS,
    ) -> None:
        self._path = path
        self._fold = fold
        self._settings = settings
        self._topics = list(topics)
        self._gather_seconds = gather_seconds
        self._ends: dict[Place, int] = {}
        self._stuck: dict[Place, tuple[int, float]] = {}
        self._waiters: list[tuple[dict[Place, int], asyncio.Future[None]]] = []
        self._is_stopping = threading.Event()
        self._hurry = threading.Event()
        self._is_changed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tables: ViewTables | None = None
        self._reader: sqlite3.Connection | None = None
        self.refolds = 0

    async def start(self) -> None:
        """Open the tables and begin to follow; does not wait for anything to be folded."""
        self._loop = asyncio.get_running_loop()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        ViewTables(self._path, self._fold).close()  # so that readers find tables
        self._reader = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._reader.row_factory = sqlite3.Row
        self._thread = threading.Thread(target=self._run, name=f"view-{self._path.stem}")
        self._thread.daemon = True
        self._thread.start()

    async def stop(self) -> None:
        """Stop following and close; waiters are told that the view is gone."""
        self._is_stopping.set()
        self._hurry.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(LogUnavailableError("the view was stopped"))
        self._waiters.clear()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Rows of a query that is answered from an index: call it on the event loop's thread."""
        assert self._reader is not None, "start() comes first"  # noqa: S101
        return self._reader.execute(sql, parameters).fetchall()

    def offset_next(self, topic: str, partition: int) -> int:
        """The offset after the last folded record of a partition; 0 before the first."""
        return self._ends.get((topic, partition), 0)

    async def reached(
        self, topic: str, offsets_next: dict[int, int], *, timeout_seconds: float
    ) -> None:
        """Wait until the view holds each partition up to the given next offset.

        Raises LogUnavailableError when it does not get there in time.
        """
        wanted = {(topic, partition): offset for partition, offset in offsets_next.items()}
        if self._has(wanted):
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((wanted, waiter))
        self._hurry.set()
        if self._has(wanted):  # the thread may have committed just before the append
            self._wake()
        try:
            await asyncio.wait_for(waiter, timeout_seconds)
        except TimeoutError:
            raise LogUnavailableError(f"the view is behind {topic}") from None

    def follow(self, topics: Iterable[str]) -> None:
        """Follow these topics from now on. New ones must exist; those left out are forgotten."""
        wanted = list(topics)
        if wanted != self._topics:
            self._topics = wanted
            self._is_changed.set()
            self._hurry.set()

    def stuck(self) -> dict[Place, int]:
        """Partitions that stand before a record of an unknown schema, and its offset."""
        return {place: offset for place, (offset, _) in self._stuck.items()}

    def _has(self, wanted: dict[Place, int]) -> bool:
        ends = self._ends
        return all(ends.get(place, 0) >= offset for place, offset in wanted.items())

    def _wake(self) -> None:
        """In the event loop: settle the waiters whose position is reached."""
        if not self._waiters:
            return
        left = []
        for wanted, waiter in self._waiters:
            if waiter.done():
                continue
            if self._has(wanted):
                waiter.set_result(None)
            else:
                left.append((wanted, waiter))
        self._waiters = left

    # Everything below runs in the view's thread.

    def _run(self) -> None:
        self._tables = ViewTables(self._path, self._fold)
        while not self._is_stopping.is_set():
            try:
                self._follow()
            except RefoldNeededError as error:
                LOGGER.warning("%s: folding again from the start: %s", self._path.stem, error)
                # First forget how far we were: a reader must wait, not look into empty tables.
                self._ends.clear()
                self._tables.clear()
                self.refolds += 1
            except (KafkaException, LogError) as error:
                LOGGER.warning("%s: cannot follow, trying again: %s", self._path.stem, error)
                self._is_stopping.wait(_RETRY_SECONDS)
            except Exception:
                # A defect in a fold must be seen and must not end the thread in silence: readers
                # would wait for a position that never comes.
                LOGGER.exception("%s: the fold failed, trying again", self._path.stem)
                self._is_stopping.wait(_RETRY_SECONDS)
        self._tables.close()

    def _follow(self) -> None:
        consumer = Consumer(
            self._settings.client(
                {
                    "group.id": "tidestore-view",  # demanded by the library; nothing is committed
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "error",
                    "enable.partition.eof": True,
                    "fetch.error.backoff.ms": 50,
                    # What was fetched is folded before more is asked for, so that one request
                    # brings all that came meanwhile.
                    "queued.min.messages": 1,
                    "fetch.queue.backoff.ms": 10,
                    "queued.max.messages.kbytes": _QUEUE_KIB,
                }
            ),
            logger=QuietLogger(),
        )
        try:
            self._stuck.clear()
            self._is_changed.clear()
            consumer.assign(self._places(consumer, self._topics))
            while not self._is_stopping.is_set() and not self._is_changed.is_set():
                first = consumer.poll(_POLL_SECONDS)
                self._retry_stuck(consumer)
                if first is not None:
                    self._take([first, *consumer.consume(BATCH_RECORDS - 1, 0)], consumer)
                    self._gather()
        finally:
            consumer.close()

    def _gather(self) -> None:
        """Leave what comes where it is for a moment, if turns are scarce and nobody waits."""
        if SPARE_TIME.is_short() and not self._waiters:
            self._hurry.wait(self._gather_seconds)
        if not self._is_stopping.is_set():
            self._hurry.clear()

    def _places(self, consumer: Consumer, topics: list[str]) -> list[TopicPartition]:
        """Where to go on reading; raises RefoldNeededError."""
        tables = self._open_tables()
        tables.end(topics)
        identity = {
            UNCLEAN_STOPS: str(self._settings.unclean_stops), **topic_ids(self._settings, topics)
        }  # fmt: skip
        if tables.contradicts(identity):
            raise RefoldNeededError("topics or broker are not the ones that were folded")
        tables.set_identity(identity)
        stored = tables.offsets()
        places = []
        for topic in topics:
            for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
                offset, epoch = stored.get((topic, partition), (OFFSET_BEGINNING, -1))
                place = TopicPartition(topic, partition, offset)
                if offset != OFFSET_BEGINNING:
                    _, end = consumer.get_watermark_offsets(place, timeout=10)
                    if end < offset:
                        raise RefoldNeededError(f"{topic}/{partition} ends before what was folded")
                    if epoch >= 0:
                        # librdkafka then asks the broker whether that epoch reached this offset.
                        place = TopicPartition(topic, partition, offset, leader_epoch=epoch)
                    self._ends[topic, partition] = offset
                places.append(place)
        return places

    def _open_tables(self) -> ViewTables:
        assert self._tables is not None, "only called by the thread"  # noqa: S101
        return self._tables

    def _take(self, messages: list[Message], consumer: Consumer) -> None:
        records: list[Folded] = []
        epochs: dict[Place, int] = {}
        ends: dict[Place, int] = {}
        for message in messages:
            place = (_text(message.topic()), _number(message.partition()))
            error = message.error()
            if error is not None:
                self._take_error(place, message, error, ends)
            elif place not in self._stuck:
                record = self._read(place, message, consumer)
                if record is not None:
                    records.append(record)
                    ends[place] = record.offset + 1
                    epochs[place] = -1 if (e := message.leader_epoch()) is None else e
        if records:
            self._open_tables().fold(records, ends, epochs)
            self._fold.folded(records)
        for place, end in ends.items():
            self._ends[place] = max(end, self._ends.get(place, 0))
        if ends and self._loop is not None and not self._is_stopping.is_set():
            self._loop.call_soon_threadsafe(self._wake)

    def _take_error(
        self, place: Place, message: Message, error: KafkaError, ends: dict[Place, int]
    ) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            if place not in self._stuck:
                ends[place] = _number(message.offset())
        elif error.code() in _TRUNCATED:
            raise RefoldNeededError(f"{place[0]}/{place[1]}: {error.str()}")
        else:
            failure = translate_kafka(error)
            if not failure.is_retryable:
                raise failure
            LOGGER.info("%s: %s", self._path.stem, failure)

    def _read(self, place: Place, message: Message, consumer: Consumer) -> Folded | None:
        """A message as a record; None stops its partition here."""
        offset = _number(message.offset())
        raw_key, raw = message.key() or b"", message.value()
        key = _bytes(raw_key).decode("utf-8", "replace")
        _, timestamp_ms = message.timestamp()
        event, reason = None, ""
        try:
            event = decode(raw) if isinstance(raw, bytes) else None
            reason = "" if event is not None else "has no value"
        except PoisonedRecordError as error:
            reason = str(error)
            LOGGER.error("%s/%d at %d is poisoned: %s", *place, offset, reason)
        except UnknownSchemaError as error:
            # Nothing of this partition may be skipped: a newer release will read it.
            LOGGER.error("%s/%d stops at %d: %s", *place, offset, error)
            self._stuck[place] = (offset, time.monotonic() + _STUCK_SECONDS)
            consumer.pause([TopicPartition(*place)])
            return None
        return Folded(place[0], place[1], offset, key, event, timestamp_ms, reason)

    def _retry_stuck(self, consumer: Consumer) -> None:
        now = time.monotonic()
        for place, (offset, due) in list(self._stuck.items()):
            if now >= due:
                del self._stuck[place]
                consumer.seek(TopicPartition(*place, offset))
                consumer.resume([TopicPartition(*place)])


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _text(value: str | None) -> str:
    assert value is not None, "a consumed message has a topic"  # noqa: S101
    return value


def _number(value: int | None) -> int:
    assert value is not None, "a consumed message has a place"  # noqa: S101
    return value
