"""A program that reads a topic as one member of a group, with Faust's accounting or with ours.

python -m tests.servers.group_reader faust|ours BOOTSTRAP TOPIC GROUP FOLDER

It says on standard output which records it has finished, a line each: partition and offset. While
FOLDER/slow exists, the first record of partition 0 is not finished. Ends when it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust

from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.log import LogWriter
from tidestore.schemas.events import ObjectRedacted, ObjectWritten
from tidestore.streams.intake import Intake
from tidestore.streams.member import GroupMember

SLOW = (0, 0)
Handler = Callable[[int, int], Awaitable[None]]


class Desk:
    """Finishes every record at once, but one. Stands for a mover; claims are always held."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle

    async def handle(self, event: ObjectWritten | ObjectRedacted, log_offset: int) -> None:
        await self._handle(int(event.key[-1]), log_offset)

    async def hand_over(self, event: ObjectWritten, log_offset: int, lease_ms: int) -> bool:
        return False

    def seconds_under_way(self, key: str) -> float:
        return 0.0

    async def park_unreadable(self, key: str, log_offset: int, reason: str) -> None:
        raise AssertionError(reason)

    async def await_stamp(self, partition: int) -> int | None:
        return 1


async def read_with_faust(
    bootstrap: str, topic: str, group: str, folder: Path, handle: Handler
) -> None:
    """An agent of several actors, acknowledged and committed by Faust, as documented there."""
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        broker_commit_interval=0.2,
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=str(folder / "faust"),
    )
    source = app.topic(topic, value_type=bytes, value_serializer="raw", key_type=bytes)

    async def agent(stream: Any) -> None:
        async for event in stream.events():
            await handle(event.message.partition, event.message.offset)

    app.agent(source, concurrency=4)(agent)
    await app.start()
    await asyncio.Event().wait()


async def read_with_ours(
    bootstrap: str, topic: str, group: str, folder: Path, handle: Handler
) -> None:
    """The product's member and intake."""
    kafka, desk = KafkaSettings(bootstrap), Desk(handle)
    writer = LogWriter(kafka)
    await writer.start()

    async def seek(partition: int, offset: int) -> None:
        raise AssertionError("nothing is stopped here")

    intake = Intake(desk, desk, writer, poison_topic=None, name="test", seek=seek)
    member = GroupMember(
        group, topic, kafka, intake, [], worker_id="0", session_seconds=6.0, data_folder=folder
    )
    await member.start()
    await member.run()


async def main(kind: str, bootstrap: str, topic: str, group: str, folder: Path) -> None:
    """Read until killed."""
    slow = folder / "slow"

    async def handle(partition: int, offset: int) -> None:
        if (partition, offset) == SLOW and slow.exists():
            await asyncio.Event().wait()
        sys.stdout.write(f"{partition} {offset}\n")
        sys.stdout.flush()

    read = read_with_faust if kind == "faust" else read_with_ours
    await read(bootstrap, topic, group, folder, handle)


if __name__ == "__main__":
    _kind, _bootstrap, _topic, _group, _folder = sys.argv[1:]
    asyncio.run(main(_kind, _bootstrap, _topic, _group, Path(_folder)))
