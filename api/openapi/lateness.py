"""What the API says of how late a replica is, as schemas."""

from __future__ import annotations

from tidestore.api.lag_tables import SIZE_CLASSES
from tidestore.api.lags import AGES, OLDER, QUANTILES
from tidestore.api.openapi.parts import WHOLE, Json, record


def lateness_members() -> Json:
    """The members that a replica's document has for it."""
    seconds: Json = {"type": "number", "minimum": 0}
    quantiles = record({f"p{share * 100:g}": seconds for share in QUANTILES})
    return {
        "pending_by_age": record(
            dict.fromkeys((*(name for name, _ in AGES), OLDER), WHOLE),
            None,
            "What is not settled, by the time since it was written; disjoint.",
        ),
        "failed": {
            "type": "object",
            "additionalProperties": WHOLE,
            "description": "Pending copies whose last try failed, by error class.",
        },
        "lag_quantiles": record(
            {},
            {name: quantiles for name, _ in SIZE_CLASSES},
            "Seconds from acknowledgement to proved copy, of the last five minutes' arrivals.",
        ),
        "objective": record(
            {
                "percent": {"type": "number"},
                "seconds": seconds,
                "in_time_percent": {"type": "number"},
                "overdue": WHOLE,
                "is_kept": {"type": "boolean"},
            },
            None,
            "What is promised of copies, and how far it is kept.",
        ),
        "canary": record(
            {
                "sent_at_ms": {"type": ["integer", "null"]},
                "lag_seconds": {"type": ["number", "null"]},
                "waiting_seconds": seconds,
                "is_overdue": {"type": "boolean"},
            },
            None,
            "A probe of the whole way: the newest that was proved, and how long the next waits.",
        ),
    }
