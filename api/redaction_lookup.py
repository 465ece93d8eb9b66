"""Questions about redactions, asked of the index; see redaction_tables.py for what it holds.

Belongs to the gateway's event loop. Hidden means hidden for everybody: every read path asks here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from tidestore.api.problems import Problem
from tidestore.api.redaction_tables import targets_of
from tidestore.connectors.view import View


@dataclass(frozen=True, slots=True)
class Redaction:
    """Why something is gone. `purge_after_ms` is None when the decision itself is not read yet."""

    target: str
    number: int
    reason: str
    decided_by: str
    decided_at_ms: int
    released_to: str | None
    purge_after_ms: int | None = None
    because_of: str | None = None


class Redactions:
    """The gateway's queries about what is redacted."""

    def __init__(self, view: View) -> None:
        self._view = view

    def find(self, key: str) -> Redaction | None:
        """The redaction that covers a key, or a target of one; None when there is none."""
        targets = targets_of(key)
        marks = ", ".join("?" * len(targets))
        rows = self._view.query(
            f"SELECT * FROM redactions WHERE target IN ({marks}) ORDER BY number DESC", targets
        )
        for row in rows:
            if not row["is_lifted"]:
                return _redaction(row)
        # The log may be read before `redactions`: what it takes away is gone, unless a decision
        # of that number is known to be lifted.
        known = max((row["number"] for row in rows), default=0)
        for row in self._view.query("SELECT * FROM gone WHERE key = ?", (key,)):
            if row["number"] > known:
                return Redaction(
                    key, row["number"], row["reason"], row["decided_by"], row["decided_at_ms"],
                    row["released_to"],
                )  # fmt: skip
        return None

    def among(self, keys: Sequence[str]) -> list[str]:
        """Those of many keys that are redacted."""
        if not self.are_any():
            return []
        return [key for key in keys if self.find(key) is not None]

    def are_any(self) -> bool:
        """Whether anything was ever redacted here."""
        sql = "SELECT 1 FROM redactions UNION ALL SELECT 1 FROM gone LIMIT 1"
        return bool(self._view.query(sql))

    def refuse(self, key: str) -> None:
        """Raise Problem 410 when a key is redacted."""
        found = self.find(key)
        if found is not None:
            raise gone_problem(key, found)

    def number_of(self, target: str) -> int:
        """The greatest number that a decision on this target, or on what it covers, has had."""
        rows = self._view.query(
            "SELECT number FROM redactions WHERE target IN (?, ?) OR (target > ? AND target < ?)",
            (target, targets_of(target)[-1], f"{target}.", f"{target}/"),
        )
        return max((row["number"] for row in rows), default=0)

    def decision(self, target: str) -> Redaction | None:
        """The decision on just this target, if it stands."""
        rows = self._view.query(
            "SELECT * FROM redactions WHERE target = ? AND NOT is_lifted", (target,)
        )
        return _redaction(rows[0]) if rows else None

    def keys_of(self, target: str, limit: int) -> list[str]:
        """The keys that a target covers, written or gone, in order."""
        found: set[str] = set()
        for table in ("objects", "gone"):
            rows = self._view.query(
                f"SELECT key FROM {table} WHERE key = ? OR (key > ? AND key < ?)"
                " ORDER BY key LIMIT ?",
                (target, f"{target}.", f"{target}/", limit),
            )
            found.update(row["key"] for row in rows)
        return sorted(found)[:limit]

    def blobs_of(self, keys: Sequence[str]) -> list[str]:
        """The blobs that those of these keys which are files name."""
        found: set[str] = set()
        for key in keys:
            rows = self._view.query(
                "SELECT link_sha256 FROM objects WHERE key = ? AND link_sha256 IS NOT NULL", (key,)
            )
            found.update(f"{key.partition('/')[0]}/blobs/{row['link_sha256']}" for row in rows)
        return sorted(found)

    def owed(self, limit: int) -> list[tuple[str, str]]:
        """What is not finished: keys and what is to be done for each."""
        rows = self._view.query("SELECT key, what FROM owed ORDER BY key LIMIT ?", (limit,))
        return [(row["key"], row["what"]) for row in rows]

    def files_naming(self, dataset: str, sha256: str) -> list[str]:
        """The files of a dataset that name a blob and are not redacted."""
        rows = self._view.query(
            "SELECT key FROM objects WHERE link_sha256 = ? ORDER BY key", (sha256,)
        )
        keys = [row["key"] for row in rows if row["key"].startswith(f"{dataset}/")]
        return [key for key in keys if self.find(key) is None]


def gone_problem(key: str, found: Redaction) -> Problem:
    """The answer about something that is redacted."""
    return Problem(
        410,
        "redacted",
        "this object was redacted",
        hint="only an administrator can lift it, within its grace; released_to names where it went",
        headers={"Cache-Control": "no-store"},
        more={
            "key": key,
            "reason": found.reason,
            "redacted_at_ms": found.decided_at_ms,
            "released_to": found.released_to,
        },
    )


def _redaction(row: sqlite3.Row) -> Redaction:
    return Redaction(
        row["target"], row["number"], row["reason"], row["decided_by"], row["decided_at_ms"],
        row["released_to"], row["purge_after_ms"], row["because_of"],
    )  # fmt: skip
