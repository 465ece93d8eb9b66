"""The replicas as the log knows them, now and as they change: the view of the topic `replicas`.

    replicas --View--> DirectoryFold --woken--> whoever serves them: gateway, feeds, workers

Every process has one of its own. What a process serves is made of two halves: the topic says which
replicas there are, in which life, paused or not; the address of a replica that is in the process'
own configuration file is taken from there, with its credentials. See docs/replicas.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tidestore.connectors.credentials import Keyring, StoreAddress
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.log import ENDS_SECONDS_MAX, START_PATIENCE_SECONDS, LogWriter
from tidestore.connectors.view import Folded, View
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.datasets import DatasetRegistered
from tidestore.schemas.events import OriginChosen, ReplicaRegistered, ReplicaRetired
from tidestore.schemas.filters import EVERYTHING, ReplicaFilter
from tidestore.schemas.generations import GenerationChanged
from tidestore.schemas.objects import MalformedError, ReplicaName

LOGGER: Final = logging.getLogger("tidestore.replicas")

# The topic holds a record for each replica; reading it takes as long as finding its broker.
_READ_SECONDS_MAX: Final = 60.0


@dataclass(frozen=True, slots=True)
class Served:
    """One replica in one life, as a process is to serve it."""

    name: ReplicaName
    incarnation: int
    address: StoreAddress
    # What people are shown: without options and credentials.
    url: str
    is_paused: bool = False
    # When this life began; 0 while only a configuration file knows it.
    registered_at_ms: int = 0
    # Which objects it is to have, in this life.
    filter: ReplicaFilter = EVERYTHING

    def is_sure_of(self, key: str) -> bool:
        """Whether an object is sure to come here, and soon: others may wait for that."""
        return not self.is_paused and self.filter.is_root(key)


@dataclass(frozen=True, slots=True)
class Known:
    """The newest record of a replica, and the one before it."""

    record: ReplicaRegistered | ReplicaRetired
    offset: int
    before: ReplicaRegistered | ReplicaRetired | None = None
    before_offset: int | None = None

    @property
    def is_retired(self) -> bool:
        """Whether nobody serves it."""
        return isinstance(self.record, ReplicaRetired)


def served(
    configured: Iterable[Served], known: dict[str, Known], keyring: Keyring
) -> dict[str, Served]:
    """What is to be served, by name: those of the file in its order, then all others by name."""
    found: dict[str, Served | None] = {}
    for item in configured:
        about = known.get(item.name)
        if about is None or about.record.incarnation < item.incarnation:
            found[item.name] = item
        elif isinstance(record := about.record, ReplicaRegistered):
            found[item.name] = _as_recorded(item, record)
    names = {item.name for item in configured}
    for name, about in sorted(known.items()):
        if name not in names and isinstance(record := about.record, ReplicaRegistered):
            item = Served(ReplicaName(name), 0, address_of(record, keyring), record.url)
            found[name] = _as_recorded(item, record)
    return {name: item for name, item in found.items() if item is not None}


def _as_recorded(item: Served, record: ReplicaRegistered) -> Served | None:
    """The replica in the life that the topic says; None when we cannot know what it is to have."""
    try:
        chosen = ReplicaFilter.parse(record.filter)
    except MalformedError as error:
        # Of a newer release. Whoever served it as if it were open would fill it with what its
        # owner has excluded.
        LOGGER.error("%s cannot be served here: %s", item.name, error)
        return None
    return replace(
        item,
        incarnation=record.incarnation,
        is_paused=record.is_paused,
        registered_at_ms=record.registered_at_ms,
        filter=chosen,
    )


def address_of(record: ReplicaRegistered, keyring: Keyring) -> StoreAddress:
    """Where a registered replica lies, with the credentials it names, as far as we have them."""
    url = f"{record.url}?{record.options}" if record.options else record.url
    return StoreAddress.parse(url).keyed(keyring.source(record.credential))


class DirectoryFold:
    """The newest record of each replica and log generation, the datasets, and the origin."""

    version = 4

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE replicas (name TEXT PRIMARY KEY, offset INTEGER, record BLOB,"
            " before_offset INTEGER, before BLOB) WITHOUT ROWID"
        )
        db.execute("CREATE TABLE origin (id INTEGER PRIMARY KEY, replica TEXT, epoch INTEGER)")
        db.execute("CREATE TABLE generations (generation INTEGER PRIMARY KEY, record BLOB)")
        db.execute("CREATE TABLE datasets (name TEXT PRIMARY KEY) WITHOUT ROWID")

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        for record in records:
            event = record.event
            if isinstance(event, (ReplicaRegistered, ReplicaRetired)):
                db.execute(
                    "INSERT INTO replicas VALUES (?, ?, ?, NULL, NULL)"
                    " ON CONFLICT (name) DO UPDATE SET before_offset = offset, before = record,"
                    " offset = excluded.offset, record = excluded.record",
                    (event.name, record.offset, encode(event)),
                )
            elif isinstance(event, OriginChosen):
                db.execute(
                    "INSERT INTO origin VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                    " replica = excluded.replica, epoch = excluded.epoch"
                    " WHERE excluded.epoch > epoch",
                    (event.replica, event.epoch),
                )
            elif isinstance(event, DatasetRegistered):
                db.execute("INSERT OR IGNORE INTO datasets VALUES (?)", (event.name,))
            elif isinstance(event, GenerationChanged):
                db.execute(
                    "INSERT OR REPLACE INTO generations VALUES (?, ?)",
                    (event.generation, encode(event)),
                )

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        del records
        self._on_change()


class Directory:
    """Which replicas there are. Belongs to the event loop it was started on."""

    def __init__(self, kafka: KafkaSettings, topic: str, path: Path) -> None:
        self._topic = topic
        self._listeners: list[Callable[[], None]] = []
        self._view = View(path, DirectoryFold(self._changed), kafka, [topic])

    async def start(self, writer: LogWriter) -> None:
        """Begin to follow the topic, and read it to its present end. Raises LogError."""
        self._loop = asyncio.get_running_loop()
        await self._view.start()
        await self.read_to_end(writer, patience_seconds=START_PATIENCE_SECONDS)

    async def stop(self) -> None:
        """Stop following."""
        self._listeners.clear()
        await self._view.stop()

    async def read_to_end(
        self, writer: LogWriter, *, patience_seconds: float = ENDS_SECONDS_MAX
    ) -> None:
        """Wait until everything is known that is on the topic now. Raises LogError."""
        ends = await writer.ends(self._topic, [0], patience_seconds=patience_seconds)
        await self._view.reached(self._topic, ends, timeout_seconds=_READ_SECONDS_MAX)

    async def reached(self, offset: int) -> None:
        """Wait until the record at an offset is known. Raises LogError."""
        await self._view.reached(self._topic, {0: offset + 1}, timeout_seconds=_READ_SECONDS_MAX)

    def listen(self, call: Callable[[], None]) -> None:
        """Have a function called on the loop after every change."""
        self._listeners.append(call)

    def known(self) -> dict[str, Known]:
        """Every replica that was ever registered, by name."""
        rows = self._view.query("SELECT * FROM replicas")
        return {
            row["name"]: Known(
                _record(row["record"]),
                row["offset"],
                _record(row["before"]) if row["before"] else None,
                row["before_offset"],
            )
            for row in rows
        }

    def origin(self) -> tuple[str, int] | None:
        """The origin and its epoch."""
        rows = self._view.query("SELECT replica, epoch FROM origin")
        return (rows[0]["replica"], rows[0]["epoch"]) if rows else None

    def datasets(self) -> set[str]:
        """The datasets that any gateway was ever started with."""
        return {row["name"] for row in self._view.query("SELECT name FROM datasets")}

    def generations(self) -> list[GenerationChanged]:
        """The newest record of each generation of the log, oldest first."""
        rows = self._view.query("SELECT record FROM generations ORDER BY generation")
        found = [decode(row["record"]) for row in rows]
        return [event for event in found if isinstance(event, GenerationChanged)]

    def _changed(self) -> None:
        """In the view's thread; the loop may be closing."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        for call in self._listeners:
            call()


def _record(data: bytes) -> ReplicaRegistered | ReplicaRetired:
    event = decode(data)
    assert isinstance(event, (ReplicaRegistered, ReplicaRetired)), "as folded"  # noqa: S101
    return event
