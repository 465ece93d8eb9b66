"""What `redactions` says about a key, as a worker folds it: the truth that every step asks first.

A lift stays as a row: an ObjectRedacted of its number or an older one, met late in the log, is then
known to be no longer so.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from tidestore.connectors.view import View
from tidestore.schemas.events import RedactionDecided, RedactionLifted
from tidestore.schemas.objects import find_key_parts


@dataclass(frozen=True, slots=True)
class Decision:
    """The decisions that are about a key, taken together."""

    is_redacted: bool
    # The greatest number of a decision that was taken back; 0 when none was.
    lifted_number: int
    reason: str
    purge_after_ms: int


def fold_decision(db: sqlite3.Connection, event: RedactionDecided | RedactionLifted) -> None:
    """Take in a decision or a lift; an older one than is known changes nothing."""
    is_lifted = isinstance(event, RedactionLifted)
    reason = "" if isinstance(event, RedactionLifted) else event.reason
    purge = 0 if isinstance(event, RedactionLifted) else event.purge_after_ms
    db.execute(
        "INSERT INTO redactions VALUES (?, ?, ?, ?, ?) ON CONFLICT (target) DO UPDATE SET"
        " number = excluded.number, reason = excluded.reason, is_lifted = excluded.is_lifted,"
        " purge_after_ms = excluded.purge_after_ms WHERE redactions.number <= excluded.number",
        (event.target, event.number, reason, purge, is_lifted),
    )


def lifted_copies(db: sqlite3.Connection, targets: Iterable[str]) -> list[tuple[int, str]]:
    """Copies that were going or gone, and whose redaction was just taken back."""
    found: list[tuple[int, str]] = []
    for target in targets:
        rows = db.execute(
            "SELECT partition, key FROM copies WHERE (key = ? OR (key > ? AND key < ?))"
            " AND state IN ('redacting', 'redacted')",
            (target, f"{target}.", f"{target}/"),
        )
        found += [(partition, key) for partition, key in rows]
    return found


def find_decision(view: View, key: str) -> Decision | None:
    """What is decided about a key, or about all versions of its uuid; None when nothing ever was.

    The longest time to purge counts when several stand.
    """
    parts = find_key_parts(key)
    targets = [key]
    if parts is not None and parts.uuid:
        targets.append(f"{parts.dataset}/{parts.kind.plural}/{parts.uuid}")
    marks = ", ".join("?" * len(targets))
    rows = view.query(f"SELECT * FROM redactions WHERE target IN ({marks})", targets)
    if not rows:
        return None
    standing = [row for row in rows if not row["is_lifted"]]
    return Decision(
        is_redacted=bool(standing),
        lifted_number=max((row["number"] for row in rows if row["is_lifted"]), default=0),
        reason=standing[0]["reason"] if standing else "",
        purge_after_ms=max((row["purge_after_ms"] for row in standing), default=0),
    )
