"""A probe of the whole way, from the log to a proved object on each replica (decision 0017).

Records as in events.py, where they are listed with all others.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CanarySent:
    """On the log: whoever copies to a replica shall prove now that it can."""

    partition: int
    sent_at_ms: int
    sent_by: str


@dataclass(frozen=True, slots=True)
class CanaryProved:
    """On a replica's copies: what a canary asked for was written there and read back.

    `claim` as in CopyChanged: a record with an older one than its partition's newest came late.
    """

    partition: int
    replica: str
    incarnation: int
    claim: int
    sent_at_ms: int
    proved_at_ms: int
