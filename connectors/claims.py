"""Who may speak for a partition: claims, and what to do about late words of others.

A worker that takes a partition writes a claim into its replica's copies topic. The claim's offset
stamps all records that the worker writes there. Offsets only grow, so a record with a stamp older
than the newest claim before it was sent by somebody who had lost the partition and did not know:
frozen, paged out, cut off. Every view ignores it.

    offset   40        41           57        58                    59
             claim A   present(40)  claim B   parked(40) <- A woke  present(57) <- B says it again
                                              ignored               so that compaction keeps it

Pure: `ClaimBook` is the state machine that each view folds; the worker's side is holdings.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ClaimBook:
    """The newest claim of each partition, as records come by in order."""

    newest: dict[int, tuple[int, str]] = field(default_factory=dict)

    def claimed(self, partition: int, offset: int, worker: str) -> None:
        """A claim was read. Claims come in order of offset, so the last one read is the newest."""
        self.newest[partition] = (offset, worker)

    def is_late(self, partition: int, stamp: int) -> bool:
        """Whether a record with this stamp comes from somebody who has lost the partition."""
        held = self.newest.get(partition)
        return held is not None and stamp < held[0]

    def owner(self, partition: int) -> str | None:
        """The worker that claimed last."""
        held = self.newest.get(partition)
        return held[1] if held else None
