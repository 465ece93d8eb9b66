"""One record of the log again, by its place: the bytes that rode inside an event.

A worker whose copy failed, or had to wait for a child, knows the record's offset and no more.
Reading the record again costs the broker a fetch; reading the object costs its origin a request,
and its egress.

Compaction may have removed the record, or the topic may have been made anew: then there is nothing
to be had here, and the caller asks the stores.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from tidestore.connectors.kafka import KafkaSettings, QuietLogger
from tidestore.schemas.codec import CodecError, decode
from tidestore.schemas.events import ObjectWritten

LOGGER: Final = logging.getLogger("tidestore.reread")

# A broker answers in milliseconds; one that does not is not waited for, the stores can be asked.
_SECONDS_MAX: Final = 2.0
# What is due after an outage stood side by side: so many of a record's neighbours are kept with it,
# and so many bytes of all that were read.
_NEIGHBOURS: Final = 100
_KEPT_BYTES_MAX: Final = 16 * 1024 * 1024


class LogReread:
    """Reads single records of one topic. Belongs to one event loop; one reads at a time."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._consumer: Consumer | None = None
        self._turn = asyncio.Lock()
        self._kept: OrderedDict[tuple[int, int], ObjectWritten] = OrderedDict()
        self._kept_bytes = 0

    async def find(self, partition: int, offset: int, key: str) -> ObjectWritten | None:
        """The event at a place, if it is still there and of this key, and carries its bytes."""
        async with self._turn:
            found = self._kept.get((partition, offset))
            if found is None:
                await asyncio.to_thread(self._read, partition, offset)
                found = self._kept.get((partition, offset))
        return found if found is not None and found.key == key else None

    async def close(self) -> None:
        """Let go of the broker."""
        async with self._turn:
            if self._consumer is not None:
                await asyncio.to_thread(self._consumer.close)
                self._consumer = None

    def _read(self, partition: int, offset: int) -> None:
        """Keep the record at a place and what follows it. In a thread; says nothing of trouble."""
        if self._consumer is None:
            self._consumer = self._new_consumer()
        try:
            self._consumer.assign([TopicPartition(self._topic, partition, offset)])
            first = self._consumer.poll(_SECONDS_MAX)
            if first is None:
                return
            # What came in the same answer is taken, as far as it is here.
            for message in [first, *self._consumer.consume(_NEIGHBOURS, timeout=0)]:
                place, value = message.offset(), message.value()
                if message.error() is None and place is not None and value is not None:
                    self._keep(partition, place, bytes(value))
        except KafkaException as error:
            where = f"{self._topic}/{partition} at {offset}"
            LOGGER.info("%s cannot be read again: %s", where, error)

    def _keep(self, partition: int, offset: int, value: bytes) -> None:
        try:
            event = decode(value)
        except CodecError:
            return
        if not isinstance(event, ObjectWritten) or event.data is None:
            return
        if (partition, offset) not in self._kept:
            self._kept_bytes += len(event.data)
        self._kept[partition, offset] = event
        while self._kept_bytes > _KEPT_BYTES_MAX and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped.data or b"")

    def _new_consumer(self) -> Consumer:
        return Consumer(
            self._settings.client(
                {
                    "group.id": "tidestore-reread",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "error",
                    # No more is fetched than is taken.
                    "queued.max.messages.kbytes": 4 * 1024,
                    "fetch.wait.max.ms": 50,
                }
            ),
            logger=QuietLogger(),
        )
