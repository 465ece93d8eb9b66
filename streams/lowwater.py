"""How far a partition may be committed: below the oldest unfinished record, never above (R6).

Records are received in order and finished in any order. What was received is tracked, not what the
numbers should be: a compacted log has gaps, and a tracker that waits for the missing offsets would
stop for ever. Faust's own accounting is not used at all (docs/decisions/0003).

    received   12  13  17  18  21          (14-16, 19, 20 were compacted away)
    finished       x   x       x
    committable = 12                       finish 12 -> 18, finish 18 -> 22
"""

from __future__ import annotations

from collections import deque


class LowWater:
    """One partition, for as long as it is assigned. Amortised constant time per record."""

    __slots__ = ("_finished", "_offset_last", "_open")

    def __init__(self) -> None:
        self._open: deque[int] = deque()
        self._finished: set[int] = set()
        self._offset_last: int | None = None

    def receive(self, offset: int) -> bool:
        """Take a record in; False when it was received before (a reader that went back)."""
        if self._offset_last is not None and offset <= self._offset_last:
            return False
        self._offset_last = offset
        self._open.append(offset)
        return True

    def finish(self, offset: int) -> None:
        """A received record has its durable outcome. Finishing it twice is harmless."""
        if not self._open or offset < self._open[0]:
            return
        self._finished.add(offset)
        while self._open and self._open[0] in self._finished:
            self._finished.remove(self._open.popleft())

    @property
    def committable(self) -> int | None:
        """The offset that may be committed as the next to read; None before the first record."""
        if self._open:
            return self._open[0]
        return None if self._offset_last is None else self._offset_last + 1

    @property
    def unfinished(self) -> int:
        """How many received records have no outcome yet."""
        return len(self._open) - len(self._finished)
