"""What a third party's replica remembers, on its own machine, in one folder.

    state.sqlite   facts        gateway, name, place, deployment
                   cursors      per dataset: how far the feed was taken in
                   owed         what was told of and is not here yet, and when to try again
                   held         what is here; what is to go; what has gone; told the store of it?
                   redactions   the newest decision of each target
    token          readable by its owner alone

A page of the feed is taken in by one transaction: what it owes, what has to go, and the cursor. So
a death at any moment leaves work that is written down, never work that is forgotten:

    killed after the put, before its row      put again: the key is taken, its bytes are read back
    killed after the row, before the receipt  `is_told` is 0: told at the next start
    killed after the receipt, before its note told again, which changes nothing there
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tidestore.schemas.objects import Kind, MalformedError, find_key_parts

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS cursors (dataset TEXT PRIMARY KEY, cursor TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS owed (key TEXT PRIMARY KEY, rank INTEGER, attempts INTEGER,"
    " next_try REAL, problem TEXT) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS owed_due ON owed (next_try, rank)",
    "CREATE TABLE IF NOT EXISTS held (key TEXT PRIMARY KEY, size INTEGER, sha256 TEXT, state TEXT,"
    " is_told INTEGER) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS held_untold ON held (key) WHERE is_told = 0",
    "CREATE INDEX IF NOT EXISTS held_condemned ON held (key) WHERE state = 'condemned'",
    "CREATE TABLE IF NOT EXISTS redactions (target TEXT PRIMARY KEY, number INTEGER,"
    " is_lifted INTEGER) WITHOUT ROWID",
)
# What others refer to comes first.
_RANKS: Final = {kind: rank for rank, kind in enumerate(Kind)}

STORED: Final = "stored"
# Redacted, and not erased yet.
CONDEMNED: Final = "condemned"
REMOVED: Final = "removed"


@dataclass(frozen=True, slots=True)
class Held:
    """One object as it lies on this replica, or as it lay."""

    key: str
    size: int
    sha256: str
    state: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A redaction, or its lift, as the feed tells of it."""

    target: str
    number: int
    is_lifted: bool
    keys: tuple[str, ...] = ()


class InUseError(Exception):
    """Another process keeps this replica."""


class State:
    """The folder, opened by one process at a time. Every change is on disk when a call returns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InUseError(f"another process keeps the replica of {folder}") from None
        self._db = sqlite3.connect(folder / "state.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        for statement in _TABLES:
            self._db.execute(statement)

    def close(self) -> None:
        """Let go of the folder."""
        self._db.close()
        self._lock.close()

    def forget(self) -> None:
        """Remove the folder and all that is in it."""
        self.close()
        shutil.rmtree(self.folder)

    # Facts.

    def fact(self, name: str) -> str:
        """A fact by name; "" when it is not known."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def note(self, facts: dict[str, str]) -> None:
        """Keep facts."""
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())

    @property
    def token(self) -> str:
        """The token that was kept; "" when there is none."""
        try:
            return (self.folder / "token").read_text("utf-8").strip()
        except FileNotFoundError:
            return ""

    def keep_token(self, token: str) -> None:
        """Keep a token, for nobody else to read."""
        path = self.folder / "token"
        new = path.with_suffix(".new")
        opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(opened, "w", encoding="utf-8") as file:
            file.write(token + "\n")
        new.replace(path)

    # The feed.

    def cursor(self, dataset: str) -> str | None:
        """How far a dataset's feed was taken in; None before its first page."""
        sql = "SELECT cursor FROM cursors WHERE dataset = ?"
        row = self._db.execute(sql, (dataset,)).fetchone()
        return str(row[0]) if row else None

    def begin_again(self, dataset: str) -> None:
        """Read a dataset's feed from its beginning; what is held is known by its key."""
        self._db.execute("DELETE FROM cursors WHERE dataset = ?", (dataset,))

    def take(
        self, dataset: str, decisions: Sequence[Decision], keys: Iterable[str], cursor: str
    ) -> None:
        """Take a page in, all of it or nothing."""
        with self._transaction():
            for decision in decisions:
                self._decide(decision)
            for key in keys:
                self._owe(key)
            self._db.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?)", (dataset, cursor))

    def _decide(self, decision: Decision) -> None:
        target, number = decision.target, decision.number
        row = self._db.execute(
            "SELECT number FROM redactions WHERE target = ?", (target,)
        ).fetchone()
        if row is not None and row[0] > number:
            return  # a page that is read again
        self._db.execute(
            "INSERT OR REPLACE INTO redactions VALUES (?, ?, ?)",
            (target, number, int(decision.is_lifted)),
        )
        covered = (target, f"{target}.", f"{target}/")
        if decision.is_lifted:
            self._db.execute(
                "UPDATE held SET state = 'stored', is_told = 0 WHERE state = 'condemned'"
                " AND (key = ? OR (key > ? AND key < ?))",
                covered,
            )
            for key in decision.keys:
                self._owe(key)
            return
        self._db.execute(
            "UPDATE held SET state = 'condemned' WHERE state = 'stored'"
            " AND (key = ? OR (key > ? AND key < ?))",
            covered,
        )
        self._db.execute("DELETE FROM owed WHERE key = ? OR (key > ? AND key < ?)", covered)

    def _owe(self, key: str) -> None:
        parts = find_key_parts(key)
        if parts is None or self.is_settled(key):
            return
        self._db.execute(
            "INSERT OR IGNORE INTO owed VALUES (?, ?, 0, 0, '')", (key, _RANKS[parts.kind])
        )

    def is_settled(self, key: str) -> bool:
        """Whether nothing is to come of a key: it is here, or redacted."""
        row = self._db.execute("SELECT state FROM held WHERE key = ?", (key,)).fetchone()
        return (row is not None and row[0] == STORED) or self.is_redacted(key)

    def is_redacted(self, key: str) -> bool:
        """Whether a decision covers a key."""
        row = self._db.execute(
            "SELECT 1 FROM redactions WHERE target IN (?, ?) AND NOT is_lifted",
            (key, key.partition(".")[0]),
        ).fetchone()
        return row is not None

    # What is owed.

    def due(self, now: float, limit: int) -> list[str]:
        """What is to be copied now: blobs first, collections last."""
        rows = self._db.execute(
            "SELECT key FROM owed WHERE next_try <= ? ORDER BY rank, key LIMIT ?", (now, limit)
        )
        return [row[0] for row in rows]

    def next_try(self) -> float | None:
        """When the next of them is due."""
        found: float | None = self._db.execute("SELECT min(next_try) FROM owed").fetchone()[0]
        return found

    def attempts(self, key: str) -> int:
        """How often a key was tried without success."""
        row = self._db.execute("SELECT attempts FROM owed WHERE key = ?", (key,)).fetchone()
        return int(row[0]) if row else 0

    def try_all(self) -> None:
        """Somebody has started it again: what failed is due now, as if it had never been tried."""
        self._db.execute("UPDATE owed SET attempts = 0, next_try = 0")

    def untried(self, attempts: int) -> bool:
        """Whether anything that is owed was tried less often than that."""
        sql = "SELECT 1 FROM owed WHERE attempts < ? LIMIT 1"
        return self._db.execute(sql, (attempts,)).fetchone() is not None

    def failed(self, key: str, problem: str, next_try: float) -> None:
        """A try failed; another is due later."""
        self._db.execute(
            "UPDATE owed SET attempts = attempts + 1, problem = ?, next_try = ? WHERE key = ?",
            (problem, next_try, key),
        )

    def dropped(self, key: str) -> None:
        """A key is not to be copied: it was redacted."""
        self._db.execute("DELETE FROM owed WHERE key = ?", (key,))

    def stored(self, key: str, size: int, sha256: str) -> None:
        """An object is here, proved."""
        with self._transaction():
            self._db.execute("DELETE FROM owed WHERE key = ?", (key,))
            self._db.execute(
                "INSERT OR REPLACE INTO held VALUES (?, ?, ?, 'stored', 0)", (key, size, sha256)
            )

    # What has to go.

    def condemned(self, limit: int) -> list[str]:
        """What is redacted, and still here."""
        rows = self._db.execute(
            "SELECT key FROM held WHERE state = 'condemned' ORDER BY key LIMIT ?", (limit,)
        )
        return [row[0] for row in rows]

    def removed(self, key: str) -> None:
        """A condemned object is gone."""
        self._db.execute(
            "UPDATE held SET state = 'removed', is_told = 0 WHERE key = ? AND state = 'condemned'",
            (key,),
        )

    # Receipts.

    def untold(self, limit: int) -> list[Held]:
        """What the store was not told of yet."""
        rows = self._db.execute(
            "SELECT key, size, sha256, state FROM held WHERE is_told = 0 AND state <> 'condemned'"
            " ORDER BY key LIMIT ?",
            (limit,),
        )
        return [Held(*row) for row in rows]

    def told(self, receipts: Iterable[Held]) -> None:
        """The store knows of these now."""
        with self._transaction():
            self._db.executemany(
                "UPDATE held SET is_told = 1 WHERE key = ? AND state = ?",
                [(item.key, item.state) for item in receipts],
            )

    def tell_again(self) -> None:
        """The store has forgotten what it was told."""
        self._db.execute("UPDATE held SET is_told = 0")

    # For people, and for leaving.

    def keys(self, after: str, limit: int) -> list[str]:
        """The keys of what is here, in order."""
        rows = self._db.execute(
            "SELECT key FROM held WHERE key > ? AND state <> 'removed' ORDER BY key LIMIT ?",
            (after, limit),
        )
        return [row[0] for row in rows]

    def problems(self, limit: int) -> list[tuple[str, str]]:
        """What failed last, and why."""
        rows = self._db.execute(
            "SELECT key, problem FROM owed WHERE attempts > 0 ORDER BY key LIMIT ?", (limit,)
        )
        return [(row[0], row[1]) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many objects are stored, to go, removed, owed; and receipts that are not told."""
        sql = "SELECT state, count(*) FROM held GROUP BY state"
        found: dict[str, Any] = {STORED: 0, CONDEMNED: 0, REMOVED: 0}
        found.update(self._db.execute(sql).fetchall())
        found["owed"] = self._db.execute("SELECT count(*) FROM owed").fetchone()[0]
        sql = "SELECT count(*) FROM held WHERE is_told = 0"
        found["untold"] = self._db.execute(sql).fetchone()[0]
        return found

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def name_in(token: str) -> str:
    """The party's name, which its token begins with; raises MalformedError."""
    words = token.split("_", 2)
    if len(words) != 3 or words[0] != "tsr" or not words[1]:
        hint = "as whoever invited you gave it: tsr_<name>_<secret>"
        raise MalformedError("token", "is not the token of a replica", hint=hint)
    return words[1]
