"""Carry out one copy: plan, wait for children, copy, verify, record. All awaits of a copy are here.

    event --> plan --> children settled? --no--> waiting ----------------.
                            |yes                                          |  each a CopyChanged
                       put_if_absent --ok, or equal bytes there--> present|  on copies.<replica>,
                            |failed                                       |  confirmed by the broker
                       error class --> pending (due later) | parked -----'  before it counts

A record of the log is finished only when one of these outcomes is confirmed. Killed anywhere before
that, the log's record is read again, and the same steps find the object already there, or not.
The outcome is written after the copy, never before: the other order would announce an object that
is not there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from tidestore.connectors.correlation import enter_request
from tidestore.connectors.errors import ObjectExistsError, StoreError
from tidestore.connectors.holdings import Holdings
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.connectors.traces import span
from tidestore.schemas.events import CopyChanged, CopyState, ObjectRedacted, ObjectWritten
from tidestore.schemas.objects import MalformedError
from tidestore.schemas.topics import partition_of
from tidestore.streams.asking import CheaperSoonError
from tidestore.streams.carried import Carried
from tidestore.streams.children import Children
from tidestore.streams.failure import failed_record, is_damaged, parked_record
from tidestore.streams.ordering import Blocked, ChildParked, Ready
from tidestore.streams.outcomes import Outcomes
from tidestore.streams.patience import Patience, patient_record
from tidestore.streams.plan import CopyLater, CopyNow, Exclude, Nothing, Remove, plan_object
from tidestore.streams.records import (
    Identity,
    Wanted,
    bare_record,
    brought_record,
    fresh,
    present_record,
    record_of,
    sums_of,
    wanted_of,
)
from tidestore.streams.removal import Removal, is_going, with_facts
from tidestore.streams.sources import NoSourceError, Sources
from tidestore.streams.states import KnownStates
from tidestore.streams.story import tell_outcome
from tidestore.streams.uploads import OpenUploads, PartitionLostError, journal_of

LOGGER: Final = logging.getLogger("tidestore.mover")

# Between tries to record an outcome: until the broker is back or the partition is lost.
_RECORD_PAUSE_SECONDS: Final = 1.0


class Mover:
    """Copies objects to one replica. Belongs to the worker's event loop."""

    def __init__(
        self,
        identity: Identity,
        target: ObjectStore,
        sources: Sources,
        writer: LogWriter,
        holdings: Holdings,
        known: KnownStates,
        patience: Patience,
        removal: Removal,
        *,
        carried: Carried,
    ) -> None:
        self._identity = identity
        self._target = target
        self._removal = removal
        self._sources = sources
        self._writer = writer
        self._holdings = holdings
        self._known = known
        self._uploads = OpenUploads(target, known)
        # One task per key at a time: events of one object, its retry and its wake never race here.
        self._busy: dict[str, asyncio.Future[None]] = {}
        self._children = Children(target, sources, known, self._busy, identity.chosen)
        self._patience = patience
        self._carried = carried
        # Keys whose outcome is being written, and those whose duty is being handed over: the two
        # must not overtake each other, or a stale "pending" would follow a "present".
        self._recording: set[str] = set()
        self._handing: dict[str, asyncio.Future[None]] = {}
        # For others that work on the same keys, and what mends a corrupt copy: see mending.py.
        self.outcomes = Outcomes(self._alone, self._record, self._failed, self._remove)
        self.on_corrupt: Callable[[CopyChanged], Awaitable[None]] = self._leave

    def is_busy(self, key: str) -> bool:
        """Whether a task works on this key now."""
        return key in self._busy

    async def handle(self, event: ObjectWritten | ObjectRedacted, log_offset: int) -> None:
        """Bring one record of the log to a confirmed outcome."""
        record = (
            record_of(self._identity, event, log_offset)
            if isinstance(event, ObjectWritten)
            else bare_record(self._identity, event.key, log_offset, _now_ms())
        )
        await self._alone(record, lambda: self._handle(record, event))

    async def again(self, key: str) -> None:
        """Try a pending, waiting or parked copy again: its time has come, or its child has."""
        record = self._known.find_record(key)
        if record is not None:
            await self._alone(record, lambda: self._again(key))

    async def retry(self, key: str, changed_at_ms: int) -> None:
        """Try a parked copy again, from the first attempt on, because somebody asked for it.

        Only if the record that was meant is still its newest one: a request that came twice, or
        that the partition's last owner has carried out, does nothing. Killed before the outcome is
        confirmed: the record is still that one, and the next owner finds the request.
        """
        record = self._known.find_record(key)
        if record is not None:
            anew = replace(record, attempts=0)
            await self._alone(anew, lambda: self._retry(key, changed_at_ms))

    async def _retry(self, key: str, changed_at_ms: int) -> None:
        record = self._known.find_record(key)
        if (
            record is None
            or record.state is not CopyState.PARKED
            or record.changed_at_ms != changed_at_ms
        ):
            return
        if self._known.is_redacted(key):
            await self._remove(record, "redacted meanwhile")
        elif not record.sha256:
            # Its event could not be read, so nobody knows what to copy: the reason stays.
            await self._record(record)
        elif is_damaged(record):
            await self.on_corrupt(replace(record, attempts=0))
        else:
            LOGGER.info("%s: %s is tried again: asked for", self._identity.replica, key)
            event = await self._carried.find(record)
            await self._copy(replace(record, attempts=0), event)

    async def repeat(self, late: CopyChanged) -> None:
        """Write a copy's newest record again, under the present claim: it must be the last one.

        `late` is what was said too late about the copy: written when nothing else is known.
        """
        await self._alone(late, lambda: self._repeat(late))

    async def _repeat(self, late: CopyChanged) -> None:
        # Looked up now: while we waited for our turn the copy may have got another state.
        record = self._known.find_record(late.key) or late
        await self._record(record)
        if self._known.is_redacted(late.key):
            # A worker that slept may have put there what it then spoke of.
            await self._remove(record, "redacted meanwhile")

    async def park_unreadable(self, key: str, log_offset: int, reason: str) -> None:
        """Park a key whose record in the log is poisoned (design point 9)."""
        record = bare_record(self._identity, key, log_offset, _now_ms())
        await self._alone(record, lambda: self._park(record, "poison", reason))

    async def hand_over(self, event: ObjectWritten, log_offset: int, lease_ms: int) -> bool:
        """Make a copy that takes long durable, so that its log record is finished without it.

        The task goes on; should it die with this process, the record comes due at the lease's end.
        Answers whether a record of the copy is now confirmed.
        """
        key = event.key
        if self._known.find(key) is not None:
            return True
        if key in self._recording or key in self._handing:
            return False  # its outcome is being written this moment: that must stay the last word
        pending = record_of(self._identity, event, log_offset)
        pending = replace(pending, next_try_at_ms=_now_ms() + lease_ms, error_class="slow")
        written = self._handing[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._append(pending)
        finally:
            del self._handing[key]
            written.set_result(None)

    def seconds_under_way(self, key: str) -> float:
        """For how long a copy has been at work, its wait for a place not counted."""
        return self._sources.seconds_under_way(key)

    async def _alone(self, record: CopyChanged, work: Callable[[], Awaitable[None]]) -> None:
        key = record.key
        enter_request(record.request_id)
        while (other := self._busy.get(key)) is not None:
            await asyncio.wait([other])
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._busy[key] = done
        try:
            await work()
        except PartitionLostError:
            LOGGER.info("%s: %s is another worker's now", self._identity.replica, key)
        except Exception as error:
            # A defect of ours may stop neither the partition nor the object's story: it is tried
            # again and then parked, with its reason, as any other failure.
            LOGGER.exception("%s: %s failed in a way we do not know", self._identity.replica, key)
            await self._failed(record, "defect", f"{type(error).__name__}: {error}")
        finally:
            del self._busy[key]
            done.set_result(None)

    async def _handle(self, record: CopyChanged, event: ObjectWritten | ObjectRedacted) -> None:
        number = event.number if isinstance(event, ObjectRedacted) else 1
        plan = plan_object(
            event,
            replica=self._identity.replica,
            state=self._known.find(event.key),
            is_redacted=self._known.is_redacted(event.key),
            is_lifted=self._known.lifted_number(event.key) >= number,
            chosen=self._identity.chosen,
        )
        match plan:
            case Nothing():
                return
            case Remove(reason):
                known = self._known.find_record(event.key)
                if known is not None and (told := with_facts(known, record)) is not None:
                    await self._record(known := told)
                await self._remove(known or record, reason)
            case Exclude():
                await self._record(fresh(record, CopyState.EXCLUDED))
            case CopyLater():
                await self._record(replace(record, next_try_at_ms=_now_ms()))
            case CopyNow():
                await self._copy(record, event if isinstance(event, ObjectWritten) else None)

    async def _again(self, key: str) -> None:
        record = self._known.find_record(key)
        if record is None:
            return
        if is_going(record) and self._known.lifted_number(key):
            if record.sha256:  # else its event follows the lift, and says what to bring back
                await self._record(brought_record(record, self._identity.chosen, _now_ms()))
        elif is_going(record) or self._known.is_redacted(key):
            await self._remove(record, "redacted meanwhile")
        elif is_damaged(record):
            await self.on_corrupt(record)
        elif not record.state.is_settled:
            await self._copy(record, await self._carried.find(record))

    async def _leave(self, record: CopyChanged) -> None:
        """Nobody is here who could mend it."""

    async def _copy(self, record: CopyChanged, event: ObjectWritten | None) -> None:
        with span("copy", key=record.key, replica=record.replica, size=record.size):
            await self._try(record, event)

    async def _try(self, record: CopyChanged, event: ObjectWritten | None) -> None:
        """One try, with its outcome recorded whatever it is."""
        wanted = wanted_of(record)
        try:
            data = event.data if event else None
            if data is None and self._known.lifted_number(wanted.key):
                data = await self._removal.read_aside(wanted)
            found = await self._children.readiness(wanted, data)
            match found:
                case Blocked(child, count):
                    waiting = fresh(record, CopyState.WAITING)
                    await self._record(replace(waiting, waits_for=child, waits_count=count))
                case ChildParked(child):
                    await self._park(record, "child", f"{child} is parked here", child)
                case Ready(is_incomplete):
                    info = await self._transfer(record, wanted, event)
                    if self._known.is_redacted(wanted.key):
                        # Under our hands: these bytes came after the removal, or before it.
                        await self._remove(record, "redacted meanwhile")
                        return
                    await self._record(present_record(record, info, is_incomplete=is_incomplete))
        except StoreError as error:
            await self._failed(record, error.error_class, str(error), error.retry_after_seconds)
        except NoSourceError as error:
            await self._failed(record, error.error_class, str(error))
        except CheaperSoonError as soon:
            # Killed before it is confirmed: the log's record is read again, and asked again.
            await self._wait(record, wanted, soon)
        except MalformedError as error:
            await self._park(record, "poison", str(error))

    async def _wait(self, record: CopyChanged, wanted: Wanted, soon: CheaperSoonError) -> None:
        if await self._record(patient_record(record, soon, _now_ms())):
            self._patience.watch(wanted, soon)

    async def _transfer(
        self, record: CopyChanged, wanted: Wanted, event: ObjectWritten | None
    ) -> ObjectInfo:
        """Copy the bytes, or put them back. Equal bytes that are there already are success."""
        if not self._known.lifted_number(wanted.key):
            return await self._fetch(record, wanted, event)
        info = await self._removal.put_back(wanted) or await self._fetch(record, wanted, event)
        await self._removal.forget(wanted.key)
        return info

    async def _fetch(
        self, record: CopyChanged, wanted: Wanted, event: ObjectWritten | None
    ) -> ObjectInfo:
        is_first = not (record.attempts or record.error_class or record.upload)
        try:
            if event is not None and event.data is not None:
                return await self._sources.put_inline(
                    self._target, wanted, sums_of(event), event.data
                )
            if is_first:
                await self._sources.asking.check_worth_waiting(wanted)
            async with journal_of(record, self._record) as journal:
                return await self._sources.copy(self._target, wanted, journal)
        except ObjectExistsError:
            return await self._sources.prove_equal(self._target, wanted)

    async def _failed(
        self,
        record: CopyChanged,
        error_class: str,
        text: str,
        retry_after_seconds: float | None = None,
    ) -> None:
        record = self._uploads.remember(record)
        failed = failed_record(
            record,
            error_class,
            text,
            now_ms=_now_ms(),
            dice=random.random(),  # noqa: S311  jitter
            retry_after_seconds=retry_after_seconds,
        )
        level = logging.ERROR if failed.state is CopyState.PARKED else logging.INFO
        place = (self._identity.replica, record.key)
        LOGGER.log(level, "%s: %s try %d: %s: %s", *place, failed.attempts, failed.state, text)
        await self._record(failed)

    async def _park(
        self, record: CopyChanged, error_class: str, text: str, child: str | None = None
    ) -> None:
        LOGGER.error("%s: %s is parked: %s", self._identity.replica, record.key, text)
        await self._uploads.abort(record)
        await self._record(parked_record(record, error_class, text, child))

    async def _remove(self, record: CopyChanged, reason: str) -> None:
        """Take the object away, or look again, or purge it: whatever is due (removal.py)."""
        try:
            found = await self._removal.step(record, self._known.decision(record.key), reason)
        except StoreError as error:
            removing = fresh(record, CopyState.REDACTING)
            await self._failed(removing, error.error_class, str(error), error.retry_after_seconds)
            return
        if found is not None:
            await self._record(found)

    async def _record(self, record: CopyChanged) -> bool:
        """Write an outcome, after whatever is being handed over for the same key."""
        while (handing := self._handing.get(record.key)) is not None:
            await asyncio.wait([handing])
        self._recording.add(record.key)
        try:
            return await self._append(record)
        finally:
            self._recording.discard(record.key)

    async def _append(self, record: CopyChanged) -> bool:
        """Write a record until it is confirmed.

        False when the partition was lost meanwhile: its new owner reads the log's record again, so
        nothing is missing.
        """
        partition = partition_of(record.key, self._identity.partitions)
        while True:
            stamp = await self._holdings.await_stamp(partition)
            if stamp is None:
                return False
            stamped = replace(record, claim=stamp, changed_at_ms=_now_ms())
            try:
                placed = await self._writer.append(
                    self._identity.topic, partition, record.key, stamped
                )
            except LogError as error:
                LOGGER.warning("cannot record %s yet: %s", record.key, error)
                await asyncio.sleep(_RECORD_PAUSE_SECONDS)
                continue
            self._known.learn(stamped, partition, placed.offset)
            tell_outcome(stamped)
            return True


def _now_ms() -> int:
    return int(time.time() * 1000)
