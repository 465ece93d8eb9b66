"""What administrators did: a record as in events.py, where it is listed with all others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuditRecorded:
    """An administrator's deed, written before it is done and kept for ever. `details` is JSON."""

    actor: str
    action: str
    target: str
    reason: str
    request_id: str
    recorded_at_ms: int
    details: str = ""
