"""What a `put` remembers: so that a second run writes nothing twice and goes on where it stopped.

Identities come from a root id and the path: the same tree under the same root id gives the same
uuids anywhere. The version of each entry is chosen and written down before its first request
(design section 3): after a kill the next run sends the same version again, and is told "same".

    entries(path)  fingerprint   what the file looked like: size, time, inode, or its members'
    versions
                   version       chosen before the first request
                   is_done       acknowledged
"""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One path as the journal knows it."""

    path: str
    fingerprint: str
    version: str
    sha256: str
    is_done: bool


class Journal:
    """One root's journal, in SQLite: every change is on disk before it is acted on."""

    def __init__(self, path: Path, root: str, root_id: uuid.UUID | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS roots (root TEXT PRIMARY KEY, root_id TEXT)")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS entries (root_id TEXT, path TEXT, fingerprint TEXT,"
            " version TEXT, sha256 TEXT, is_done INTEGER, PRIMARY KEY (root_id, path))"
            " WITHOUT ROWID"
        )
        word = "IGNORE" if root_id is None else "REPLACE"
        made = str(root_id or uuid.uuid4())
        self._db.execute(f"INSERT OR {word} INTO roots VALUES (?, ?)", (root, made))
        row = self._db.execute("SELECT root_id FROM roots WHERE root = ?", (root,)).fetchone()
        self.root_id: str = row[0]

    def uuid_of(self, path: str) -> str:
        """The uuid of a path below this root, the same for ever."""
        return str(uuid.uuid5(uuid.UUID(self.root_id), path))

    def find(self, path: str) -> Entry | None:
        """What is known of a path."""
        row = self._db.execute(
            "SELECT path, fingerprint, version, sha256, is_done FROM entries"
            " WHERE root_id = ? AND path = ?",
            (self.root_id, path),
        ).fetchone()
        return Entry(row[0], row[1], row[2], row[3], bool(row[4])) if row else None

    def begin(self, path: str, fingerprint: str, version: str, sha256: str = "") -> Entry:
        """Choose a version for what a path looks like now; one that was chosen before is kept."""
        known = self.find(path)
        if known is not None and known.fingerprint == fingerprint:
            return known
        entry = Entry(path, fingerprint, version, sha256, is_done=False)
        self._db.execute(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, 0)",
            (self.root_id, path, fingerprint, version, sha256),
        )
        return entry

    def note_hash(self, path: str, sha256: str) -> None:
        """Remember a file's hash."""
        self._db.execute(
            "UPDATE entries SET sha256 = ? WHERE root_id = ? AND path = ?",
            (sha256, self.root_id, path),
        )

    def done(self, path: str) -> None:
        """The entry is acknowledged."""
        self._db.execute(
            "UPDATE entries SET is_done = 1 WHERE root_id = ? AND path = ?", (self.root_id, path)
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()
