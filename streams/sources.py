"""Where the bytes of a copy come from, and how they get to the target: read, hash, write, compare.

A source is chosen by asking (streams/asking.py), the event's own bytes before all. What arrives is
hashed, so a wrong source costs time, never truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from tidestore.connectors.budget import ByteBudget
from tidestore.connectors.damage import keep_aside
from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectTooLargeError,
    StoreError,
)
from tidestore.connectors.store import ObjectInfo, ObjectStore, UploadJournal
from tidestore.connectors.verify import CheckedSource, put_verified, upload_verified
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.streams.asking import Asking
from tidestore.streams.fair_places import FairPlaces
from tidestore.streams.inside import InsideCopies
from tidestore.streams.plan import SMALL_BYTES_MAX
from tidestore.streams.records import Wanted
from tidestore.streams.suspicion import suspects_among

# Manifests of waiting bundles are looked at about 14 times each; this many bytes of them are kept.
_MANIFEST_BYTES_MAX: Final = 32 * 1024 * 1024
# Hashing less than this is done before a thread would have started.
_THREAD_BYTES: Final = 64 * 1024


# Which of several sources' errors is told: bad bytes before a store that cannot be reached, and
# "not there" last, because every replica that has not got the object yet says that.
_TELLING: Final = ("checksum", "auth", "network", "throttled", "fault")


class NoSourceError(Exception):
    """No store could give the bytes. `error_class` is that of the most telling error."""

    def __init__(self, key: str, errors: Sequence[StoreError]) -> None:
        told = min(errors, key=_rank, default=None)
        reason = str(told) if told else "there is no other replica"
        super().__init__(f"no source for {key}: {reason}")
        # At the source "missing" may only mean not yet; see streams/backoff.py.
        self.error_class = told.error_class if told else "missing"


def _rank(error: StoreError) -> int:
    known = error.error_class in _TELLING
    return _TELLING.index(error.error_class) if known else len(_TELLING)


class Sources:
    """Reads from all replicas, writes to one."""

    def __init__(
        self,
        asking: Asking,
        *,
        copies_in_flight: int,
        copy_bytes_in_flight: int,
        large_in_flight: int,
    ) -> None:
        self.asking = asking
        self.inside = InsideCopies()
        self._small_places = FairPlaces(copies_in_flight)
        self._large_places = asyncio.Semaphore(large_in_flight)
        self._bytes = ByteBudget(copy_bytes_in_flight)
        self._begun: dict[str, float] = {}
        self._manifests: OrderedDict[str, bytes] = OrderedDict()
        self._manifest_bytes = 0
        # Hears of a source whose bytes were wrong while another one's were right: suspicion.py.
        self.on_wrong: Callable[[Wanted, StoreError], None] = _nobody_hears

    def seconds_under_way(self, key: str) -> float:
        """For how long a copy has had its place; 0 while it waits for one."""
        begun = self._begun.get(key)
        return 0.0 if begun is None else time.monotonic() - begun

    @contextlib.asynccontextmanager
    async def _clocked(self, key: str) -> AsyncIterator[None]:
        self._begun[key] = time.monotonic()
        try:
            yield
        finally:
            del self._begun[key]

    async def put_inline(
        self, target: ObjectStore, wanted: Wanted, sums: Checksums, data: bytes
    ) -> ObjectInfo:
        """Write bytes that came with the event; they are proved first, like all others."""
        _check(wanted, data, "event")
        self.asking.reads.read("event", len(data))
        async with self._small_places.hold(), self._clocked(wanted.key):
            return await put_verified(target, wanted.key, data, sums, wanted.content_type)

    async def copy(
        self, target: ObjectStore, wanted: Wanted, journal: UploadJournal | None = None
    ) -> ObjectInfo:
        """Copy from the first source that has the right bytes.

        Raises NoSourceError, or what the target raised: ObjectExistsError among it.
        """
        refuse_too_large(target, wanted)
        if wanted.size <= SMALL_BYTES_MAX:
            async with (
                self._small_places.hold(),
                self._bytes.hold(wanted.size),
                self._clocked(wanted.key),
            ):
                body = await self._read_small(wanted)
                sums = wanted.sums
                if sums is None:
                    sums = await asyncio.to_thread(checksums_of, body)
                return await put_verified(target, wanted.key, body, sums, wanted.content_type)
        async with self._large_places:
            return await self._copy_large(target, wanted, journal)

    async def manifest(self, wanted: Wanted) -> bytes:
        """The bytes of a manifest that did not come with its event."""
        kept = self._manifests.get(wanted.key)
        if kept is not None:
            self._manifests.move_to_end(wanted.key)
            return kept
        body = await self._read_small(wanted)
        self._manifests[wanted.key] = body
        self._manifest_bytes += len(body)
        while self._manifest_bytes > _MANIFEST_BYTES_MAX and len(self._manifests) > 1:
            _, dropped = self._manifests.popitem(last=False)
            self._manifest_bytes -= len(dropped)
        return body

    async def prove_equal(
        self, target: ObjectStore, wanted: Wanted, *, reads_back: bool = False
    ) -> ObjectInfo:
        """The target has an object under the key: show that it is ours, or repair it.

        The store's own checksum is enough; where it has none, or where there is a suspicion (what a
        store says of rotten bytes is what it was told when they were whole), they are read back.
        """
        info = await target.head(wanted.key)
        if not reads_back and wanted.sums is not None and info.proves(wanted.sums):
            return info
        if info.size == wanted.size and await self.is_right(target, wanted):
            return info
        return await self._repair(target, wanted, info)

    async def is_right(self, target: ObjectStore, wanted: Wanted) -> bool:
        """Whether the bytes that are there, read back, are the wanted ones. Raises StoreError."""
        stream = await target.get(wanted.key)
        source = CheckedSource(stream.chunks, sha256=wanted.sha256, size=wanted.size)
        try:
            async for _ in source:
                pass
        except ChecksumMismatchError:
            return False
        finally:
            await stream.close()
        return True

    async def _repair(self, target: ObjectStore, wanted: Wanted, seen: ObjectInfo) -> ObjectInfo:
        """Replace what damage left under our key: conditional, and the bad bytes kept aside."""
        await keep_aside(target, wanted.key, seen)
        sums = wanted.sums or Checksums(wanted.size, wanted.sha256, "", "", "")  # type: ignore[arg-type]

        async def put_right(source: CheckedSource) -> ObjectInfo:
            return await target.replace(
                wanted.key, source, sums, seen=seen, content_type=wanted.content_type
            )

        return await self._from_any(wanted, put_right)

    async def _copy_large(
        self, target: ObjectStore, wanted: Wanted, journal: UploadJournal | None
    ) -> ObjectInfo:
        # An upload that was begun is gone on with: a part of its bytes is there already.
        if journal is None or not journal.token:
            copied = await self.inside.copy(target, wanted, self.asking.ordered(wanted))
            if copied is not None:
                return copied

        async def write(source: CheckedSource) -> ObjectInfo:
            return await upload_verified(
                target, wanted.key, source, wanted.size, wanted.content_type, journal
            )

        return await self._from_any(wanted, write)

    async def _from_any(
        self,
        wanted: Wanted,
        use: Callable[[CheckedSource], Awaitable[ObjectInfo]],
    ) -> ObjectInfo:
        """Give a source's bytes to `use`; another source's when the first one's are not right."""
        errors: list[StoreError] = []
        for store in self.asking.ordered(wanted):
            try:
                stream = await self.asking.open(store, wanted)
                place = ("copy", store.name, wanted.key)
                source = CheckedSource(
                    stream.chunks, sha256=wanted.sha256, size=wanted.size, known=wanted.sums,
                    place=place,
                )  # fmt: skip
                try:
                    info = await use(source)
                finally:
                    await stream.close()
            except StoreError as error:
                if error.store != store.name:
                    raise  # it is the target that failed: another source would not help
                errors.append(error)
                continue
            self._tell_of(wanted, errors)
            return info
        raise NoSourceError(wanted.key, errors)

    def _tell_of(self, wanted: Wanted, errors: list[StoreError]) -> None:
        """The right bytes were found: whoever gave wrong ones before is suspicious."""
        for error in suspects_among(errors):
            self.on_wrong(wanted, error)

    async def _read_small(self, wanted: Wanted) -> bytes:
        errors: list[StoreError] = []
        for store in self.asking.ordered(wanted):
            try:
                stream = await self.asking.open(store, wanted)
                body = b"".join([chunk async for chunk in stream.chunks])
                if len(body) > _THREAD_BYTES:
                    await asyncio.to_thread(_check, wanted, body, store.name)
                else:
                    _check(wanted, body, store.name)
            except StoreError as error:
                errors.append(error)
                continue
            self._tell_of(wanted, errors)
            return body
        raise NoSourceError(wanted.key, errors)


def _nobody_hears(wanted: Wanted, error: StoreError) -> None:
    del wanted, error


def refuse_too_large(target: ObjectStore, wanted: Wanted) -> None:
    """Raise ObjectTooLargeError for what the target would refuse after hours, or after a week."""
    most = target.capabilities.object_bytes_max
    if wanted.size > most:
        raise ObjectTooLargeError(
            "copy",
            target.name,
            wanted.key,
            detail=f"it has {wanted.size} bytes, this store takes {most} in one object",
            hint="leave it out here by a filter, or write it as several objects",
        )


def _check(wanted: Wanted, body: bytes, source: str) -> None:
    """Raise ChecksumMismatchError unless these are the wanted bytes."""
    place = ("copy", source, wanted.key)
    if len(body) != wanted.size:
        raise ChecksumMismatchError(*place, detail=f"{len(body)} bytes, not {wanted.size}")
    if (found := hashlib.sha256(body).hexdigest()) != wanted.sha256:
        raise ChecksumMismatchError(*place, detail=f"sha256 is {found}")
