"""Replicas and the origin as the log knows them: registered when new, refused when contradicted.

The origin is a record with an epoch (design point 2). Which replica it is decides where every
writer creates, so two gateways that disagree would let one key get two contents: a configuration
that names another origin than the log's record is refused, with what to do.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from tidestore.api.settings import GatewaySettings
from tidestore.connectors.log import LogWriter
from tidestore.connectors.view import Folded, View
from tidestore.schemas.events import OriginChosen, ReplicaRegistered, ReplicaRetired
from tidestore.schemas.objects import MalformedError
from tidestore.schemas.topics import ORIGIN_KEY


class ReplicasFold:
    """The newest record of each replica, and the origin."""

    version = 1

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE replicas (name TEXT PRIMARY KEY, incarnation INTEGER, url TEXT,"
            " is_retired INTEGER) WITHOUT ROWID"
        )
        db.execute("CREATE TABLE origin (id INTEGER PRIMARY KEY, replica TEXT, epoch INTEGER)")

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        for record in records:
            event = record.event
            if isinstance(event, ReplicaRegistered):
                row = (event.name, event.incarnation, event.url, 0)
                db.execute("INSERT OR REPLACE INTO replicas VALUES (?, ?, ?, ?)", row)
            elif isinstance(event, ReplicaRetired):
                db.execute("UPDATE replicas SET is_retired = 1 WHERE name = ?", (event.name,))
            elif isinstance(event, OriginChosen):
                db.execute(
                    "INSERT INTO origin VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE SET"
                    " replica = excluded.replica, epoch = excluded.epoch"
                    " WHERE excluded.epoch > epoch",
                    (event.replica, event.epoch),
                )

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""


async def settle_replicas(settings: GatewaySettings, writer: LogWriter, view: View) -> int:
    """Register what is new, and return the origin's epoch. Raises MalformedError, LogError.

    Two gateways that start for the first time at once may both choose the origin: the same one, or
    one of them is refused below, after reading what the other wrote.
    """
    topic = settings.topics.replicas
    await _read_to_end(writer, view, topic)
    known = {row["name"]: row for row in view.query("SELECT * FROM replicas")}
    now_ms = int(time.time() * 1000)
    for entry in settings.replicas:
        url = entry.url.split("?", 1)[0]
        row = known.get(entry.name)
        if row is None or (row["incarnation"], row["url"]) != (entry.incarnation, url):
            event = ReplicaRegistered(entry.name, entry.incarnation, url, now_ms)
            await writer.append(topic, 0, entry.name, event)
    if not view.query("SELECT 1 FROM origin"):
        chosen = OriginChosen(settings.origin, 1, now_ms)
        await writer.append(topic, 0, ORIGIN_KEY, chosen)
    await _read_to_end(writer, view, topic)
    row = view.query("SELECT replica, epoch FROM origin")[0]
    if row["replica"] != settings.origin:
        raise MalformedError(
            "origin",
            f"is {settings.origin!r} here, but this store's log says {row['replica']!r}",
            hint=f'set origin = "{row["replica"]}" in tidestore.toml',
        )
    return int(row["epoch"])


async def _read_to_end(writer: LogWriter, view: View, topic: str) -> None:
    ends = await writer.ends(topic, [0])
    await view.reached(topic, ends, timeout_seconds=60)
