"""Decide a redaction, lift one, and finish what another gateway began and did not end.

    audit --1--> redactions --2--> log (ObjectRedacted per key) --3--> workers remove, with receipts
                 the truth         so that it comes to every worker, and compaction drops the bytes

Each is confirmed before the next begins. Crash points. After 1: a record of something that was not
done; the admin got no answer and sends it again. After 2: hidden everywhere as soon as it is
folded; the log lacks its records, which the index of every gateway notes as owed, and any gateway
appends them (`run`). After 3: done; sent again it changes nothing.

A write that comes after its redaction (a frozen gateway's append) is owed in just the same way:
its key's newest record is a write, so ObjectRedacted is appended again. A lift goes the other way:
RedactionLifted first, then the newest write of each key is appended again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterable
from typing import Final

from tidestore.api.lookup import Index
from tidestore.api.redaction_lookup import Redaction
from tidestore.api.redaction_tables import LIFT, REDACT
from tidestore.connectors.kafka import KafkaSettings, LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.tail import read_record
from tidestore.schemas.audit import AuditRecorded
from tidestore.schemas.events import (
    ObjectRedacted,
    ObjectWritten,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.schemas.positions import Position
from tidestore.schemas.topics import Topics, partition_of

LOGGER: Final = logging.getLogger("tidestore.redactor")

# Whoever decides finishes at once, in a second or so; others wait longer than that, and not all
# equally long, so that one of them finds most of it done.
_OTHERS_SECONDS: Final = (1.0, 3.0)
# Finished in such portions; the rest is still owed, and found by the next look.
_PORTION: Final = 500
_RETRY_SECONDS: Final = 2.0
# The name under which the store itself lifts what a live file names.
_SELF: Final = "tidestore"


class Redactor:
    """Writes decisions of one gateway and finishes everybody's. Belongs to its event loop."""

    def __init__(
        self,
        index: Index,
        writer: LogWriter,
        topics: Topics,
        kafka: KafkaSettings,
        owed: asyncio.Event,
    ) -> None:
        self._index = index
        self._writer = writer
        self._topics = topics
        self._kafka = kafka
        # Set by the index when it has folded something that is owed.
        self._news = owed
        # Writes that cannot be appended again: the log does not have them any more.
        self._lost: set[str] = set()

    async def catch_up(self) -> None:
        """Wait until the index knows all decisions, and all of the log, as they are now.

        Raises LogError.
        """
        ends = await self._writer.ends(self._topics.redactions, [0])
        await self._index.reach_redactions(ends[0])
        await self._index.now()

    async def audit(self, record: AuditRecorded) -> None:
        """Write down what is about to be done, for ever. Raises LogError."""
        await self._writer.append(self._topics.audit, 0, record.actor, record)

    async def decide(
        self,
        target: str,
        *,
        reason: str,
        by: str,
        purge_after_ms: int,
        because_of: str | None = None,
    ) -> Redaction:
        """Redact a target, or find that it is; returns when this gateway hides it.

        Raises LogError; what was asked for may be decided all the same.
        """
        found = self._index.redactions.decision(target)
        if found is not None:
            return found
        event = RedactionDecided(
            target=target,
            number=self._index.redactions.number_of(target) + 1,
            reason=reason,
            decided_by=by,
            decided_at_ms=_now_ms(),
            purge_after_ms=purge_after_ms,
            because_of=because_of,
        )
        placed = await self._writer.append(self._topics.redactions, 0, target, event)
        LOGGER.info("%s redacted %s: %s", by, target, reason)
        await self._index.reach_redactions(placed.offset + 1)
        found = self._index.redactions.decision(target)
        # Lifted in this very moment: then that is the newer word, and ours is done with.
        return found or Redaction(
            target, event.number, reason, by, event.decided_at_ms, None, purge_after_ms, because_of
        )

    async def lift(self, target: str, number: int, by: str) -> None:
        """Take a decision back; returns when this gateway shows it again. Raises LogError."""
        event = RedactionLifted(target, number, by, _now_ms())
        placed = await self._writer.append(self._topics.redactions, 0, target, event)
        LOGGER.info("%s lifted the redaction of %s", by, target)
        await self._index.reach_redactions(placed.offset + 1)

    async def finish(self, keys: Iterable[str] | None = None) -> dict[str, Position]:
        """Append what is owed, of these keys or of all; where it came to stand.

        Raises LogError: the rest stays owed.
        """
        wanted = None if keys is None else set(keys)
        found: dict[str, Position] = {}
        for key, what in self._index.redactions.owed(_PORTION):
            if (wanted is None or key in wanted) and key not in self._lost:
                position = await self._finish(key, what)
                if position is not None:
                    found[key] = position
        for position in found.values():
            await self._index.reach(position)
        return found

    async def run(self) -> None:
        """Finish what is owed, whoever died over it, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(random.uniform(*_OTHERS_SECONDS))  # noqa: S311  no secret
            try:
                if found := await self.finish():
                    LOGGER.warning("finished redactions of %d keys: %s", len(found), min(found))
            except LogError as error:
                LOGGER.warning("cannot finish redactions yet: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._news.set()

    async def _finish(self, key: str, what: str) -> Position | None:
        if what == LIFT:
            standing = self._index.redactions.decision(key)
            if standing is not None:
                LOGGER.warning("a live file names %s, which was taken along: lifted", key)
                await self.lift(key, standing.number, _SELF)
            return None
        if what == REDACT:
            redaction = self._index.redactions.find(key)
            if redaction is None:
                return None
            return await self._append(
                ObjectRedacted(
                    key=key,
                    number=redaction.number,
                    reason=redaction.reason,
                    decided_by=redaction.decided_by,
                    decided_at_ms=redaction.decided_at_ms,
                    released_to=redaction.released_to,
                )
            )
        written = await self._newest_write(key)
        return None if written is None else await self._append(written)

    async def _newest_write(self, key: str) -> ObjectWritten | None:
        """The event of a key as the log has it; the index keeps its place, not its bytes."""
        row = self._index.find(key)
        if row is not None:
            topic = self._topics.log
            record = await asyncio.to_thread(
                read_record, self._kafka, topic, row.partition, row.offset
            )
            if record is not None and isinstance(record.event, ObjectWritten):
                return record.event
        LOGGER.error("%s was lifted, but the log does not have its event any more", key)
        self._lost.add(key)
        return None

    async def _append(self, event: ObjectRedacted | ObjectWritten) -> Position:
        partition = partition_of(event.key, self._topics.partitions)
        placed = await self._writer.append(self._topics.log, partition, event.key, event)
        position = Position(self._topics.generation, placed.partition, placed.offset)
        self._index.note_appended(event.key, position)
        return position


def _now_ms() -> int:
    return int(time.time() * 1000)
