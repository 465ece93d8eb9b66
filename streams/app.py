"""Faust apps from settings: the only place where one is made, and where an agent is registered.

Faust gives us membership, assignment and the stream of records. It does not give us offsets: its
own accounting can commit past an unfinished record (docs/decisions/0003, and the test that shows
it), so the topic is declared without acknowledgements and committed by us.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.pace import SPARE_TIME
from tidestore.streams.credentials import credentials_of

# How far the fetcher may read ahead of the agent. Inline objects have up to 32 KiB: 32 MiB.
_BUFFER_RECORDS: Final = 1_024
_POLL_RECORDS: Final = 500
_METADATA_MS: Final = 5_000
# How long records gather when the machine has no time to spare (connectors/pace.py).
GATHER_SECONDS: Final = 0.05
# For what nobody's copy waits for.
LONG_GATHER_SECONDS: Final = 0.3

RecordHandler = Callable[[str, int, int, bytes, bytes], Awaitable[None]]


def make_app(
    name: str,
    kafka: KafkaSettings,
    *,
    worker_id: str,
    session_seconds: float,
    data_folder: Path,
    gather_seconds: float = GATHER_SECONDS,
) -> faust.App:
    """An app that is one consumer group. Must be called on the loop that will run it."""
    group = kafka.group(name)
    app = faust.App(
        group,
        broker=[f"kafka://{host}" for host in kafka.bootstrap.split(",")],
        broker_credentials=credentials_of(kafka),
        broker_session_timeout=session_seconds,
        broker_heartbeat_interval=session_seconds / 4,
        broker_request_timeout=max(40.0, session_seconds * 2),
        broker_max_poll_records=_POLL_RECORDS,
        # Static membership: a worker that comes back in time takes its partitions back at once.
        consumer_group_instance_id=f"{group}-{worker_id}",
        # An expired group re-reads, it never skips.
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        # A broker that has just restarted may not know the topic yet: the group then settles on an
        # empty assignment and asks again only when its metadata is this old (5 min by default).
        consumer_metadata_max_age_ms=_METADATA_MS,
        stream_buffer_maxsize=_BUFFER_RECORDS,
        stream_wait_empty=False,
        key_serializer="raw",
        value_serializer="raw",
        topic_allow_declare=False,
        topic_disable_leader=True,
        store="memory://",  # there are no tables
        web_enabled=False,
        datadir=str(data_folder / "faust"),
    )
    app.transport = _Transport(app.conf.broker_consumer, app)
    app.transport.gather_seconds = gather_seconds
    return app


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    """Faust's thread that fetches records; under load it gathers them.

    Each hand-over to the agent's loop costs two wake-ups, each fetch a request. A node whose
    records lie here untaken is not asked for more (aiokafka waits up to 100 ms for them to be
    taken), so while we wait the log grows, and the next answer brings all of it.
    """

    _taken_at = 0.0

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        gather = self.consumer.transport.gather_seconds  # type: ignore[attr-defined]
        since = time.monotonic() - self._taken_at
        if since < gather and SPARE_TIME.is_short():
            await asyncio.sleep(gather - since)
        found = await super()._fetch_records(*args, **kwargs)
        if found:
            self._taken_at = time.monotonic()
        return found


class _Consumer(driver.Consumer):
    """Faust's consumer on that thread."""

    def _new_consumer_thread(self) -> _ConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    """Faust's transport with that consumer."""

    Consumer = _Consumer
    gather_seconds = GATHER_SECONDS


def add_agent(app: faust.App, topic: str, handle: RecordHandler) -> None:
    """Give every record of a topic to `handle`, in order per partition, unacknowledged."""
    source = app.topic(
        topic, key_type=bytes, value_type=bytes, acks=False, internal=False, allow_empty=True
    )

    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            await handle(
                message.topic,
                message.partition,
                message.offset,
                message.key or b"",
                message.value or b"",
            )

    app.agent(source, name=f"take_{topic}", concurrency=1)(agent)


async def commit(app: faust.App, topic: str, offsets: dict[int, int]) -> None:
    """Commit offsets of a topic, as they are.

    A commit after a rebalance is refused by the broker and changes nothing: the next owner reads
    from the last one that counted.
    """
    consumer: Any = app.consumer
    await consumer._commit({TP(topic, p): offset for p, offset in offsets.items()})
