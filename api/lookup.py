"""Questions to the index, and waiting until it knows enough to answer them.

Belongs to the gateway's event loop; every query is answered from an index of SQLite in tens of
microseconds, so it runs right there.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tidestore.api.old_positions import explaining
from tidestore.api.own_writes import OwnWrites, subject_of
from tidestore.api.redaction_lookup import Redaction, Redactions
from tidestore.connectors.log import LogWriter
from tidestore.connectors.view import View
from tidestore.schemas.events import CopyState
from tidestore.schemas.generations import (
    GenerationChanged,
    carried,
    carried_position,
)
from tidestore.schemas.objects import (
    DatasetName,
    Kind,
    ObjectKey,
    ObjectUuid,
    kind_prefix,
    versions_prefix,
)
from tidestore.schemas.positions import Cut, Position
from tidestore.schemas.topics import Topics, partition_of

_KEYS_PER_QUERY: Final = 500
# The character after "/" and after "." in code point order: ends a range of keys with a prefix.
_AFTER: Final = {"/": "0", ".": "/"}


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One object as the log has it. The `link_` fields are a file's: what its manifest names."""

    key: ObjectKey
    partition: int
    offset: int
    size: int
    sha256: str
    sha1: str
    crc32c: str
    md5: str
    content_type: str
    origin: str
    written_at_ms: int
    name: str | None
    link_sha256: str | None
    link_size: int | None
    link_type: str | None
    written_by: str
    request_id: str


@dataclass(frozen=True, slots=True)
class CopyRow:
    """One copy as its replica's worker reported it."""

    key: str
    replica: str
    incarnation: int
    state: CopyState
    claim: int
    changed_at_ms: int
    checksums: str
    attempts: int
    next_try_at_ms: int | None
    error_class: str | None
    error: str | None
    waits_for: str | None
    waits_count: int
    is_incomplete: bool
    # How much of an upload that is under way was stored at `changed_at_ms`.
    bytes_done: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a replica is behind. `present` counts what was written there, too."""

    present: int
    pending: int
    pending_bytes: int
    oldest_written_at_ms: int | None
    oldest_key: str | None
    waiting: int
    parked: int
    # What the replica's filter leaves out.
    excluded: int = 0


class Index:
    """The gateway's queries on its view of log and copies."""

    def __init__(
        self,
        view: View,
        writer: LogWriter,
        topics: Topics,
        generations: Callable[[], list[GenerationChanged]],
        *,
        catch_up_seconds: float,
    ) -> None:
        self._generations = generations
        self._view = view
        self._writer = writer
        self._topics = topics
        self._catch_up_seconds = catch_up_seconds
        self._own = OwnWrites(view, topics.log)
        self.redactions = Redactions(view)

    def find(self, key: str) -> ObjectRow | None:
        """The object under a key."""
        rows = self._view.query("SELECT * FROM objects WHERE key = ?", (key,))
        return _object(rows[0]) if rows else None

    def find_many(self, keys: Sequence[str]) -> dict[str, ObjectRow]:
        """The objects under many keys; those that are not there are left out."""
        found: dict[str, ObjectRow] = {}
        for batch in _batches(keys):
            marks = ", ".join("?" * len(batch))
            rows = self._view.query(f"SELECT * FROM objects WHERE key IN ({marks})", batch)
            found.update((row["key"], _object(row)) for row in rows)
        return found

    def latest(self, dataset: DatasetName, kind: Kind, uuid: ObjectUuid) -> ObjectRow | None:
        """The greatest version of a uuid that is not redacted."""
        for row in reversed(self.versions(dataset, kind, uuid)):
            if self.redaction(row.key) is None:
                return row
        return None

    def versions(self, dataset: DatasetName, kind: Kind, uuid: ObjectUuid) -> list[ObjectRow]:
        """All versions of a uuid, oldest first."""
        prefix = versions_prefix(dataset, kind, uuid)
        rows = self._view.query(
            "SELECT * FROM objects WHERE key >= ? AND key < ? ORDER BY key",
            (prefix, prefix[:-1] + _AFTER["."]),
        )
        return [_object(row) for row in rows]

    def page(self, dataset: DatasetName, kind: Kind, after: str, limit: int) -> list[ObjectRow]:
        """The next objects of a kind after a key, in key order."""
        prefix = kind_prefix(dataset, kind)
        rows = self._view.query(
            "SELECT * FROM objects WHERE key > ? AND key < ? ORDER BY key LIMIT ?",
            (max(after, prefix), prefix[:-1] + _AFTER["/"], limit),
        )
        return [_object(row) for row in rows]

    def redaction(self, key: str) -> Redaction | None:
        """Why a key is redacted, and to where it was released; None when it is not."""
        return self.redactions.find(key)

    def redacted_among(self, keys: Sequence[str]) -> list[str]:
        """Those of many keys that are redacted."""
        return self.redactions.among(keys)

    def refuse_redacted(self, key: str) -> None:
        """Raise Problem 410 when a key is redacted."""
        self.redactions.refuse(key)

    def copies(self, key: str) -> dict[str, CopyRow]:
        """The copies of a key by replica. The origin's own is not among them: see place_of."""
        rows = self._view.query("SELECT * FROM copies WHERE key = ?", (key,))
        return {row["replica"]: _copy(row) for row in rows}

    def copies_of_many(self, keys: Sequence[str]) -> dict[str, dict[str, CopyRow]]:
        """The copies of many keys, by key and replica."""
        found: dict[str, dict[str, CopyRow]] = {key: {} for key in keys}
        for batch in _batches(keys):
            marks = ", ".join("?" * len(batch))
            rows = self._view.query(f"SELECT * FROM copies WHERE key IN ({marks})", batch)
            for row in rows:
                found[row["key"]][row["replica"]] = _copy(row)
        return found

    def parked(self, replica: str, after: str, limit: int) -> list[CopyRow]:
        """The next parked copies of a replica after a key, in key order."""
        rows = self._view.query(
            "SELECT * FROM copies WHERE state = 'parked' AND replica = ? AND key > ?"
            " ORDER BY key LIMIT ?",
            (replica, after, limit),
        )
        return [_copy(row) for row in rows]

    def under_way(self, replica: str, limit: int) -> list[CopyRow]:
        """Copies of a replica whose upload has begun, in key order."""
        rows = self._view.query(
            "SELECT * FROM copies WHERE bytes_done IS NOT NULL AND replica = ? ORDER BY key"
            " LIMIT ?",
            (replica, limit),
        )
        return [_copy(row) for row in rows]

    def present_on(self, row: ObjectRow, copies: dict[str, CopyRow]) -> set[str]:
        """The replicas where the object can be read now. At its origin the event is the proof."""
        found = {name for name, copy in copies.items() if copy.state is CopyState.PRESENT}
        origin = copies.get(row.origin)
        if origin is None or origin.state is CopyState.PRESENT:
            found.add(row.origin)
        return found

    def lag(self, replica: str) -> Lag:
        """How far a replica is behind the log."""
        totals = {
            row["name"]: (row["objects"], row["bytes"])
            for row in self._view.query("SELECT * FROM totals WHERE replica = ?", (replica,))
        }
        oldest = self._view.query(
            "SELECT written_at_ms, key FROM pending WHERE replica = ? ORDER BY written_at_ms"
            " LIMIT 1",
            (replica,),
        )
        moment, key = (oldest[0][0], oldest[0][1]) if oldest else (None, None)
        pending, pending_bytes = totals.get("pending*", (0, 0))
        # What was written here is there without a record; of those that have one all the same,
        # the record tells.
        own = self._view.query("SELECT count(*) FROM own WHERE replica = ?", (replica,))[0][0]
        written = totals.get("written*", (0, 0))[0] - own
        return Lag(
            present=totals.get("present", (0, 0))[0] + written,
            pending=pending,
            pending_bytes=pending_bytes,
            oldest_written_at_ms=moment,
            oldest_key=key,
            waiting=totals.get("waiting", (0, 0))[0],
            parked=totals.get("parked", (0, 0))[0],
            excluded=totals.get("excluded", (0, 0))[0],
        )

    def has_begun(self, topic: str) -> bool:
        """Whether the index follows a topic yet: a moment after a replica was added it does not."""
        return bool(self._view.query("SELECT 1 FROM view_identity WHERE name = ?", (topic,)))

    def written_count(self) -> int:
        """How many objects the log has."""
        rows = self._view.query(
            "SELECT coalesce(sum(objects), 0) FROM totals WHERE name = 'written*'"
        )
        return int(rows[0][0])

    # Waiting.

    def known_ends(self) -> dict[str, dict[int, int]]:
        """How far decisions and log are known here: for each topic the next offsets."""
        topics = self._topics
        return {
            topic: {number: self._view.offset_next(topic, number) for number in range(count)}
            for topic, count in ((topics.redactions, 1), (topics.log, topics.partitions))
        }

    async def reach_redactions(self, offset_next: int) -> None:
        """Wait until the decisions before this offset of `redactions` are known here."""
        await self._view.reached(
            self._topics.redactions, {0: offset_next}, timeout_seconds=self._catch_up_seconds
        )

    async def catch_up(self, keys: Iterable[str]) -> None:
        """Wait until the index knows all that the log holds now on these keys' partitions.

        Asks the brokers once for the ends. Raises LogUnavailableError after the time limit.
        """
        log, count = self._topics.log, self._topics.partitions
        ends = await self._writer.ends(log, sorted({partition_of(key, count) for key in keys}))
        await self._view.reached(log, ends, timeout_seconds=self._catch_up_seconds)

    def note_appended(self, key: str, position: Position) -> None:
        """This gateway has written a key's event: reads here must not miss it."""
        self._own.note(key, position)

    async def reach_own(self, keys: Iterable[str]) -> None:
        """Wait until the index knows what this gateway itself has written under these keys.

        A key without a version stands for all versions. Costs nothing when all is folded, and never
        asks a broker. Raises LogUnavailableError after the time limit.
        """
        wanted = self._own.unfolded({subject_of(key) for key in keys})
        if wanted:
            await self._view.reached(
                self._topics.log, wanted, timeout_seconds=self._catch_up_seconds
            )

    async def now(self) -> Cut:
        """Wait until the index holds all that is in the log now, and return that cut."""
        cut = await self._writer.cut(
            self._topics.log, self._topics.partitions, self._topics.generation
        )
        await self.reach_cut(cut)
        return cut

    async def reach_cut(self, cut: Cut) -> None:
        """Wait until everything inside a cut, of any generation, is known here."""
        mine = Cut(self._topics.generation, (0,) * self._topics.partitions)
        with explaining(self._topics.generation):
            cut = carried(cut, self._topics, self._generations())
        cut.reaches(mine)  # refuses a cut of another width
        await self._view.reached(
            self._topics.log,
            dict(enumerate(cut.offsets_next)),
            timeout_seconds=self._catch_up_seconds,
        )

    async def reach(self, position: Position) -> None:
        """Wait until the record at a position is known here: read your writes, on any gateway."""
        with explaining(self._topics.generation):
            cut = carried_position(position, self._topics, self._generations())
        if cut is not None:
            await self.reach_cut(cut)
            return
        empty = Cut(self._topics.generation, (0,) * self._topics.partitions)
        empty.holds(position)  # refuses a partition that is not there
        await self._view.reached(
            self._topics.log,
            {position.partition: position.offset + 1},
            timeout_seconds=self._catch_up_seconds,
        )

    def position_of(self, row: ObjectRow) -> Position:
        """Where the object's event stands in the log."""
        return Position(self._topics.generation, row.partition, row.offset)


class Watchers:
    """Who waits for news of a key. Fed by the index's fold, on the event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._on_moved: Callable[[], None] = lambda: None

    def listen(self, call: Callable[[], None]) -> None:
        """Have a function called whenever something was folded."""
        self._on_moved = call

    def tell(self, keys: set[str]) -> None:
        """These keys changed."""
        self._on_moved()
        if not self._waiting:
            return
        for key in keys & self._waiting.keys():
            for event in self._waiting[key]:
                event.set()

    def subscribe(self, key: str) -> asyncio.Event:
        """An event that is set at every change of a key; must be unsubscribed."""
        event = asyncio.Event()
        self._waiting.setdefault(key, []).append(event)
        return event

    def unsubscribe(self, key: str, event: asyncio.Event) -> None:
        """Forget a subscriber."""
        left = [other for other in self._waiting.get(key, []) if other is not event]
        if left:
            self._waiting[key] = left
        else:
            self._waiting.pop(key, None)


def _object(row: sqlite3.Row) -> ObjectRow:
    return ObjectRow(**dict(row))


def _copy(row: sqlite3.Row) -> CopyRow:
    values = dict(row)
    values["state"] = CopyState(values["state"])
    values["is_incomplete"] = bool(values["is_incomplete"])
    return CopyRow(**values)


def _batches(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        yield keys[start : start + _KEYS_PER_QUERY]
