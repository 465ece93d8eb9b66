"""What whoever works on a copy does with its key: have it alone, and say what became of it.

The mover's own steps, for others that work on the same keys (mending.py): one task per key at a
time, each outcome confirmed before it counts, each failure recorded by its class.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from tidestore.schemas.events import CopyChanged


class Failed(Protocol):
    """Record that a try has failed: due again later, or parked."""

    async def __call__(
        self,
        record: CopyChanged,
        error_class: str,
        text: str,
        retry_after_seconds: float | None = None,
    ) -> None:
        """Returns when the outcome is confirmed, or the partition is lost."""
        ...


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The steps of one worker's mover."""

    # Runs work on a record's key when nobody else works on it.
    alone: Callable[[CopyChanged, Callable[[], Awaitable[None]]], Awaitable[None]]
    # Writes a record; False when the partition was lost before it was confirmed.
    record: Callable[[CopyChanged], Awaitable[bool]]
    failed: Failed
    # Takes a redacted object away, or the next step of that; the text is for the receipt.
    remove: Callable[[CopyChanged, str], Awaitable[None]]
