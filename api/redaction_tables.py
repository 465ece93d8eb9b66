"""What is redacted, and what is still owed for it: the part of the index that says so.

    redactions  the newest decision or lift of each target: a key, or <dataset>/<kind>s/<uuid>
    gone        the newest ObjectRedacted of each key, and where it stands in the log
    owed        what the log or `redactions` still lacks, whoever died over it:
                  redact  a covered key whose newest record in the log is a write, or the removal
                          of an older decision
                  write   a key whose redaction was lifted, and whose newest record takes it away
                  lift    a blob that was taken along with a file, and that a live file names

`redactions` is the truth (design point 3): its record is written first, and an ObjectRedacted can
be compacted away behind a late write. A row of `owed` comes and goes with the folds, so every
gateway knows at every moment what is to be finished (api/redactor.py), without looking at all.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from tidestore.connectors.view import Folded
from tidestore.schemas.events import (
    ObjectRedacted,
    ObjectWritten,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.schemas.objects import Kind, find_key_parts

REDACT: Final = "redact"
WRITE: Final = "write"
LIFT: Final = "lift"

TABLES: Final = (
    "CREATE TABLE redactions (target TEXT PRIMARY KEY, number INTEGER, is_lifted INTEGER,"
    " reason TEXT, decided_by TEXT, decided_at_ms INTEGER, purge_after_ms INTEGER,"
    " released_to TEXT, because_of TEXT) WITHOUT ROWID",
    "CREATE TABLE gone (key TEXT PRIMARY KEY, offset INTEGER, number INTEGER, reason TEXT,"
    " decided_by TEXT, decided_at_ms INTEGER, released_to TEXT) WITHOUT ROWID",
    "CREATE TABLE owed (key TEXT, what TEXT, PRIMARY KEY (key, what)) WITHOUT ROWID",
    # Which files name a blob.
    "CREATE INDEX objects_link ON objects (link_sha256) WHERE link_sha256 IS NOT NULL",
)
_DECIDE: Final = (
    "INSERT INTO redactions VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?) ON CONFLICT (target) DO UPDATE SET"
    " number = excluded.number, is_lifted = 0, reason = excluded.reason,"
    " decided_by = excluded.decided_by, decided_at_ms = excluded.decided_at_ms,"
    " purge_after_ms = excluded.purge_after_ms, released_to = excluded.released_to,"
    " because_of = excluded.because_of WHERE redactions.number <= excluded.number"
)
_LIFT: Final = (
    "INSERT INTO redactions VALUES (?, ?, 1, '', ?, ?, 0, NULL, NULL) ON CONFLICT (target)"
    " DO UPDATE SET number = excluded.number, is_lifted = 1 WHERE number <= excluded.number"
)
# SQLite takes 32,766 variables in a statement; a batch of this many keys is one quick query.
_KEYS_PER_QUERY: Final = 500


def uuid_target(key: str) -> str | None:
    """The target that covers all versions of a key's uuid; None for a blob or another text."""
    parts = find_key_parts(key)
    if parts is None or not parts.uuid:
        return None
    return f"{parts.dataset}/{parts.kind.plural}/{parts.uuid}"


def targets_of(key: str) -> list[str]:
    """The targets that may cover a key. A text that is a target itself is covered by itself."""
    whole = uuid_target(key)
    return [key] if whole is None else [key, whole]


def fold_redactions(db: sqlite3.Connection, records: Sequence[Folded]) -> None:
    """Take a batch in; the objects of the same batch must be in the tables already."""
    written: list[str] = []
    touched: set[str] = set()
    blobs: set[str] = set()
    for record in records:
        event = record.event
        if isinstance(event, ObjectWritten):
            written.append(event.key)
        elif isinstance(event, ObjectRedacted):
            row = (event.key, record.offset, event.number, event.reason, event.decided_by,
                   event.decided_at_ms, event.released_to)  # fmt: skip
            db.execute("INSERT OR REPLACE INTO gone VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            touched.add(event.key)
        elif isinstance(event, RedactionDecided):
            db.execute(_DECIDE, (
                event.target, event.number, event.reason, event.decided_by, event.decided_at_ms,
                event.purge_after_ms, event.released_to, event.because_of,
            ))  # fmt: skip
            touched.update(_keys_of(db, event.target))
            if event.because_of is not None:
                blobs.add(event.target)
        elif isinstance(event, RedactionLifted):
            lift = (event.target, event.number, event.lifted_by, event.lifted_at_ms)
            db.execute(_LIFT, lift)
            keys = _keys_of(db, event.target)
            touched.update(keys)
            blobs.add(event.target)
            blobs.update(_blobs_of(db, keys))
    # Most stores have redacted nothing: then a write costs one look.
    if written and db.execute("SELECT 1 FROM redactions LIMIT 1").fetchone():
        touched.update(_covered(db, written))
        blobs.update(_covered(db, _blobs_of(db, written)))
    for key in touched:
        _settle_key(db, key)
    for key in blobs:
        _settle_blob(db, key)


def _covered(db: sqlite3.Connection, keys: Iterable[str]) -> set[str]:
    """Those of many keys that a decision or a lift is about."""
    by_target: dict[str, list[str]] = {}
    for key in keys:
        for target in targets_of(key):
            by_target.setdefault(target, []).append(key)
    found: set[str] = set()
    for batch in _batches(list(by_target)):
        marks = ", ".join("?" * len(batch))
        rows = db.execute(f"SELECT target FROM redactions WHERE target IN ({marks})", batch)
        found.update(key for (target,) in rows for key in by_target[target])
    return found


def _keys_of(db: sqlite3.Connection, target: str) -> set[str]:
    """The keys of objects that a target covers, written or gone."""
    found: set[str] = set()
    for table in ("objects", "gone"):
        rows = db.execute(
            f"SELECT key FROM {table} WHERE key = ? OR (key > ? AND key < ?)",
            (target, f"{target}.", f"{target}/"),
        )
        found.update(row[0] for row in rows)
    return found


def _blobs_of(db: sqlite3.Connection, keys: Iterable[str]) -> set[str]:
    """The blobs that those of these keys which are files name."""
    files = [key for key in keys if (p := find_key_parts(key)) and p.kind is Kind.FILE]
    found: set[str] = set()
    for batch in _batches(files):
        marks = ", ".join("?" * len(batch))
        rows = db.execute(
            f"SELECT key, link_sha256 FROM objects WHERE key IN ({marks})"
            " AND link_sha256 IS NOT NULL",
            batch,
        )
        found.update(f"{key.split('/', 1)[0]}/blobs/{sha256}" for key, sha256 in rows)
    return found


def _settle_key(db: sqlite3.Connection, key: str) -> None:
    """Say what is owed for one key, from what is known of it now."""
    targets = targets_of(key)
    marks = ", ".join("?" * len(targets))
    rows = db.execute(
        f"SELECT number, is_lifted FROM redactions WHERE target IN ({marks})", targets
    ).fetchall()
    number = max((number for number, is_lifted in rows if not is_lifted), default=0)
    is_redacted = number > 0
    written = db.execute("SELECT offset FROM objects WHERE key = ?", (key,)).fetchone()
    gone = db.execute("SELECT offset, number FROM gone WHERE key = ?", (key,)).fetchone()
    # Both stand in the same partition, so their offsets say which came last.
    is_write_last = written is not None and (gone is None or gone[0] < written[0])
    owed = None
    # Decided again before a lift's write came: workers hear of it by a record of its own number.
    is_older = gone is not None and gone[1] < number
    if is_redacted and (is_write_last or is_older):
        owed = REDACT
    elif not is_redacted and not is_write_last and gone is not None:
        is_lifted = any(lifted >= gone[1] for lifted, _ in rows)
        owed = WRITE if is_lifted else None
    db.execute("DELETE FROM owed WHERE key = ? AND what IN (?, ?)", (key, REDACT, WRITE))
    if owed is not None:
        db.execute("INSERT INTO owed VALUES (?, ?)", (key, owed))


def _settle_blob(db: sqlite3.Connection, key: str) -> None:
    """A blob that was taken along with a file comes back when a live file names it."""
    db.execute("DELETE FROM owed WHERE key = ? AND what = ?", (key, LIFT))
    row = db.execute(
        "SELECT 1 FROM redactions WHERE target = ? AND NOT is_lifted AND because_of IS NOT NULL",
        (key,),
    ).fetchone()
    if row is not None and live_files(db, key):
        db.execute("INSERT INTO owed VALUES (?, ?)", (key, LIFT))


def live_files(db: sqlite3.Connection, key: str) -> list[str]:
    """The files that name a blob and are not redacted."""
    parts = find_key_parts(key)
    if parts is None or parts.kind is not Kind.BLOB:
        return []
    rows = db.execute("SELECT key FROM objects WHERE link_sha256 = ? ORDER BY key", (parts.sha256,))
    files = [row[0] for row in rows if row[0].startswith(f"{parts.dataset}/")]
    gone = {file for file in _covered(db, files) if _is_redacted(db, file)}
    return [file for file in files if file not in gone]


def _is_redacted(db: sqlite3.Connection, key: str) -> bool:
    targets = targets_of(key)
    marks = ", ".join("?" * len(targets))
    sql = f"SELECT 1 FROM redactions WHERE target IN ({marks}) AND NOT is_lifted LIMIT 1"
    return db.execute(sql, targets).fetchone() is not None


def _batches(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield keys[start : start + _KEYS_PER_QUERY]
