"""Read your own writes: what this gateway has appended and its index has not folded yet.

An append is acknowledged some milliseconds before the index folds it. A read in between would miss
what its own writer was just told is there. Each append is therefore noted here until it is folded,
under its subject: the blob, or the uuid with all its versions. No broker is asked.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from tidestore.connectors.view import View
from tidestore.schemas.positions import Position

# Notes live for milliseconds unless a partition is stuck (a record of a newer release). Then they
# pile up, and the oldest are dropped: a read of one of those may ask with ?at= as any other.
_NOTES_MAX: Final = 20_000


def subject_of(key: str) -> str:
    """What a read may ask for without naming a version: a key without its version."""
    return key.partition(".")[0]


class OwnWrites:
    """The notes of one gateway. Belongs to its event loop."""

    def __init__(self, view: View, topic: str) -> None:
        self._view = view
        self._topic = topic
        self._notes: deque[tuple[str, int, int]] = deque()
        self._counts: Counter[str] = Counter()

    def note(self, key: str, position: Position) -> None:
        """An append was acknowledged."""
        self._forget_folded()
        if len(self._notes) >= _NOTES_MAX:
            self._drop()
        subject = subject_of(key)
        self._notes.append((subject, position.partition, position.offset + 1))
        self._counts[subject] += 1

    def unfolded(self, subjects: set[str]) -> dict[int, int]:
        """The next offsets that the index must reach to know all own writes of these subjects."""
        self._forget_folded()
        wanted: dict[int, int] = {}
        if self._counts.keys().isdisjoint(subjects):
            return wanted
        for subject, partition, offset_next in self._notes:
            if subject in subjects:
                wanted[partition] = max(offset_next, wanted.get(partition, 0))
        return wanted

    def _forget_folded(self) -> None:
        """From the oldest on; one that is not folded yet keeps the younger ones a moment longer."""
        while self._notes:
            _, partition, offset_next = self._notes[0]
            if self._view.offset_next(self._topic, partition) < offset_next:
                return
            self._drop()

    def _drop(self) -> None:
        subject = self._notes.popleft()[0]
        self._counts[subject] -= 1
        if not self._counts[subject]:
            del self._counts[subject]
