"""A worker's view of its replica: the state of every copy, and what they wait for.

Folded from `copies.<replica>` (all partitions, because a manifest's children live on others) and
`redactions`. Rebuilt from Kafka at will; nothing here is the truth.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

from tidestore.connectors.breaker import EDGE_CLASSES
from tidestore.connectors.claims import ClaimBook
from tidestore.connectors.overruled import QUERY as OVERRULED_QUERY
from tidestore.connectors.overruled import OverruledKeys, create_overruled
from tidestore.connectors.view import Folded, View
from tidestore.schemas.codec import decode
from tidestore.schemas.events import (
    CopyChanged,
    CopyState,
    PartitionClaimed,
    RedactionDecided,
    RedactionLifted,
    RetryAsked,
)
from tidestore.schemas.findings import FindingReported
from tidestore.streams.decisions import Decision, find_decision, fold_decision, lifted_copies
from tidestore.streams.findings_view import FoundKey, create_findings, fold_findings
from tidestore.streams.plan import SMALL_BYTES_MAX

_COLUMNS = tuple(item.name for item in fields(CopyChanged))
_INSERT = (
    f"INSERT OR REPLACE INTO copies (partition, {', '.join(_COLUMNS)})"
    f" VALUES ({', '.join('?' * (len(_COLUMNS) + 1))})"
)
# A child for which its parent need not wait any more: settled; or parked, which parks a parent that
# waits. A parent that is parked already stays so until the child is settled after all.
_HAS_ENDED = (
    "(child.state IN ('present', 'excluded', 'redacted')"
    " OR (child.state = 'parked' AND parent.state = 'waiting'))"
)
_TAKES = (
    "SELECT parent.key FROM copies parent JOIN copies child ON child.key = parent.waits_for"
    " WHERE parent.state = 'waiting' AND child.state = 'excluded'"
)
_EDGES = ", ".join(f"'{name}'" for name in sorted(EDGE_CLASSES | {"throttled"}))
# A request is open while the record that it is about is the copy's newest one. Requests about other
# replicas, or about other lives of this one, find no copy here.
_OPEN_RETRIES = (
    "SELECT copy.partition, copy.key, copy.changed_at_ms FROM retries asked JOIN copies copy"
    " ON copy.key = asked.key AND copy.replica = asked.replica"
    " AND copy.incarnation = asked.incarnation AND copy.changed_at_ms = asked.changed_at_ms"
    " WHERE copy.state = 'parked'"
)
# The two lanes of due copies, each with an index of its own: thousands of large ones that are due
# are never looked through to find a small one.
_LARGE = f"size > {SMALL_BYTES_MAX}"
_SMALL = f"size <= {SMALL_BYTES_MAX}"
# SQLite takes 32,766 variables in a statement; a batch of this many keys is one quick query.
_KEYS_PER_QUERY = 500


@dataclass(frozen=True, slots=True)
class FoldNotes:
    """What a batch of folded records means for the worker that holds the partitions."""

    # Manifests to look at again, with their partitions: the child they wait for has changed, or
    # had changed already when their own record was folded.
    wakes: tuple[tuple[int, str], ...] = ()
    # Late records that were ignored: what is right must be written again behind them, or
    # compaction would keep the wrong one.
    overruled: tuple[tuple[int, CopyChanged], ...] = ()
    # Claims that were folded: partition, offset, worker.
    claims: tuple[tuple[int, int, str], ...] = ()
    # Parked copies that somebody wants tried again: partition, key, the record that was meant.
    retries: tuple[tuple[int, str, int], ...] = ()
    # Manifests that wait for an excluded child: it has to come after all (including.py).
    takes: tuple[str, ...] = ()
    # Findings that are open: key, replica, incarnation.
    findings: tuple[FoundKey, ...] = ()
    # Whether a copy is due for a try, now or later.
    has_pending: bool = False


class CopiesFold:
    """Makes tables of one replica's copies."""

    version = 10

    def __init__(
        self,
        copies_topic: str,
        on_notes: Callable[[FoldNotes], None],
        *,
        takes_in: bool = False,
    ) -> None:
        # Whether an excluded child of what is here has to come: the replica's filter is of kinds.
        self._takes_in = takes_in
        self._copies_topic = copies_topic
        self._on_notes = on_notes
        self._notes = FoldNotes()

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE copies (key TEXT PRIMARY KEY, partition INTEGER, replica TEXT,"
            " incarnation INTEGER, state TEXT, claim INTEGER, log_offset INTEGER, size INTEGER,"
            " sha256 TEXT, content_type TEXT, origin TEXT, written_at_ms INTEGER,"
            " changed_at_ms INTEGER, checksums TEXT, attempts INTEGER,"
            " next_try_at_ms INTEGER, error_class TEXT, error TEXT, waits_for TEXT,"
            " waits_count INTEGER, is_incomplete INTEGER, request_id TEXT, upload TEXT,"
            " bytes_done INTEGER) WITHOUT ROWID"
        )
        for name, which in (("large", _LARGE), ("small", _SMALL)):
            db.execute(
                f"CREATE INDEX copies_due_{name} ON copies (next_try_at_ms)"
                f" WHERE next_try_at_ms IS NOT NULL AND {which}"
            )
        db.execute("CREATE INDEX copies_uploads ON copies (upload) WHERE upload <> ''")
        db.execute("CREATE INDEX copies_waits ON copies (waits_for) WHERE waits_for IS NOT NULL")
        db.execute(
            "CREATE TABLE claims (partition INTEGER PRIMARY KEY, offset INTEGER, worker TEXT)"
        )
        db.execute(
            "CREATE TABLE redactions (target TEXT PRIMARY KEY, number INTEGER, reason TEXT,"
            " purge_after_ms INTEGER, is_lifted INTEGER) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE retries (key TEXT, replica TEXT, incarnation INTEGER,"
            " changed_at_ms INTEGER, PRIMARY KEY (key, replica, incarnation)) WITHOUT ROWID"
        )
        create_findings(db)
        create_overruled(db)

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        book = ClaimBook({p: (o, w) for p, o, w in db.execute("SELECT * FROM claims")})
        changed: list[CopyChanged] = []
        overruled: list[tuple[int, CopyChanged]] = []
        claims: list[tuple[int, int, str]] = []
        rows: list[tuple[object, ...]] = []
        asked: list[RetryAsked] = []
        found: list[FindingReported] = []
        lifted: list[str] = []
        keys = OverruledKeys(db)
        for record in records:
            event = record.event
            if isinstance(event, CopyChanged):
                if book.is_late(record.partition, event.claim):
                    overruled.append((record.partition, event))
                    keys.late(record.topic, record.partition, event.key, event)
                else:
                    keys.said(record.topic, record.partition, event.key)
                    changed.append(event)
                    rows.append((record.partition, *(getattr(event, name) for name in _COLUMNS)))
            elif isinstance(event, PartitionClaimed):
                book.claimed(record.partition, record.offset, event.worker)
                claims.append((record.partition, record.offset, event.worker))
            elif isinstance(event, (RedactionDecided, RedactionLifted)):
                fold_decision(db, event)
                if isinstance(event, RedactionLifted):
                    lifted.append(event.target)
            elif isinstance(event, RetryAsked):
                asked.append(event)
            elif isinstance(event, FindingReported):
                found.append(event)
        db.executemany(_INSERT, rows)
        db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?, ?)", claims)
        keys.store()
        _fold_retries(db, asked)
        self._notes = FoldNotes(
            wakes=(
                *_wakes(db, changed, is_open=not self._takes_in),
                *lifted_copies(db, lifted),
            ),
            takes=tuple(_takes(db, changed)) if self._takes_in else (),
            overruled=tuple(overruled),
            claims=tuple(claims),
            retries=tuple(_retries(db, asked, changed)),
            findings=fold_findings(db, found, changed),
            has_pending=any(event.next_try_at_ms is not None for event in changed),
        )

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        del records
        notes = self._notes
        if notes != FoldNotes():
            self._on_notes(notes)


def _fold_retries(db: sqlite3.Connection, asked: Sequence[RetryAsked]) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO retries VALUES (?, ?, ?, ?)",
        [(event.key, event.replica, event.incarnation, event.changed_at_ms) for event in asked],
    )


def _retries(
    db: sqlite3.Connection, asked: Sequence[RetryAsked], changed: Sequence[CopyChanged]
) -> Iterable[tuple[int, str, int]]:
    """Copies to try again because somebody asked.

    A gateway may have folded the parked record before this view has, so the request is looked for
    at the fold of either of the two.
    """
    keys = {event.key for event in asked}
    keys.update(event.key for event in changed if event.state is CopyState.PARKED)
    for batch in _batches(sorted(keys)):
        marks = ", ".join("?" * len(batch))
        found = db.execute(f"{_OPEN_RETRIES} AND asked.key IN ({marks})", batch)
        yield from ((partition, key, changed_at_ms) for partition, key, changed_at_ms in found)


def _takes(db: sqlite3.Connection, changed: Sequence[CopyChanged]) -> Iterable[str]:
    """Manifests that wait for an excluded child: at the fold of whichever record is second."""
    found: dict[str, None] = {}
    for column, keys in (
        ("parent.waits_for", [e.key for e in changed if e.state is CopyState.EXCLUDED]),
        ("parent.key", [e.key for e in changed if e.waits_for is not None]),
    ):
        for batch in _batches(keys):
            marks = ", ".join("?" * len(batch))
            rows = db.execute(f"{_TAKES} AND {column} IN ({marks})", batch)
            found.update((key, None) for (key,) in rows)
    return found


def _wakes(
    db: sqlite3.Connection, changed: Sequence[CopyChanged], *, is_open: bool
) -> Iterable[tuple[int, str]]:
    """Manifests that wait for what just changed, and those that began to wait too late (point 5).

    Both edges are looked at in the order of the fold, so none can fall between: whichever record
    is folded second sees the first. Unless the replica `is_open`, an excluded child has not ended.
    """
    has_ended = _HAS_ENDED if is_open else f"{_HAS_ENDED} AND child.state <> 'excluded'"
    ended = [e.key for e in changed if e.state.is_settled or e.state is CopyState.PARKED]
    woken: dict[str, int] = {}
    for keys in _batches(ended):
        marks = ", ".join("?" * len(keys))
        found = db.execute(
            "SELECT parent.key, parent.partition FROM copies parent JOIN copies child"
            f" ON child.key = parent.waits_for WHERE parent.waits_for IN ({marks})"
            f" AND {has_ended}",
            keys,
        )
        woken.update((key, partition) for key, partition in found)
    waiting = [e.key for e in changed if e.waits_for is not None]
    for keys in _batches(waiting):
        marks = ", ".join("?" * len(keys))
        found = db.execute(
            "SELECT parent.key, parent.partition FROM copies parent JOIN copies child"
            f" ON child.key = parent.waits_for WHERE parent.key IN ({marks}) AND {has_ended}",
            keys,
        )
        woken.update((key, partition) for key, partition in found)
    return [(partition, key) for key, partition in woken.items()]


def _batches(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield keys[start : start + _KEYS_PER_QUERY]


class CopiesQueries:
    """Questions to the view, asked on the event loop's thread."""

    def __init__(self, view: View) -> None:
        self._view = view

    def find(self, key: str) -> CopyChanged | None:
        """The copy's newest accepted record."""
        rows = self._view.query(f"SELECT {', '.join(_COLUMNS)} FROM copies WHERE key = ?", (key,))
        return _copy_of(rows[0]) if rows else None

    def states(self, keys: Sequence[str]) -> dict[str, CopyState]:
        """The states of many copies; keys without a record are left out."""
        found: dict[str, CopyState] = {}
        for batch in _batches(keys):
            marks = ", ".join("?" * len(batch))
            rows = self._view.query(
                f"SELECT key, state FROM copies WHERE key IN ({marks})",
                batch,
            )
            found.update((row["key"], CopyState(row["state"])) for row in rows)
        return found

    def due(
        self,
        partitions: Iterable[int],
        now_ms: int,
        limit: int,
        *,
        is_large: bool,
        drained_to_ms: int = 0,
    ) -> list[CopyChanged]:
        """Copies of these partitions whose next try is due, the longest due first, of one lane.

        Pending ones, and those whose removal failed.

        Those that failed for an edge's sake, no later than `drained_to_ms`, are due whatever their
        next try is. Asking for them looks at all that is pending: only after an outage.
        """
        marks = ", ".join(str(number) for number in partitions)
        when, parameters = "next_try_at_ms <= ?", [now_ms]
        order = "next_try_at_ms"
        if drained_to_ms:
            when = f"({when} OR (changed_at_ms <= ? AND error_class IN ({_EDGES})))"
            parameters.append(drained_to_ms)
            order = "partition, log_offset"  # as their events stand in the log: connectors/reread
        rows = self._view.query(
            f"SELECT {', '.join(_COLUMNS)} FROM copies WHERE next_try_at_ms IS NOT NULL"
            f" AND {_LARGE if is_large else _SMALL} AND {when} AND partition IN ({marks})"
            f" ORDER BY {order} LIMIT ?",
            (*parameters, limit),
        )
        return [_copy_of(row) for row in rows]

    def next_due_ms(self, partitions: Iterable[int]) -> int | None:
        """When the next copy of these partitions is due; None when there is none."""
        marks = ", ".join(str(number) for number in partitions)
        found: list[int] = []
        for which in (_LARGE, _SMALL):
            rows = self._view.query(
                f"SELECT next_try_at_ms FROM copies WHERE next_try_at_ms IS NOT NULL AND {which}"
                f" AND partition IN ({marks}) ORDER BY next_try_at_ms LIMIT 1"
            )
            found += [row[0] for row in rows]
        return min(found, default=None)

    def waiting_to_wake(self, partition: int) -> list[str]:
        """Manifests of a partition whose awaited child has ended: for whoever takes it over.

        Also those that were parked with a child which was retried since: their wake may have died
        with the last owner.
        """
        rows = self._view.query(
            "SELECT parent.key FROM copies parent JOIN copies child"
            " ON child.key = parent.waits_for"
            f" WHERE parent.partition = ? AND {_HAS_ENDED}",
            (partition,),
        )
        return [row[0] for row in rows]

    def waiting_for_excluded(self) -> list[str]:
        """Manifests that wait for an excluded child, of all partitions."""
        return [row[0] for row in self._view.query(_TAKES)]

    def asked_again(self, partition: int) -> list[tuple[str, int]]:
        """Parked copies of a partition that somebody wants tried again, and the records meant.

        For whoever takes the partition over: the request may have come while nobody held it, or
        its owner may have died over it.
        """
        rows = self._view.query(f"{_OPEN_RETRIES} AND copy.partition = ?", (partition,))
        return [(row[1], row[2]) for row in rows]

    def uploads(self) -> set[tuple[str, str]]:
        """The open uploads that copies of this replica name: key and token."""
        rows = self._view.query("SELECT key, upload FROM copies WHERE upload <> ''")
        return {(row[0], row[1]) for row in rows}

    def overruled(self, topic: str, partition: int) -> list[CopyChanged]:
        """Late records behind which the right one must be said (connectors/overruled.py)."""
        found = [decode(row[1]) for row in self._view.query(OVERRULED_QUERY, (topic, partition))]
        return [event for event in found if isinstance(event, CopyChanged)]

    def decision(self, key: str) -> Decision | None:
        """What was last decided about a key, or about all versions of its uuid."""
        return find_decision(self._view, key)


def _copy_of(row: sqlite3.Row) -> CopyChanged:
    values = dict(row)
    values["state"] = CopyState(values["state"])
    values["is_incomplete"] = bool(values["is_incomplete"])
    return CopyChanged(**values)
