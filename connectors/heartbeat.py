"""No partition of the log stays without a record for longer than a segment's time.

A redacted object's bytes leave the log by compaction, and Kafka compacts closed segments alone. It
closes one when a record arrives after `segment.ms`: on a partition to which nobody writes any more
the bytes would lie in the open segment for ever, whatever `max.compaction.lag.ms` says (seen with
Kafka 4.4; the test is tests/integration/test_redacted_bytes.py).

    every gateway, now and then:  newest record of a partition older than segment.ms?
                                     |yes
                                  append PartitionTicked: compaction keeps one of them

So a redaction's record lies in a closed segment after twice that time at the latest, which is half
of what compaction has. Killed anywhere: the next look, of any gateway, sees the same. Two gateways
that look at once write two records.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tidestore.connectors.kafka import KafkaSettings, LogError, QuietLogger, translate_kafka
from tidestore.connectors.log import LogWriter
from tidestore.schemas.ticks import PartitionTicked
from tidestore.schemas.topics import Topics, tick_key

LOGGER: Final = logging.getLogger("tidestore.heartbeat")

# A look costs one request. Four in a segment's time, but not more often than each second, and at
# least every hour: a process may not live much longer.
_LOOKS: Final = 4
_LOOK_SECONDS_MIN: Final = 1.0
_LOOK_SECONDS_MAX: Final = 3_600.0
_REQUEST_SECONDS: Final = 10.0


class LogHeartbeat:
    """Belongs to one event loop. `name` is the id of the gateway."""

    def __init__(
        self, settings: KafkaSettings, topics: Topics, writer: LogWriter, name: str
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._writer = writer
        self._name = name
        self._admin: AdminClient | None = None

    async def run(self) -> None:
        """Look and tick until cancelled."""
        pause = self._topics.windows.segment_ms / 1000 / _LOOKS
        while True:
            await asyncio.sleep(min(_LOOK_SECONDS_MAX, max(_LOOK_SECONDS_MIN, pause)))
            try:
                await self.tick_quiet()
            except LogError as error:
                self._admin = None  # it may hold on to what the broker was before it restarted
                LOGGER.warning("quiet partitions of the log are looked at later: %s", error)

    async def tick_quiet(self) -> list[int]:
        """Write to each partition that has been quiet for too long; which ones. Raises LogError."""
        now_ms = int(time.time() * 1000)
        newest = await self._newest_ms()
        quiet = [
            partition
            for partition, moment_ms in newest.items()
            # An empty partition has nothing to compact.
            if 0 <= moment_ms < now_ms - self._topics.windows.segment_ms
        ]
        for partition in quiet:
            event = PartitionTicked(partition, self._name, now_ms)
            await self._writer.append(self._topics.log, partition, tick_key(partition), event)
        return quiet

    async def _newest_ms(self) -> dict[int, int]:
        """The broker's moment of each partition's newest record; -1 when there is none."""
        if self._admin is None:
            self._admin = AdminClient(self._settings.client(), logger=QuietLogger())
        asked = {
            TopicPartition(self._topics.log, number): OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
            for number in range(self._topics.partitions)
        }
        try:
            futures = self._admin.list_offsets(asked, request_timeout=_REQUEST_SECONDS)
            async with asyncio.timeout(2 * _REQUEST_SECONDS):
                return {
                    place.partition: (await asyncio.wrap_future(future)).timestamp
                    for place, future in futures.items()
                }
        except TimeoutError:
            raise LogError("the broker did not say when it was last written to") from None
        except KafkaException as error:
            raise translate_kafka(error) from None
