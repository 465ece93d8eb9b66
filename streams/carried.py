"""The event's own bytes, also for a copy that comes back: after a failure, or with its child.

No store is asked for what the log holds: a target that was down for an hour would cost the origin a
read for each small object written meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from tidestore.schemas.events import CopyChanged, ObjectWritten
from tidestore.schemas.topics import VALUE_BYTES_MAX, partition_of

# What waits for a cheaper source has been found not to ride in its event.
_KNOWN_ABSENT: Final = frozenset({"cheaper"})

# partition, offset, key -> the event, if it is there and carries its bytes
Reread = Callable[[int, int, str], Awaitable[ObjectWritten | None]]


class Carried:
    """Finds the events of one worker's copies again."""

    def __init__(self, reread: Reread, partitions: int) -> None:
        self._reread = reread
        self._partitions = partitions

    async def find(self, record: CopyChanged) -> ObjectWritten | None:
        """The event that a copy's record came from, with the bytes that it wants; else None."""
        if record.size > VALUE_BYTES_MAX or record.error_class in _KNOWN_ABSENT:
            return None
        partition = partition_of(record.key, self._partitions)
        event = await self._reread(partition, record.log_offset, record.key)
        # After a broker's loss another record may stand there (design point 10).
        return event if event is not None and event.sha256 == record.sha256 else None


async def nothing_carried(partition: int, offset: int, key: str) -> None:
    """Where there is no log to read again."""
    del partition, offset, key
