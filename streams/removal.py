"""Take a redacted object away from one replica, with a receipt; and bring it back when lifted.

    redacted --keep aside (within grace)--> erase: versions, uploads --> redacting, due in a while
                                                                              | second look
              redacting <--found something: a request was under way------- erase again
                                                                              | found nothing
    redacted (due when the grace ends) <--------------------------------------'
         | purge: erase what was kept aside
    redacted (nothing due): the last word

A replica's receipt is its CopyChanged: `redacted` means that the key is free, in all its versions,
and that a second look after the longest life of a request found nothing. Its text says whether the
bytes are still kept aside, and until when.

Crash points: every step finds what it did before. Killed after keeping aside: it is there. After
erasing: nothing is found, and the look comes later. After the second look, before its record: the
record is due again. Nothing here decides anything: `redactions` does, read before each step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from tidestore.connectors.aside import put_aside
from tidestore.connectors.errors import ChecksumMismatchError, ObjectExistsError, ObjectMissingError
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.connectors.verify import CheckedSource, upload_verified
from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import redacted_key
from tidestore.streams.decisions import Decision
from tidestore.streams.records import Wanted, fresh

# A purge that waits for a decision: no moment at all.
_UNDECIDED_MS: Final = 2**53
_TEXT_CHARS_MAX: Final = 1_000
_GOING: Final = frozenset({CopyState.REDACTING, CopyState.REDACTED})


@dataclass(frozen=True, slots=True)
class Found:
    """What a step found and what is known of the decision: all that the next record depends on."""

    traces: int
    now_ms: int
    purge_after_ms: int
    look_ms: int
    reason: str


def next_record(record: CopyChanged, found: Found) -> CopyChanged | None:
    """The record that follows a step; None when the newest one stays the right one. Pure."""
    is_looked = (
        record.state is CopyState.REDACTING
        and record.error_class is None
        and record.next_try_at_ms is not None
        and record.next_try_at_ms <= found.now_ms
    )
    if record.state is CopyState.REDACTED and not found.traces:
        is_due = record.next_try_at_ms is not None and record.next_try_at_ms <= found.now_ms
        return _redacted(record, found) if is_due else None
    if is_looked and not found.traces:
        return _redacted(record, found)
    is_waiting = record.state is CopyState.REDACTING and record.error_class is None
    if is_waiting and record.next_try_at_ms is not None and not found.traces:
        return None  # the second look has not come yet
    going = replace(fresh(record, CopyState.REDACTING), attempts=0)
    return replace(
        going,
        next_try_at_ms=found.now_ms + found.look_ms,
        error=found.reason[:_TEXT_CHARS_MAX],
    )


def _redacted(record: CopyChanged, found: Found) -> CopyChanged:
    done = replace(fresh(record, CopyState.REDACTED), attempts=0)
    if found.purge_after_ms <= found.now_ms:
        return replace(done, error=f"purged: {found.reason}"[:_TEXT_CHARS_MAX])
    moment = datetime.fromtimestamp(min(found.purge_after_ms, 2**42) / 1000, UTC)
    text = f"kept aside until {moment:%Y-%m-%dT%H:%M:%SZ}: {found.reason}"
    return replace(done, next_try_at_ms=found.purge_after_ms, error=text[:_TEXT_CHARS_MAX])


def is_going(record: CopyChanged) -> bool:
    """Whether a copy is on its way out, or is gone."""
    return record.state in _GOING


def with_facts(known: CopyChanged, event: CopyChanged) -> CopyChanged | None:
    """A record that knew the key alone, with what the event's says of the object; else None.

    A lift appends the write again, and a worker may meet it before it has read the lift: what is to
    be brought back must be known when it has.
    """
    if known.sha256 or not event.sha256:
        return None
    return replace(
        event,
        state=known.state,
        attempts=known.attempts,
        next_try_at_ms=known.next_try_at_ms,
        error_class=known.error_class,
        error=known.error,
    )


class Removal:
    """Removes from, and puts back into, one replica's store. Belongs to the worker's event loop."""

    def __init__(self, target: ObjectStore, *, look_seconds: float) -> None:
        self._target = target
        self._look_ms = int(look_seconds * 1000)

    async def step(
        self, record: CopyChanged, decision: Decision | None, reason: str
    ) -> CopyChanged | None:
        """Do what is due now; the record to write, or None. Raises StoreError.

        Without a decision that stands the log's own word takes the object from sight, and nothing
        is purged: the decision is not known to this worker yet, perhaps a lift before it is.
        """
        is_decided = decision is not None and decision.is_redacted
        purge_after_ms = decision.purge_after_ms if decision and is_decided else _UNDECIDED_MS
        reason = (decision.reason if decision and is_decided else "") or reason
        key, aside = ObjectKey(record.key), redacted_key(record.key)
        now_ms = int(time.time() * 1000)
        if purge_after_ms > now_ms:
            await self._keep_aside(key, aside)
        traces = await self._target.erase(key)
        if purge_after_ms <= now_ms:
            await self._target.erase(aside)
        return next_record(record, Found(traces, now_ms, purge_after_ms, self._look_ms, reason))

    async def put_back(self, wanted: Wanted) -> ObjectInfo | None:
        """Put what was kept aside back under its key, proved; None when it is not there.

        Raises StoreError. Killed before `forget`: both are there, and equal.
        """
        try:
            stream = await self._target.get(redacted_key(wanted.key))
        except ObjectMissingError:
            return None
        place = ("lift", self._target.name, wanted.key)
        source = CheckedSource(
            stream.chunks, sha256=wanted.sha256, size=wanted.size, known=wanted.sums, place=place
        )
        try:
            return await upload_verified(
                self._target, wanted.key, source, wanted.size, wanted.content_type
            )
        except (ChecksumMismatchError, ObjectExistsError):
            return None  # damaged, so another source must give it; or back already
        finally:
            await stream.close()

    async def read_aside(self, wanted: Wanted) -> bytes | None:
        """The bytes of a manifest that is kept aside, proved; None when it is not there."""
        try:
            stream = await self._target.get(redacted_key(wanted.key))
        except ObjectMissingError:
            return None
        try:
            source = CheckedSource(stream.chunks, sha256=wanted.sha256, size=wanted.size)
            return b"".join([chunk async for chunk in source])
        except ChecksumMismatchError:
            return None
        finally:
            await stream.close()

    async def forget(self, key: ObjectKey) -> None:
        """What was kept aside is back in its place."""
        await self._target.erase(redacted_key(key))

    async def _keep_aside(self, key: ObjectKey, aside: ObjectKey) -> None:
        """Copy the object, as it is, to where nobody but the admin reads. Nothing there: nothing.

        The bytes are proved when they are put back: what matters now is that they go from sight.
        """
        try:
            stream = await self._target.get(key)
        except ObjectMissingError:
            return
        await put_aside(self._target, aside, stream, stream.info.size)
