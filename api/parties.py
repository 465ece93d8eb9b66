"""Third parties who keep a replica of their own: who they are, and what they have said.

    admin --invite--> [ parties ] --.                      .--> Authenticator: a token of its own
    party --receipts--> [ receipts ] -'--> view of both ---+--> what it claims, what is proved

A view of its own, apart from the index: nothing that an outsider says can reach what reads, waits,
sources and `present everywhere` are made of (design point 12). See docs/run-a-replica.md.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Final

from aiohttp import web

from tidestore.api.auth import Principal
from tidestore.api.problems import Problem
from tidestore.api.settings import GatewaySettings
from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import topic_ids
from tidestore.connectors.view import Folded, View
from tidestore.schemas.audit import AuditRecorded
from tidestore.schemas.objects import DatasetName
from tidestore.schemas.parties import PartyRemoved, PartySaved, ReceiptClaimed
from tidestore.schemas.topics import partition_of, receipt_key

LOGGER: Final = logging.getLogger("tidestore.parties")

# A prefix that secret scanners can look for, the party's name, and 256 bits: `tsr_mirror_...`.
TOKEN_PREFIX: Final = "tsr_"  # noqa: S105  the public prefix, no secret
_TOKEN_BYTES: Final = 32
# Each is a row and a token; far above what anybody invites, and bounded.
PARTIES_MAX: Final = 1_000
# `parties` holds a record a name; reading it takes as long as finding its broker.
_READ_SECONDS_MAX: Final = 60.0
_FOLDED_SECONDS_MAX: Final = 10.0

_TABLES: Final = (
    "CREATE TABLE parties (name TEXT PRIMARY KEY, life INTEGER, datasets TEXT, token_sha256 TEXT,"
    " invited_by TEXT, invited_at_ms INTEGER, is_removed INTEGER) WITHOUT ROWID",
    "CREATE INDEX parties_token ON parties (token_sha256)",
    "CREATE TABLE receipts (party TEXT, key TEXT, life INTEGER, state TEXT, size INTEGER,"
    " sha256 TEXT, claimed_at_ms INTEGER, verdict TEXT, judged_at_ms INTEGER, detail TEXT,"
    " PRIMARY KEY (party, key)) WITHOUT ROWID",
    # Counted as they come, so that asking never scans.
    "CREATE TABLE counts (party TEXT, life INTEGER, state TEXT, verdict TEXT, objects INTEGER,"
    " bytes INTEGER, PRIMARY KEY (party, life, state, verdict)) WITHOUT ROWID",
    "CREATE TRIGGER receipts_new AFTER INSERT ON receipts BEGIN"
    " INSERT INTO counts VALUES (new.party, new.life, new.state, new.verdict, 1, new.size)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1, bytes = bytes + new.size; END",
    "CREATE TRIGGER receipts_changed AFTER UPDATE ON receipts BEGIN"
    " UPDATE counts SET objects = objects - 1, bytes = bytes - old.size WHERE party = old.party"
    " AND life = old.life AND state = old.state AND verdict = old.verdict;"
    " INSERT INTO counts VALUES (new.party, new.life, new.state, new.verdict, 1, new.size)"
    " ON CONFLICT DO UPDATE SET objects = objects + 1, bytes = bytes + new.size; END",
)
_RECEIPT: Final = tuple(item.name for item in fields(ReceiptClaimed))
_PUT_RECEIPT: Final = (
    f"INSERT INTO receipts ({', '.join(_RECEIPT)}) VALUES ({', '.join('?' * len(_RECEIPT))})"
    " ON CONFLICT (party, key) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _RECEIPT if name not in ("party", "key"))
)
_PUT_PARTY: Final = (
    "INSERT INTO parties VALUES (?, ?, ?, ?, ?, ?, 0) ON CONFLICT (name) DO UPDATE SET"
    " life = excluded.life, datasets = excluded.datasets, token_sha256 = excluded.token_sha256,"
    " invited_by = excluded.invited_by, invited_at_ms = excluded.invited_at_ms, is_removed = 0"
)


class PartiesFold:
    """Who was invited, and the newest receipt of each object."""

    version = 1

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        for statement in _TABLES:
            db.execute(statement)

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        for record in records:
            event = record.event
            if isinstance(event, PartySaved):
                values = (event.name, event.life, json.dumps(event.datasets), event.token_sha256)
                db.execute(_PUT_PARTY, (*values, event.invited_by, event.invited_at_ms))
            elif isinstance(event, PartyRemoved):
                db.execute(
                    "INSERT INTO parties VALUES (?, ?, '[]', '', ?, ?, 1)"
                    " ON CONFLICT (name) DO UPDATE SET is_removed = 1, token_sha256 = ''",
                    (event.name, event.life, event.removed_by, event.removed_at_ms),
                )
            elif isinstance(event, ReceiptClaimed):
                db.execute(_PUT_RECEIPT, [getattr(event, name) for name in _RECEIPT])

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        del records


class PartyBook:
    """The parties of a store, for handlers. Belongs to the gateway's loop."""

    def __init__(self, settings: GatewaySettings, writer: LogWriter) -> None:
        topics = settings.topics
        self._settings, self._writer, self._topics = settings, writer, topics
        self._view = View(
            settings.data_folder / "parties.sqlite",
            PartiesFold(),
            settings.kafka,
            [topics.parties, topics.receipts],
        )
        self._lock = asyncio.Lock()
        self._deployment = ""

    async def start(self) -> None:
        """Begin to follow, and know every token that is valid now: none is refused for a moment."""
        await self._view.start()
        await self.catch_up(_READ_SECONDS_MAX)

    async def stop(self) -> None:
        """Stop following."""
        await self._view.stop()

    async def catch_up(self, seconds: float = _FOLDED_SECONDS_MAX) -> None:
        """Wait until every invitation and removal so far is known here. Raises LogError."""
        ends = await self._writer.ends(self._topics.parties, [0])
        await self._view.reached(self._topics.parties, ends, timeout_seconds=seconds)

    async def deployment(self) -> str:
        """What this store writes into the markers of its replicas' places; raises LogError."""
        if not self._deployment:
            topic = self._topics.replicas
            ids = await asyncio.to_thread(topic_ids, self._settings.kafka, [topic])
            self._deployment = ids[topic]
        return self._deployment

    def principal_of(self, token_sha256: str) -> Principal | None:
        """Whose token hashes to this."""
        rows = self._view.query(
            "SELECT * FROM parties WHERE token_sha256 = ? AND NOT is_removed", (token_sha256,)
        )
        if not rows:
            return None
        party = _party(rows[0])
        datasets = frozenset(DatasetName(name) for name in party.datasets)
        return Principal(f"party {party.name}", party.name, datasets)

    def all(self) -> list[PartySaved]:
        """Everybody who is invited now."""
        rows = self._view.query("SELECT * FROM parties WHERE NOT is_removed ORDER BY name")
        return [_party(row) for row in rows]

    def find(self, name: str) -> PartySaved | None:
        """A party by name."""
        rows = self._view.query("SELECT * FROM parties WHERE name = ? AND NOT is_removed", (name,))
        return _party(rows[0]) if rows else None

    async def invite(
        self, name: str, datasets: tuple[DatasetName, ...], who: str, request_id: str
    ) -> tuple[PartySaved, str]:
        """Invite somebody; the token, which is kept nowhere. Raises Problem, LogError."""
        async with self._lock:
            await self.catch_up()
            if self.find(name) is not None:
                raise Problem(
                    409, "name_taken", f"{name} is invited already",
                    hint="choose another name, or send that one away first",
                )  # fmt: skip
            if len(self.all()) >= PARTIES_MAX:
                raise Problem(409, "too_many_parties", f"{PARTIES_MAX} are the most")
            rows = self._view.query("SELECT life FROM parties WHERE name = ?", (name,))
            life = rows[0]["life"] + 1 if rows else 1
            secret = secrets.token_bytes(_TOKEN_BYTES)
            text = base64.urlsafe_b64encode(secret).decode().rstrip("=")
            token = f"{TOKEN_PREFIX}{name}_{text}"
            digest = hashlib.sha256(token.encode()).hexdigest()
            party = PartySaved(name, life, tuple(datasets), digest, who, _now_ms())
            await self._audit(who, "invite", name, request_id, {"datasets": list(datasets)})
            await self._append(party)
            stands = self.find(name)
            if stands != party:
                # Another gateway invited somebody else under this name, a moment later.
                raise Problem(
                    409, "changed_meanwhile", f"somebody else changed {name} at the same moment",
                    hint="look with GET /v1/parties; theirs stands",
                )  # fmt: skip
        LOGGER.warning("%s is invited by %s", name, who)
        return party, token

    async def remove(self, party: PartySaved, who: str, request_id: str) -> None:
        """Make a party's token worthless, and forget what it said. Raises LogError."""
        async with self._lock:
            await self._audit(who, "send away", party.name, request_id, {"life": party.life})
            await self._append(PartyRemoved(party.name, party.life, who, _now_ms()))
        LOGGER.warning("%s is sent away by %s", party.name, who)

    # Receipts.

    def receipts(self, party: PartySaved, keys: Sequence[str]) -> dict[str, ReceiptClaimed]:
        """What a party has said of these keys in its present life."""
        marks = ", ".join("?" * len(keys))
        rows = self._view.query(
            f"SELECT * FROM receipts WHERE party = ? AND life = ? AND key IN ({marks})",
            (party.name, party.life, *keys),
        )
        return {row["key"]: ReceiptClaimed(**dict(row)) for row in rows}

    def page(self, party: PartySaved, after: str, limit: int) -> list[ReceiptClaimed]:
        """The next receipts after a key, in key order."""
        rows = self._view.query(
            "SELECT * FROM receipts WHERE party = ? AND key > ? AND life = ? ORDER BY key LIMIT ?",
            (party.name, after, party.life, limit),
        )
        return [ReceiptClaimed(**dict(row)) for row in rows]

    def counts(self, party: PartySaved) -> list[dict[str, object]]:
        """How many objects and bytes it claims, by state and verdict."""
        rows = self._view.query(
            "SELECT state, verdict, objects, bytes FROM counts WHERE party = ? AND life = ?"
            " AND objects > 0 ORDER BY state, verdict",
            (party.name, party.life),
        )
        return [dict(row) for row in rows]

    async def record(self, receipts: Sequence[ReceiptClaimed]) -> None:
        """Write receipts and wait until they are known here. Raises LogError.

        Killed in between, some are written; the party says all of them again, which changes
        nothing but that.
        """
        topic, count = self._topics.receipts, self._topics.partitions
        placed = await asyncio.gather(
            *(
                self._writer.append(
                    topic, partition_of(item.key, count), receipt_key(item.party, item.key), item
                )
                for item in receipts
            )
        )
        ends: dict[int, int] = {}
        for one in placed:
            ends[one.partition] = max(ends.get(one.partition, 0), one.offset + 1)
        await self._view.reached(topic, ends, timeout_seconds=_FOLDED_SECONDS_MAX)

    async def _append(self, event: PartySaved | PartyRemoved) -> None:
        placed = await self._writer.append(self._topics.parties, 0, event.name, event)
        await self._view.reached(
            self._topics.parties, {0: placed.offset + 1}, timeout_seconds=_FOLDED_SECONDS_MAX
        )

    async def _audit(
        self, who: str, action: str, name: str, request_id: str, details: dict[str, object]
    ) -> None:
        record = AuditRecorded(
            who, action, name, "", request_id, _now_ms(), json.dumps(details, sort_keys=True)
        )
        await self._writer.append(self._topics.audit, 0, who, record)


async def open_parties(
    settings: GatewaySettings, writer: LogWriter, stack: contextlib.AsyncExitStack
) -> PartyBook:
    """The book, opened; closed by `stack`. Raises LogError."""
    book = PartyBook(settings, writer)
    stack.push_async_callback(book.stop)
    await book.start()
    return book


PARTY_BOOK: Final = web.AppKey("party_book", PartyBook)


def _party(row: sqlite3.Row) -> PartySaved:
    return PartySaved(
        row["name"], row["life"], tuple(json.loads(row["datasets"])), row["token_sha256"],
        row["invited_by"], row["invited_at_ms"],
    )  # fmt: skip


def _now_ms() -> int:
    return int(time.time() * 1000)
