"""What lies on one replica, in a scratch file: a listing may be larger than memory.

    listing -----> objects: size, the store's own checksums
    log so far --> objects.logged: what an interrupted run has appended already
    file manifests -> sums: what each blob must hash to; objects.event: to be appended later

Made anew by each run. It is no truth: the replica and the log are.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import Kind, ObjectKey, Sha256, parse_key

# SQLite takes 32,766 variables in a statement; a page of this many keys is one quick query.
_PAGE: Final = 500
_TABLES: Final = (
    "CREATE TABLE objects (key TEXT PRIMARY KEY, kind TEXT, size INTEGER, modified_at_ms INTEGER,"
    " checksums TEXT, refused TEXT, event BLOB) WITHOUT ROWID",
    "CREATE INDEX objects_kind ON objects (kind, key)",
    "CREATE TABLE logged (key TEXT PRIMARY KEY, sha256 TEXT) WITHOUT ROWID",
    # What the file manifests say of a blob; is_one is 0 when two of them contradict each other.
    "CREATE TABLE sums (key TEXT PRIMARY KEY, size INTEGER, sha1 TEXT, crc32c TEXT, md5 TEXT,"
    " is_one INTEGER DEFAULT 1) WITHOUT ROWID",
)
_PRAGMAS: Final = ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF")


@dataclass(frozen=True, slots=True)
class Listed:
    """One object as the replica's listing had it."""

    key: ObjectKey
    info: ObjectInfo
    refused: str | None


class Inventory:
    """The scratch file. Used by one event loop; every call is short."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in (*_PRAGMAS, *_TABLES):
            self._db.execute(statement)

    def close(self) -> None:
        """Close and remove it."""
        self._db.close()
        self._path.unlink(missing_ok=True)

    def add_listed(self, infos: Sequence[ObjectInfo]) -> None:
        """Objects of ours that the listing gave."""
        rows = [
            (
                info.key,
                parse_key(info.key).kind.value,
                info.size,
                info.modified_at_ms,
                json.dumps(info.checksums),
            )
            for info in infos
        ]
        self._db.executemany(
            "INSERT OR REPLACE INTO objects (key, kind, size, modified_at_ms, checksums)"
            " VALUES (?, ?, ?, ?, ?)",
            rows,
        )

    def add_logged(self, rows: Iterable[tuple[str, str]]) -> None:
        """Keys whose event is in the log, with its sha256 ("" for a redaction)."""
        self._db.execute("BEGIN")  # one transaction: there may be a million of them
        self._db.executemany("INSERT OR REPLACE INTO logged VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    @property
    def has_logged(self) -> bool:
        """Whether an earlier run has appended anything."""
        return self._db.execute("SELECT 1 FROM logged LIMIT 1").fetchone() is not None

    def logged(self, key: str) -> str | None:
        """The sha256 in a key's event, if it is in the log."""
        row = self._db.execute("SELECT sha256 FROM logged WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def counts(self) -> dict[str, tuple[int, int]]:
        """Objects and bytes by kind."""
        rows = self._db.execute("SELECT kind, count(*), sum(size) FROM objects GROUP BY kind")
        return {kind: (count, size) for kind, count, size in rows}

    def datasets(self) -> set[str]:
        """The datasets of what was listed: as many queries as there are."""
        found: set[str] = set()
        after = ""
        while True:
            row = self._db.execute(
                "SELECT key FROM objects WHERE key > ? ORDER BY key LIMIT 1", (after,)
            ).fetchone()
            if row is None:
                return found
            name = str(row[0]).split("/", 1)[0]
            found.add(name)
            after = f"{name}/\uffff"

    def each(self, kind: Kind) -> Iterator[Listed]:
        """All objects of a kind, in order of key. Rows may be changed meanwhile."""
        after = ""
        while True:
            rows = self._db.execute(
                "SELECT key, size, modified_at_ms, checksums, refused FROM objects"
                " WHERE kind = ? AND key > ? ORDER BY key LIMIT ?",
                (kind.value, after, _PAGE),
            ).fetchall()
            for key, size, moment, checksums, refused in rows:
                info = ObjectInfo(ObjectKey(key), size, "", moment, json.loads(checksums))
                yield Listed(ObjectKey(key), info, refused)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def lacking(self, keys: Sequence[str]) -> list[tuple[str, str]]:
        """Those of many keys that are not there, or are refused: with the reason."""
        found: list[tuple[str, str]] = []
        for start in range(0, len(keys), _PAGE):
            page = keys[start : start + _PAGE]
            marks = ", ".join("?" * len(page))
            rows = dict(
                self._db.execute(f"SELECT key, refused FROM objects WHERE key IN ({marks})", page)
            )
            for key in page:
                if key not in rows:
                    found.append((key, "is not here"))
                elif rows[key] is not None:
                    found.append((key, str(rows[key])))
        return found

    def refuse(self, key: str, reason: str) -> None:
        """This object is not what its key says; its event is not appended."""
        self._db.execute("UPDATE objects SET refused = ? WHERE key = ?", (reason, key))

    def keep_event(self, key: str, event: bytes) -> None:
        """An encoded event, for later: its blob comes first."""
        self._db.execute("UPDATE objects SET event = ? WHERE key = ?", (event, key))

    def event(self, key: str) -> bytes | None:
        """The event that was kept."""
        row = self._db.execute("SELECT event FROM objects WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def add_sums(self, blob: str, sums: Checksums) -> None:
        """What a file manifest says of its blob."""
        self._db.execute(
            "INSERT INTO sums (key, size, sha1, crc32c, md5) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET is_one = is_one AND size = excluded.size"
            " AND sha1 = excluded.sha1 AND crc32c = excluded.crc32c AND md5 = excluded.md5",
            (blob, sums.size, sums.sha1, sums.crc32c, sums.md5),
        )

    def set_sums(self, blob: str, sums: Checksums) -> None:
        """What the blob really hashes to: from here on the manifests are measured by it."""
        self._db.execute(
            "INSERT OR REPLACE INTO sums VALUES (?, ?, ?, ?, ?, 1)",
            (blob, sums.size, sums.sha1, sums.crc32c, sums.md5),
        )

    def sums(self, blob: str) -> Checksums | None:
        """The blob's checksums, if all manifests agree on them."""
        row = self._db.execute(
            "SELECT size, sha1, crc32c, md5 FROM sums WHERE key = ? AND is_one = 1", (blob,)
        ).fetchone()
        return Checksums(row[0], Sha256(blob.rsplit("/", 1)[-1]), *row[1:]) if row else None
