"""What the owner of a partition does about findings: repair, finish a redaction, move aside.

    suspected, here, present --> read back --right--> nothing    '-wrong, or missing--.
                                                                                       v
    finding --is it about the copy's newest record?--no--> nothing: somebody was quicker
       |yes
    corrupt, due now (confirmed) --> look --missing--> copy from another replica --> present
                                      '-there--> read back --wrong--> bad bytes kept aside, replaced
                                                     '-right--> present

The state `corrupt` is written before anything is changed, so that nobody reads there and the work
has a durable owner: killed after it, the copy is due, and whoever holds the partition goes on.
Killed before it, the finding is still about the newest record, and is found by the next owner. A
frozen owner's late replacement is refused (the object is no longer the one it saw), and its late
record is ignored for its stamp.

R7: nothing is removed because it is missing somewhere. A redaction is carried out because it was
decided; a dark object is copied aside before it goes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Final

from tidestore.connectors.aside import put_aside
from tidestore.connectors.errors import ObjectExistsError, ObjectMissingError, StoreError
from tidestore.connectors.holdings import Holdings
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.schemas.findings import FindingKind, FindingReported
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import quarantine_key
from tidestore.schemas.topics import partition_of
from tidestore.streams.copies import FoldNotes
from tidestore.streams.findings_view import FindingsQueries
from tidestore.streams.outcomes import Outcomes
from tidestore.streams.records import Identity, Wanted, fresh, wanted_of
from tidestore.streams.sources import NoSourceError, Sources
from tidestore.streams.states import KnownStates

LOGGER: Final = logging.getLogger("tidestore.mending")

# Repairs run beside the copying of what is new, and wait for the same places (Sources): a few at
# once are enough, and leave room.
_AT_ONCE: Final = 8
_TEXT_CHARS_MAX: Final = 1_000
# What is older is left to the comparison of the day, and to the next one: a day's worth of false
# suspicions is read back again when a partition changes hands, never a year's.
_SUSPECTED_MS_MAX: Final = 24 * 3_600_000
# The log may have come to know what was dark; so an old order is not carried out. The comparison
# that gave it says it again a day later.
_QUARANTINE_MS_MAX: Final = 3_600_000
# Open findings that are held in memory; all of them are in the view, and asked for in portions.
_ASKED_MAX: Final = 10_000
_PORTION: Final = 500
_MENDED: Final = frozenset({FindingKind.LOST, FindingKind.ALTERED, FindingKind.ROTTEN})


class Mender:
    """Carries out findings about one replica. Belongs to the worker's event loop."""

    def __init__(
        self,
        identity: Identity,
        target: ObjectStore,
        sources: Sources,
        outcomes: Outcomes,
        known: KnownStates,
        holdings: Holdings,
        queries: FindingsQueries,
    ) -> None:
        self._identity = identity
        self._target = target
        self._sources = sources
        self._outcomes = outcomes
        self._known = known
        self._holdings = holdings
        self._queries = queries
        self._news = asyncio.Event()
        # Keys with a finding that is not carried out yet; the finding itself is in the view.
        self._asked: dict[str, None] = {}
        # The view is gone through from the key after this one for more; None when it need not be.
        self._sweep: str | None = None
        self._is_more = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def notice(self, notes: FoldNotes) -> None:
        """The view folded findings."""
        mine = (self._identity.replica, self._identity.incarnation)
        for key, *life in notes.findings:
            if tuple(life) != mine or not self._holds(key):
                continue
            if len(self._asked) < _ASKED_MAX:
                self._asked[key] = None
            else:
                self._is_more = True
        if notes.findings:
            self._news.set()

    async def held(self, partition: int) -> None:
        """A partition was taken: findings that its last owner has not carried out are ours."""
        del partition  # the sweep takes whatever is held by then
        self._is_more = True
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._news.clear()
                self._fill()
                self._start()
                await asyncio.sleep(0)  # a long sweep gives others their turns
                await self._news.wait()
        finally:
            for task in self._tasks.values():
                task.cancel()

    def _fill(self) -> None:
        """Take a portion of open findings from the view, when there are more and there is room."""
        if self._sweep is None and self._is_more and len(self._asked) < _PORTION:
            self._sweep, self._is_more = "", False
        if self._sweep is None or len(self._asked) >= _PORTION:
            return
        keys = self._queries.open_keys(self._sweep, _PORTION)
        self._asked.update((key, None) for key in keys if self._holds(key))
        self._sweep = keys[-1] if len(keys) == _PORTION else None
        self._news.set()

    def _start(self) -> None:
        for key in list(self._asked):
            if len(self._tasks) >= _AT_ONCE:
                return
            if key in self._tasks:
                continue
            del self._asked[key]
            if self._holds(key):
                task = asyncio.create_task(self._carry_out(key))
                self._tasks[key] = task
                task.add_done_callback(lambda done, key=key: self._ended(key, done))  # type: ignore[misc]

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            LOGGER.error("mending %s failed", key, exc_info=error)
        self._news.set()

    def _holds(self, key: str) -> bool:
        return self._holdings.stamp(partition_of(key, self._identity.partitions)) is not None

    async def _carry_out(self, key: str) -> None:
        finding = self._queries.find(key)
        if finding is None:
            return
        record = self._known.find_record(key) or _record_of(finding)
        await self._outcomes.alone(record, lambda: self._act(finding))

    async def _act(self, finding: FindingReported) -> None:
        # Looked up now: while we waited for our turn the copy may have got another record.
        record = self._known.find_record(finding.key)
        if finding.kind == FindingKind.SUSPECTED:
            await self._look(finding, record)
            return
        is_newest = (record.changed_at_ms if record is not None else 0) == finding.changed_at_ms
        if not is_newest:
            return
        if self._known.is_redacted(finding.key):
            if finding.kind == FindingKind.UNREDACTED:
                await self._outcomes.remove(
                    record or _record_of(finding), "redacted, and still there"
                )
        elif finding.kind == FindingKind.QUARANTINE:
            if record is None and _age_ms(finding) < _QUARANTINE_MS_MAX:
                await self._move_aside(finding)
        elif finding.kind in _MENDED:
            current = record or _record_of(finding)
            if current.state is CopyState.PRESENT:
                await self._mend(current, finding)

    async def _look(self, finding: FindingReported, record: CopyChanged | None) -> None:
        """Somebody got wrong bytes from here: read the copy back, and mend it if that is so."""
        if record is None and finding.origin == self._identity.replica:
            record = _record_of(finding)
        if (
            record is None
            or record.state is not CopyState.PRESENT
            or record.changed_at_ms > finding.found_at_ms  # it was mended since
            or _age_ms(finding) > _SUSPECTED_MS_MAX
            or self._known.is_redacted(finding.key)
        ):
            return
        kind = FindingKind.ROTTEN
        try:
            if await self._sources.is_right(self._target, wanted_of(record)):
                LOGGER.info("%s: %s is right: it was bad on its way", record.replica, record.key)
                return
        except ObjectMissingError:
            kind = FindingKind.LOST
        except StoreError as error:
            LOGGER.warning("cannot look at %s: %s", record.key, error)  # a comparison will
            return
        await self._mend(record, replace(finding, kind=kind.value))

    async def _mend(self, record: CopyChanged, finding: FindingReported) -> None:
        suspect = replace(
            fresh(record, CopyState.CORRUPT),
            attempts=0,
            # Due at once for whoever holds the partition, should we die before it is mended.
            next_try_at_ms=finding.found_at_ms,
            error_class=finding.kind,
            error=finding.detail[:_TEXT_CHARS_MAX],
            is_incomplete=record.is_incomplete,
            # The log's, all of them: the record of a present copy has only what its store said.
            checksums=finding.checksums,
        )
        LOGGER.warning("%s: %s is %s", self._identity.replica, finding.key, finding.kind)
        if await self._outcomes.record(suspect):
            await self.again(suspect)

    async def again(self, record: CopyChanged) -> None:
        """Try to mend a corrupt copy, with its outcome recorded whatever it is.

        Also one that was parked, because somebody asked for it: corrupt again first, so that what
        lies there is read back however often this try fails.
        """
        if record.state is not CopyState.CORRUPT:
            LOGGER.info("%s: %s is mended: asked for", self._identity.replica, record.key)
            record = replace(
                fresh(record, CopyState.CORRUPT),
                next_try_at_ms=int(time.time() * 1000),
                error_class=record.error_class,
                error=record.error,
                is_incomplete=record.is_incomplete,
            )
            if not await self._outcomes.record(record):
                return
        try:
            info = await self._right(wanted_of(record))
        except StoreError as error:
            await self._outcomes.failed(
                record, error.error_class, str(error), error.retry_after_seconds
            )
        except NoSourceError as error:
            await self._outcomes.failed(record, error.error_class, str(error))
        else:
            said = ",".join(f"{name}:{hex_}" for name, hex_ in sorted(info.checksums.items()))
            present = replace(
                fresh(record, CopyState.PRESENT),
                checksums=said,
                attempts=0,
                is_incomplete=record.is_incomplete,
            )
            if await self._outcomes.record(present):
                LOGGER.warning("%s: %s is mended", self._identity.replica, record.key)

    async def _right(self, wanted: Wanted) -> ObjectInfo:
        """Have the right bytes there: read back what is there, or copy what is not."""
        try:
            await self._target.head(wanted.key)
        except ObjectMissingError:
            try:
                return await self._sources.copy(self._target, wanted)
            except ObjectExistsError:
                pass  # somebody else's copy came first; it is read back like any other
        return await self._sources.prove_equal(self._target, wanted, reads_back=True)

    async def _move_aside(self, finding: FindingReported) -> None:
        """Copy an object that nobody knows out of the way, and take it from its key.

        The key is ours alone while we do this (Outcomes.alone), so no copy of ours is taken for it.
        Killed between copy and removal: it is in both places, and dark still.
        """
        key = ObjectKey(finding.key)
        aside = quarantine_key(finding.key, finding.seen_etag)
        try:
            info = await self._target.head(key)
            if info.etag != finding.seen_etag:
                return  # another one: its time begins when it is found
            stream = await self._target.get(key)
            if not await put_aside(self._target, aside, stream, info.size):
                kept = await self._target.head(aside)
                if kept.size != info.size:  # not what we would have kept: nothing may be removed
                    raise ObjectExistsError("keep", self._target.name, aside)
            if (await self._target.head(key)).etag == info.etag:
                await self._target.delete(key)
        except ObjectMissingError:
            return
        except StoreError as error:
            # It stays where it is, and the next comparison asks again.
            LOGGER.warning("cannot move %s aside: %s", key, error)
            return
        LOGGER.warning(
            "%s: %s, of which the log knows nothing, lies under %s now",
            self._identity.replica, key, aside,
        )  # fmt: skip


def _age_ms(finding: FindingReported) -> int:
    return int(time.time() * 1000) - finding.found_at_ms


def _record_of(finding: FindingReported) -> CopyChanged:
    """The record of a copy that has none: what its event says of the origin's (R1)."""
    return CopyChanged(
        key=finding.key,
        replica=finding.replica,
        incarnation=finding.incarnation,
        state=CopyState.PRESENT,
        claim=0,
        log_offset=finding.log_offset,
        size=finding.size,
        sha256=finding.sha256,
        content_type=finding.content_type,
        origin=finding.origin,
        written_at_ms=finding.written_at_ms,
        changed_at_ms=0,
        checksums=finding.checksums,
    )
