"""What becomes of each record on its way into another generation. Pure, but for what is remembered.

Claims are left behind, and with them every late word: in the new topics nobody has claimed anything
yet, so what is carried has no stamp (0), and counts until somebody claims.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tidestore.connectors.claims import ClaimBook
from tidestore.schemas.codec import PoisonedRecordError, decode, encode
from tidestore.schemas.events import (
    ChangeAnnounced,
    CopyChanged,
    CursorMoved,
    PartitionClaimed,
)

# No object's key begins so.
_OF_A_PARTITION: Final = b"!"

# From a key and the old place of its event, partition and offset, to its new offset.
Translate = Callable[[str, int, int], int]


def log_record(key: bytes, value: bytes) -> bytes | None:
    """A record of the log: as it is, readable or not.

    Ticks and canaries are about a partition, and not an object: they stay behind.
    """
    return None if key.startswith(_OF_A_PARTITION) else value


@dataclass(slots=True)
class StampedRecords:
    """Records of copies or of the feed, in their order per partition; the late ones left out.

    A record that is broken is left out too: every reader passes over it where it is.
    """

    translate: Translate
    book: ClaimBook = field(default_factory=ClaimBook)

    def take(self, partition: int, offset: int, value: bytes) -> bytes | None:
        """The record as it is to be carried; None when it is not. Raises UnknownSchemaError."""
        try:
            event = decode(value)
        except PoisonedRecordError:
            return None
        if isinstance(event, PartitionClaimed):
            self.book.claimed(partition, offset, event.worker)
        if not isinstance(event, (CopyChanged, ChangeAnnounced)):
            return None
        if self.book.is_late(partition, event.claim):
            return None
        offset = self.translate(event.key, partition, event.log_offset)
        return encode(replace(event, claim=0, log_offset=offset))


@dataclass(slots=True)
class Cursors:
    """The newest cursor of each hook on each partition that counts."""

    newest: dict[tuple[str, int], CursorMoved] = field(default_factory=dict)
    book: ClaimBook = field(default_factory=ClaimBook)

    def take(self, partition: int, offset: int, value: bytes) -> None:
        """Fold the next record of a partition. Raises UnknownSchemaError."""
        try:
            event = decode(value)
        except PoisonedRecordError:
            return
        if isinstance(event, PartitionClaimed):
            self.book.claimed(partition, offset, event.worker)
        elif isinstance(event, CursorMoved) and not self.book.is_late(partition, event.claim):
            self.newest[event.hook_id, partition] = event

    def of(self, hook_id: str, start: tuple[int, ...]) -> dict[int, int]:
        """How far a hook has come on each partition; `start` where it has no cursor."""
        found = dict(enumerate(start))
        for (name, partition), cursor in self.newest.items():
            if name == hook_id and partition in found:
                found[partition] = cursor.offset_next
        return found

    def delivered(self, hook_id: str) -> int:
        """What a hook was told all in all, by its cursors."""
        return sum(c.delivered for (name, _), c in self.newest.items() if name == hook_id)
