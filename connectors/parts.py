"""Large objects in parts: what each cloud allows, how long a part is, and how parts are sent.

    source --> [buffer of one part] --> a few parts in flight --> one conditional completion
                        |
                        `-- it was all: one put under the same condition

Nothing is visible before the completion, and the completion is sent only after the source has ended
without raising, which is the source's word that the bytes are the right ones (store.py). An adapter
fills in what its cloud calls these steps (s3_upload.py, gcs_upload.py, azure_upload.py).

With a journal an upload outlives its process (docs/decisions/0015). Where each death leaves it:

    begin --> journal.begun --> parts, in any order --> completion --> the caller's own record
     |   1     |         2            |         3           |      4

    1  an upload that nobody names: aborted by the sweep (sweep.py)
    2  gone on with, no part being there
    3  gone on with: the source is read from its beginning, and a part is left out if the store's
       checksum of it is that of the bytes read now
    4  no such upload, and the object is there: ObjectExistsError, which the caller proves equal
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final

from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    ObjectTooLargeError,
)
from tidestore.connectors.store import ByteSource, ObjectInfo, UploadJournal
from tidestore.schemas.objects import ObjectKey

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

# Smaller parts cost more requests, larger ones more memory; measured flat from here on.
PART_BYTES_USUAL: Final = 16 * MIB
# Memory of one upload is what is in flight and one part more: 80 MiB at the usual part. Parts that
# are larger, as only objects over 156 GiB on S3 need them, go fewer at a time.
FLIGHT_BYTES_MAX: Final = 64 * MIB
# A part is held in memory, so the clouds' greater ones are not for us. 10,000 of these are 9.7 TiB.
PART_BYTES_GREATEST: Final = GIB
# A stream of unknown length begins with usual parts and changes to larger ones, so that a short one
# costs little memory and a long one still fits: on S3 1,000 x 16 MiB + 9,000 x 64 MiB = 578 GiB.
_RAMP_PARTS: Final = 1_000
_RAMP_BYTES: Final = 64 * MIB


@dataclass(frozen=True, slots=True)
class PartLimits:
    """What one cloud takes."""

    parts_max: int
    part_bytes_min: int
    part_bytes_max: int
    object_bytes_max: int


# docs.aws.amazon.com, S3 user guide, "Amazon S3 multipart upload limits", read in 2026: 10,000
# parts of 5 MiB to 5 GiB, objects of 48.8 TiB (5 TiB until December 2025). The exact bound is the
# product: servers that speak S3 may have a lower one and say so (EntityTooLarge).
S3_LIMITS: Final = PartLimits(10_000, 5 * MIB, 5 * GIB, 10_000 * 5 * GIB)
# learn.microsoft.com, "Scalability and performance targets for Blob Storage": 50,000 blocks of up
# to 4,000 MiB, about 190.7 TiB.
AZURE_LIMITS: Final = PartLimits(50_000, 1, 4_000 * MIB, 50_000 * 4_000 * MIB)
# cloud.google.com/storage/quotas, read in 2026: an object has at most 5 TiB, and composing takes 32
# sources at a time, which may be composed themselves, without an end. Three levels are enough:
# 5 TiB are then parts of 160 MiB.
GCS_COMPOSED_MAX: Final = 32
GCS_LIMITS: Final = PartLimits(GCS_COMPOSED_MAX**3, 1, 5 * TIB, 5 * TIB)


def largest_object(limits: PartLimits) -> int:
    """The largest object that a cloud takes and that we can send."""
    return min(
        limits.object_bytes_max,
        limits.parts_max * min(limits.part_bytes_max, PART_BYTES_GREATEST),
    )


def part_size(size: int, limits: PartLimits) -> int:
    """How many bytes each part but the last has, for an object of `size` bytes.

    The usual part where that is enough, else the smallest whole MiB that keeps within the number of
    parts. Raises ValueError for an object that is too large. Depends on nothing else: an upload
    that another process goes on with is cut in the same places.
    """
    if size > (most := largest_object(limits)):
        raise ValueError(f"it has {size} bytes, at most {most} can be sent")
    needed = -(-size // limits.parts_max)
    # The greatest part of every cloud is a multiple of a MiB.
    return max(PART_BYTES_USUAL, -(-needed // MIB) * MIB)


def ramped_part_size(number: int) -> int:
    """How many bytes part `number` (from 1) of a stream of unknown length has."""
    return PART_BYTES_USUAL if number <= _RAMP_PARTS else _RAMP_BYTES


def parts_in_flight(part_bytes: int) -> int:
    """How many parts of that size may be on their way at once."""
    return max(1, FLIGHT_BYTES_MAX // part_bytes)


class PartedUpload(ABC):
    """One upload, from its first part to its completion or its end without one."""

    limits: ClassVar[PartLimits]

    def __init__(
        self, store: str, key: ObjectKey, size: int | None, journal: UploadJournal | None = None
    ) -> None:
        self._place = (store, key)
        self._size = size
        self._part_bytes = None if size is None else self._size_of_parts(size)
        # Without the size, another process could not cut the source in the same places.
        self._journal = None if size is None else journal
        self._sent = 0
        self._stored = 0
        self._is_begun = False
        self._in_flight: set[asyncio.Task[None]] = set()

    # What an adapter fills in.

    @abstractmethod
    async def _begin(self) -> str:
        """Open an upload, before the first part; the token by which it is found again."""

    @abstractmethod
    async def _find(self, token: str) -> bool:
        """Look up the parts of an upload that was begun; False when there is no such upload."""

    @abstractmethod
    async def _is_taken(self) -> bool:
        """Whether there is an object under the key by now."""

    @abstractmethod
    async def _holds(self, number: int, body: bytes) -> bool:
        """Whether the store has said, with a checksum, that it has this part with these bytes."""

    @abstractmethod
    async def _add(self, chunk: bytes) -> None:
        """Take a chunk into the checksum of the whole."""

    @abstractmethod
    async def _send_part(self, number: int, body: bytes) -> None:
        """Send one part with its checksum; raises StoreError."""

    @abstractmethod
    async def _put_whole(self, body: bytes) -> ObjectInfo:
        """Store what fitted into one part, in one request."""

    @abstractmethod
    async def _complete(self) -> ObjectInfo:
        """Make the object of its parts, under the upload's condition."""

    @abstractmethod
    async def _abort(self) -> None:
        """Give the room of the parts back; raises nothing."""

    # What is the same for all.

    async def _run(self, source: ByteSource) -> ObjectInfo:
        """Send the source and complete; raises StoreError or what the source raised."""
        try:
            rest = await self._send_parts(source)
            if self._size is not None and self._sent != self._size:
                raise self._mismatch(f"{self._sent} bytes came, {self._size} were announced")
            return await self._complete() if self._is_begun else await self._put_whole(rest)
        except BaseException as error:
            # What the journal names is gone on with. An object that is there ends every upload.
            is_kept = self._journal is not None and not isinstance(error, ObjectExistsError)
            await self._land(is_kept=is_kept and isinstance(error, Exception))
            if not is_kept:
                await self._abort()
            raise

    async def _open(self) -> None:
        journal = self._journal
        if journal is None:
            await self._begin()
            return
        if journal.token and await self._find(journal.token):
            return
        # A new upload costs its bytes, and one that is no more was perhaps completed.
        if await self._is_taken():
            raise ObjectExistsError("upload", *self._place)
        token = await self._begin()
        try:
            # Before the first part: parts that nobody can find again are lost.
            await journal.begun(token)
        except BaseException:
            self._journal = None
            raise

    def _mismatch(self, detail: str) -> ChecksumMismatchError:
        return ChecksumMismatchError("upload", *self._place, detail=detail)

    def _size_of_parts(self, size: int) -> int:
        try:
            return part_size(size, self.limits)
        except ValueError as error:
            raise ObjectTooLargeError("upload", *self._place, detail=str(error)) from None

    def _wanted(self, number: int) -> int:
        return ramped_part_size(number) if self._part_bytes is None else self._part_bytes

    async def _send_parts(self, source: ByteSource) -> bytes:
        """Send all parts and wait for them; what fits into one part is returned, not sent."""
        number, buffer = 1, bytearray()
        wanted = self._wanted(number)
        async for chunk in source:
            self._sent += len(chunk)
            await self._add(chunk)
            buffer += chunk
            while len(buffer) > wanted:
                # Cut out only when it can be sent, and copied once: parts are what memory is.
                await self._await_place(wanted)
                with memoryview(buffer) as view:
                    body = bytes(view[:wanted])
                del buffer[:wanted]
                await self._send(number, body)
                number += 1
                wanted = self._wanted(number)
        if self._is_begun:
            await self._await_place(wanted)
            await self._send(number, bytes(buffer))
            buffer.clear()
        while self._in_flight:
            await self._reap(asyncio.ALL_COMPLETED)
        return bytes(buffer)

    async def _send(self, number: int, body: bytes) -> None:
        if number > self.limits.parts_max:
            raise self._mismatch("the stream has too many parts")
        if not self._is_begun:
            await self._open()
            self._is_begun = True
        self._in_flight.add(asyncio.create_task(self._deliver(number, body)))

    async def _deliver(self, number: int, body: bytes) -> None:
        if not await self._holds(number, body):
            await self._send_part(number, body)
        self._stored += len(body)
        if self._journal is not None:
            self._journal.stored(self._stored)

    async def _await_place(self, part_bytes: int) -> None:
        while len(self._in_flight) >= parts_in_flight(part_bytes):
            await self._reap(asyncio.FIRST_COMPLETED)

    async def _reap(self, when: str) -> None:
        done, self._in_flight = await asyncio.wait(self._in_flight, return_when=when)
        for task in done:
            task.result()

    async def _land(self, *, is_kept: bool) -> None:
        """Have nothing on its way any more. What is kept may arrive: less is to be sent again.

        A thread cannot be stopped, so a part may still come after this; it opens nothing anew.
        """
        for task in self._in_flight:
            if not is_kept:
                task.cancel()
        await asyncio.gather(*self._in_flight, return_exceptions=True)
