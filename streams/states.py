"""What is known of this replica's copies right now: the view, and what was just confirmed.

The view is a few milliseconds behind what this worker itself has written. A confirmed record is
therefore remembered here until the view has folded past it, so that a file that follows its blob
does not have to wait for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidestore.connectors.view import View
from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.streams.copies import CopiesQueries
from tidestore.streams.decisions import Decision

# When to look for memories that the view has caught up with. Bounds the dict: the view follows at
# thousands of records a second.
_SWEEP_RECORDS = 5_000


class KnownStates:
    """States of copies for one worker. Belongs to its event loop."""

    def __init__(self, view: View, topic: str) -> None:
        self._view = view
        self._topic = topic
        self._queries = CopiesQueries(view)
        self._recent: dict[str, tuple[CopyChanged, int, int]] = {}
        self._sweep_at = _SWEEP_RECORDS

    def learn(self, record: CopyChanged, partition: int, offset: int) -> None:
        """The broker confirmed this record at this place."""
        self._recent[record.key] = (record, partition, offset)
        if len(self._recent) >= self._sweep_at:
            self._recent = {
                key: memory for key, memory in self._recent.items() if not self._is_folded(memory)
            }
            self._sweep_at = max(_SWEEP_RECORDS, 2 * len(self._recent))

    def find(self, key: str) -> CopyState | None:
        """The state of a copy; None when nothing is known of it."""
        record = self.find_record(key)
        return record.state if record else None

    def find_record(self, key: str) -> CopyChanged | None:
        """The newest record of a copy."""
        memory = self._recent.get(key)
        if memory is not None:
            if not self._is_folded(memory):
                return memory[0]
            del self._recent[key]
        return self._queries.find(key)

    def states(self, keys: Sequence[str]) -> dict[str, CopyState]:
        """The states of many copies; keys of which nothing is known are left out."""
        fresh = {
            key: memory[0].state
            for key in keys
            if (memory := self._recent.get(key)) is not None and not self._is_folded(memory)
        }
        asked = [key for key in keys if key not in fresh]
        found = {**self._queries.states(asked), **fresh}
        for key, state in found.items():
            # What was lifted is coming back: nothing that refers to it may pass it by (R5).
            if state is CopyState.REDACTED and self.lifted_number(key):
                found[key] = CopyState.PENDING
        return found

    def decision(self, key: str) -> Decision | None:
        """What was decided about a key; None when nothing ever was."""
        return self._queries.decision(key)

    def is_redacted(self, key: str) -> bool:
        """Whether a redaction covers the key."""
        decision = self._queries.decision(key)
        return decision is not None and decision.is_redacted

    def lifted_number(self, key: str) -> int:
        """The number of the key's redaction that was taken back; 0 when none was, or one stands."""
        decision = self._queries.decision(key)
        return 0 if decision is None or decision.is_redacted else decision.lifted_number

    def _is_folded(self, memory: tuple[CopyChanged, int, int]) -> bool:
        _, partition, offset = memory
        return self._view.offset_next(self._topic, partition) > offset
