"""What comparisons of the replicas with the log said, and the writes that they found unfinished.

The gateway compares nothing itself: it follows the topics of streams/scrub.py. A dark object at
the origin may be a write whose event was lost with the gateway that made it (design point 1), and
only a gateway appends events: each looks at it, and appends what the log still lacks. When two do,
the second event is harmless. Killed in between: the next comparison finds it again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiohttp import web

from tidestore.api.context import gateway_of
from tidestore.api.reconcile import Reconciler
from tidestore.connectors.errors import StoreError
from tidestore.connectors.kafka import LogError
from tidestore.connectors.view import Folded, View
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.findings import (
    FindingKind,
    FindingReported,
    ReadbackMoved,
    ScrubReported,
)

LOGGER: Final = logging.getLogger("tidestore.scrubs")

# What a comparison can find at most; the rest comes with the next one.
_DARK_MAX: Final = 200_000
_AT_ONCE: Final = 100
_RETRY_SECONDS: Final = 10.0
_COUNTS: Final = (
    "expected", "equal", "owed", "listed", "lost", "altered", "dark", "unredacted", "foreign",
)  # fmt: skip


class ScrubsFold:
    """The newest statement and place of reading back of each life of each replica."""

    version = 1

    def __init__(self, on_dark: Callable[[list[FindingReported]], None]) -> None:
        self._on_dark = on_dark
        self._dark: list[FindingReported] = []

    def create(self, db: sqlite3.Connection) -> None:
        """See Fold."""
        db.execute(
            "CREATE TABLE said (name TEXT, replica TEXT, incarnation INTEGER, record BLOB,"
            " PRIMARY KEY (name, replica, incarnation)) WITHOUT ROWID"
        )

    def fold(self, db: sqlite3.Connection, records: Sequence[Folded]) -> None:
        """See Fold."""
        self._dark = []
        for record in records:
            event = record.event
            if isinstance(event, (ScrubReported, ReadbackMoved)):
                row = (type(event).__name__, event.replica, event.incarnation, encode(event))
                db.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?, ?)", row)
            elif isinstance(event, FindingReported) and event.kind == FindingKind.DARK:
                self._dark.append(event)

    def folded(self, records: Sequence[Folded]) -> None:
        """See Fold."""
        del records
        if self._dark:
            self._on_dark(self._dark)


class ScrubBook:
    """Answers what was said last, and finishes writes at the origin. On the gateway's loop."""

    def __init__(self, view: View, reconciler: Reconciler, origin: str) -> None:
        self._view = view
        self._reconciler = reconciler
        self._origin = origin
        self._dark: dict[str, None] = {}
        self._news = asyncio.Event()

    def dark(self, findings: list[FindingReported]) -> None:
        """These were found at some replica; the origin's are looked at."""
        for finding in findings:
            if finding.replica == self._origin and len(self._dark) < _DARK_MAX:
                self._dark[finding.key] = None
        self._news.set()

    async def run(self) -> None:
        """Finish what was found, until cancelled."""
        while True:
            self._news.clear()
            keys = list(self._dark)[:_AT_ONCE]
            if not keys:
                await self._news.wait()
                continue
            try:
                await self._reconciler.finish(keys)
            except (StoreError, LogError) as error:
                LOGGER.warning("cannot finish what is dark at the origin yet: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for key in keys:
                del self._dark[key]

    def report(self, replica: str, incarnation: int) -> ScrubReported | None:
        """The last comparison of a replica in this life."""
        found = self._find(ScrubReported, replica, incarnation)
        return found if isinstance(found, ScrubReported) else None

    def readback(self, replica: str, incarnation: int) -> ReadbackMoved | None:
        """How far its bytes were read back."""
        found = self._find(ReadbackMoved, replica, incarnation)
        return found if isinstance(found, ReadbackMoved) else None

    def _find(self, kind: type[Any], replica: str, incarnation: int) -> object:
        rows = self._view.query(
            "SELECT record FROM said WHERE name = ? AND replica = ? AND incarnation = ?",
            (kind.__name__, replica, incarnation),
        )
        return decode(rows[0][0]) if rows else None


SCRUBS: Final = web.AppKey("scrubs", ScrubBook)


async def list_statements(request: web.Request) -> web.StreamResponse:
    """The newest statement about each replica, with the signature over its very text."""
    book = request.app[SCRUBS]
    items = []
    for entry in gateway_of(request).lives.values():
        report = book.report(entry.name, entry.incarnation)
        if report is not None:
            items.append(
                {
                    "replica": report.replica,
                    "incarnation": report.incarnation,
                    "verdict": report.verdict,
                    "reason": report.reason,
                    "ended_at_ms": report.ended_at_ms,
                    "statement": report.statement,
                    "signature": report.signature,
                    "public_key": report.public_key,
                }
            )
    return web.json_response({"items": items}, headers={"Cache-Control": "no-store"})


def scrub_document(report: ScrubReported | None, place: ReadbackMoved | None) -> dict[str, Any]:
    """What a replica's status says of both; null for what has not been done yet."""
    compared = None
    if report is not None:
        compared = {
            "verdict": report.verdict,
            "reason": report.reason,
            "said": json.loads(report.statement)["said"] if report.statement else "",
            "is_signed": bool(report.signature),
            "cut": report.cut,
            "ended_at_ms": report.ended_at_ms,
            **{name: getattr(report, name) for name in _COUNTS},
        }
    read = None
    if place is not None:
        read = {
            "round": place.round,
            "objects": place.objects,
            "bytes": place.bytes,
            "rotten": place.rotten,
            "moved_at_ms": place.moved_at_ms,
            "all_since_ms": place.last_round_began_at_ms or None,
        }
    return {"scrub": compared, "read_back": read}
