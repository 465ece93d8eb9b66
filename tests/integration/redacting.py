"""How tests redact: as the admin does, and as a gateway that died leaves it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from tests.http_calls import Answer, Calls
from tests.world import ADMIN_TOKEN, PARTITIONS, World
from tidestore.connectors.log import LogWriter
from tidestore.schemas.events import (
    ObjectRedacted,
    ObjectWritten,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.schemas.topics import partition_of

REASON: Final = "consent withdrawn: 同意の撤回"


async def redact(calls: Calls, path: str, **more: Any) -> Answer:
    """DELETE as the admin; `document` holds a reason unless told otherwise."""
    more.setdefault("document", {"reason": REASON})
    return await calls("DELETE", path, token=ADMIN_TOKEN, **more)


async def ends_redacted(world: World, key: str, times: int = 1) -> bool:
    """Whether the log's last word on a key is that it is redacted, said at least so often."""
    records = await asyncio.to_thread(list, world.records("log"))
    events = [record.event for record in records if record.key == key]
    count = sum(isinstance(event, ObjectRedacted) for event in events)
    return isinstance(events[-1], ObjectRedacted) and count >= times


async def append(world: World, *events: RedactionDecided | RedactionLifted | ObjectWritten) -> None:
    """Append what a gateway that died, or was frozen, leaves."""
    writer = LogWriter(world.kafka_settings)
    await writer.start()
    for event in events:
        if isinstance(event, (RedactionDecided, RedactionLifted)):
            await writer.append(f"{world.prefix}redactions", 0, event.target, event)
        else:
            partition = partition_of(event.key, PARTITIONS)
            await writer.append(f"{world.prefix}log", partition, event.key, event)
    await writer.stop()
