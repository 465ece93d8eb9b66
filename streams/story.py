"""What a worker tells of an object, one line for each outcome (connectors/correlation.py)."""

from __future__ import annotations

from tidestore.connectors.correlation import tell
from tidestore.connectors.traces import annotate
from tidestore.schemas.events import CopyChanged, CopyState

_WORDS = {
    CopyState.PRESENT: "copied",
    CopyState.PENDING: "not copied yet",
    CopyState.WAITING: "waits for a child",
    CopyState.PARKED: "parked",
}


def tell_outcome(record: CopyChanged) -> None:
    """An outcome that the brokers have confirmed."""
    annotate(state=record.state.value, attempt=record.attempts, error_class=record.error_class)
    tell(
        _WORDS.get(record.state, record.state.value),
        key=record.key,
        replica=record.replica,
        state=record.state.value,
        size=record.size,
        attempt=record.attempts,
        error_class=record.error_class,
        lag_ms=max(0, record.changed_at_ms - record.written_at_ms),
    )
