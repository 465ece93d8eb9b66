"""How far each hook has come: a record per hook and partition, folded and claimed like copies.

Cursors lie in the same partition number as the feed they are on, so whoever has the feed's
partition has its cursors. A cursor with an older claim than the partition's newest is a frozen
gateway's, and is passed over.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Final

from tidestore.connectors.view import Folded, View
from tidestore.schemas.events import CursorMoved, PartitionClaimed

_COLUMNS: Final = tuple(item.name for item in fields(CursorMoved))


class CursorsFold:
    """The newest cursor of each hook on each partition."""

    version = 1

    def __init__(self, on_claims: Callable[[list[tuple[int, int, str]]], None]) -> None:
        self._on_claims = on_claims
        self._claims: list[tuple[int, int, str]] = []

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE cursors (hook_id TEXT, partition INTEGER, offset_next INTEGER,"
            " claim INTEGER, moved_at_ms INTEGER, attempt INTEGER, next_try_at_ms INTEGER,"
            " last_status INTEGER, last_error TEXT, delivered INTEGER,"
            " PRIMARY KEY (hook_id, partition)) WITHOUT ROWID"
        )
        db.execute("CREATE TABLE claims (partition INTEGER PRIMARY KEY, offset INTEGER)")

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        self._claims = []
        claims = dict(db.execute("SELECT partition, offset FROM claims").fetchall())
        for record in records:
            event = record.event
            if isinstance(event, PartitionClaimed):
                claims[record.partition] = record.offset
                db.execute(
                    "INSERT OR REPLACE INTO claims VALUES (?, ?)", (record.partition, record.offset)
                )
                self._claims.append((record.partition, record.offset, event.worker))
            elif isinstance(event, CursorMoved) and event.claim >= claims.get(record.partition, 0):
                values = [getattr(event, name) for name in _COLUMNS]
                marks = ", ".join("?" * len(_COLUMNS))
                db.execute(
                    f"INSERT OR REPLACE INTO cursors ({', '.join(_COLUMNS)}) VALUES ({marks})",
                    values,
                )

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        del records
        if self._claims:
            self._on_claims(self._claims)


def find_cursor(view: View, hook_id: str, partition: int) -> CursorMoved | None:
    """The newest cursor of a hook on a partition."""
    rows = view.query(
        f"SELECT {', '.join(_COLUMNS)} FROM cursors WHERE hook_id = ? AND partition = ?",
        (hook_id, partition),
    )
    return CursorMoved(**dict(rows[0])) if rows else None


def find_cursors(view: View, hook_id: str) -> list[CursorMoved]:
    """The newest cursor of a hook on each partition where it has one."""
    rows = view.query(f"SELECT {', '.join(_COLUMNS)} FROM cursors WHERE hook_id = ?", (hook_id,))
    return [CursorMoved(**dict(row)) for row in rows]
