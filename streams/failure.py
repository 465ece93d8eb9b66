"""What is recorded of a try that failed: due again later, or parked for a person. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.streams.backoff import GiveUp, next_try
from tidestore.streams.records import fresh

# An error's text in a record: enough for a person, bounded for the log.
_ERROR_CHARS_MAX: Final = 1_000
# The class of a damaged copy that could not be mended, whatever failed last. It tells such a one
# from a copy that was never there: what lies under its key was wrong, and the store's word for it
# is no proof, so that a retry has to read it back.
DAMAGED: Final = "damaged"
# What is going, or has to be mended, stays so while it is tried again.
_LASTING: Final = frozenset({CopyState.REDACTING, CopyState.CORRUPT})


def failed_record(
    record: CopyChanged,
    error_class: str,
    text: str,
    *,
    now_ms: int,
    dice: float,
    retry_after_seconds: float | None = None,
) -> CopyChanged:
    """The record after one more failure. `dice` is a random number in [0, 1)."""
    tried = replace(record, attempts=record.attempts + 1)
    verdict = next_try(
        error_class, tried.attempts, now_ms, dice=dice, retry_after_seconds=retry_after_seconds
    )
    is_corrupt = record.state is CopyState.CORRUPT
    is_incomplete = is_corrupt and record.is_incomplete
    if isinstance(verdict, GiveUp):
        if is_corrupt:
            error_class, text = DAMAGED, f"{error_class}: {text}"
        parked = parked_record(tried, error_class, text)
        return replace(parked, is_incomplete=is_incomplete)
    return replace(
        fresh(tried, record.state if record.state in _LASTING else CopyState.PENDING),
        next_try_at_ms=verdict.at_ms,
        error_class=error_class,
        error=text[:_ERROR_CHARS_MAX],
        is_incomplete=is_incomplete,
    )


def is_damaged(record: CopyChanged) -> bool:
    """Whether a copy is to be mended, now or when somebody asks for it."""
    is_given_up = record.state is CopyState.PARKED and record.error_class == DAMAGED
    return record.state is CopyState.CORRUPT or is_given_up


def parked_record(
    record: CopyChanged, error_class: str, text: str, child: str | None = None
) -> CopyChanged:
    """The record of a copy that waits for a person; `child` is what it is parked for."""
    return replace(
        fresh(record, CopyState.PARKED),
        error_class=error_class,
        error=text[:_ERROR_CHARS_MAX],
        waits_for=child,
    )
