"""A large S3 object: parts in flight, then one conditional completion.

    source --> [buffer of one part] --> up to 4 parts in flight --> complete If-None-Match: *
                        |                                            (crc32c of the whole with it)
                        `-- it was all: one PUT If-None-Match: *

Nothing is visible before the completion, and the completion is sent only after the source has
ended without raising, which is the source's word that the bytes are the right ones (store.py).
Killed anywhere before it, an open upload is left over: it costs room, is seen by nobody, and is
found by listing uploads. The loser of a race gets 412 and must abort its own (tried on MinIO: it
would stay open otherwise).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import google_crc32c

from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    PreconditionError,
    StoreError,
    StoreUnreachableError,
)
from tidestore.connectors.store import ByteSource, ObjectInfo
from tidestore.schemas.checksums import base64_of_hex
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.s3 import S3Store

MIB = 1024 * 1024
# docs.aws.amazon.com, "Amazon S3 multipart upload limits": 10,000 parts of 5 MiB to 5 GiB. Ten
# parts are kept back, so that a plan that is off by a few still fits.
PARTS_MAX = 9_990
PART_BYTES_MIN = 16 * MIB
# Memory of one upload is (in flight + 1) x part: 80 MiB at the smallest part size.
PARTS_IN_FLIGHT = 4
# A stream of unknown length begins with small parts and changes to larger ones, so that a short
# one costs little memory and a long one still fits: 1,000 x 16 MiB + 8,990 x 64 MiB = 577 GiB.
_RAMP_PARTS = 1_000
_RAMP_BYTES = 64 * MIB


def part_bytes(number: int, size: int | None) -> int:
    """How many bytes part `number` (from 1) has, for an object of `size` bytes or unknown size."""
    if size is None:
        return PART_BYTES_MIN if number <= _RAMP_PARTS else _RAMP_BYTES
    needed = -(-size // PARTS_MAX)
    return max(PART_BYTES_MIN, -(-needed // MIB) * MIB)


class Upload:
    """One multipart upload, from its creation to its completion or abortion."""

    def __init__(
        self, store: S3Store, key: ObjectKey, *, content_type: str, size: int | None
    ) -> None:
        self._store = store
        self._key = key
        self._content_type = content_type
        self._size = size
        self._sent = 0
        self._crc32c = 0
        self._upload_id = ""
        self._conditions: dict[str, Any] = {}
        self._parts: dict[int, dict[str, Any]] = {}
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(
        self, source: ByteSource, *, if_none_match: str | None = None, if_match: str | None = None
    ) -> ObjectInfo:
        """Send the source and complete; raises StoreError or what the source raised."""
        conditions = {"IfNoneMatch": if_none_match, "IfMatch": if_match}
        self._conditions = {name: value for name, value in conditions.items() if value}
        try:
            rest = await self._send_parts(source)
            self._check_size()
            if not self._upload_id:
                return await self._put_whole(rest)
            return await self._complete()
        except BaseException:
            await self._abort()
            raise

    def _check_size(self) -> None:
        if self._size is not None and self._sent != self._size:
            raise ChecksumMismatchError(
                "upload",
                self._store.name,
                self._key,
                detail=f"{self._sent} bytes came, {self._size} were announced",
            )

    async def _begin(self) -> None:
        store = self._store
        reply = await store.boto(
            "upload",
            self._key,
            lambda: store.client.create_multipart_upload(
                **self._place(),
                ContentType=self._content_type,
                ChecksumAlgorithm="CRC32C",
                ChecksumType="FULL_OBJECT",
            ),
        )
        self._upload_id = reply["UploadId"]

    def _place(self) -> dict[str, Any]:
        return {"Bucket": self._store.bucket, "Key": self._store.full_key(self._key)}

    async def _send_parts(self, source: ByteSource) -> bytes:
        """Send all parts and wait for them; what fits into one part is returned, not sent."""
        number, buffer = 1, bytearray()
        wanted = part_bytes(number, self._size)
        async for chunk in source:
            self._sent += len(chunk)
            self._crc32c = google_crc32c.extend(self._crc32c, bytes(chunk))
            buffer += chunk
            while len(buffer) > wanted:
                # Cut out only when it can be sent, and copied once: parts are what memory is.
                await self._await_place()
                with memoryview(buffer) as view:
                    body = bytes(view[:wanted])
                del buffer[:wanted]
                await self._send(number, body)
                number += 1
                wanted = part_bytes(number, self._size)
        if self._upload_id:
            await self._send(number, bytes(buffer))
            buffer.clear()
        while self._in_flight:
            await self._reap(asyncio.ALL_COMPLETED)
        return bytes(buffer)

    async def _send(self, number: int, body: bytes) -> None:
        if number > PARTS_MAX:
            raise ChecksumMismatchError(
                "upload", self._store.name, self._key, detail="the stream has too many parts"
            )
        if not self._upload_id:
            await self._begin()
        await self._await_place()
        self._in_flight.add(asyncio.create_task(self._send_part(number, body)))

    async def _await_place(self) -> None:
        while len(self._in_flight) >= PARTS_IN_FLIGHT:
            await self._reap(asyncio.FIRST_COMPLETED)

    async def _reap(self, when: str) -> None:
        done, self._in_flight = await asyncio.wait(self._in_flight, return_when=when)
        for task in done:
            task.result()

    async def _send_part(self, number: int, body: bytes) -> None:
        store = self._store
        checksum = base64_of_hex(f"{google_crc32c.value(body):08x}")
        reply = await store.boto(
            "upload",
            self._key,
            lambda: store.client.upload_part(
                **self._place(),
                UploadId=self._upload_id,
                PartNumber=number,
                Body=body,
                ChecksumCRC32C=checksum,
            ),
        )
        if not reply.get("ETag"):
            raise StoreUnreachableError("upload", store.name, self._key, detail="part without ETag")
        part = {"PartNumber": number, "ETag": reply["ETag"]}
        if store.capabilities.checks_uploads:
            part["ChecksumCRC32C"] = checksum
        self._parts[number] = part

    async def _put_whole(self, body: bytes) -> ObjectInfo:
        store = self._store
        crc32c = f"{self._crc32c:08x}"
        reply = await self._conditional(
            lambda: store.client.put_object(
                **self._place(),
                Body=body,
                ContentType=self._content_type,
                ChecksumCRC32C=base64_of_hex(crc32c),
                **self._conditions,
            )
        )
        return store.info_of_upload(self._key, self._sent, reply.get("ETag", ""), crc32c)

    async def _complete(self) -> ObjectInfo:
        store = self._store
        crc32c = f"{self._crc32c:08x}"
        parts: Any = [self._parts[number] for number in sorted(self._parts)]
        reply = await self._conditional(
            lambda: store.client.complete_multipart_upload(
                **self._place(),
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},
                ChecksumCRC32C=base64_of_hex(crc32c),
                ChecksumType="FULL_OBJECT",
                **self._conditions,
            )
        )
        return store.info_of_upload(self._key, self._sent, reply.get("ETag", ""), crc32c)

    async def _conditional(self, call: Callable[[], Any]) -> Any:
        try:
            return await self._store.boto("upload", self._key, call)
        except ObjectExistsError as error:
            if "IfMatch" in self._conditions:
                raise PreconditionError("replace", self._store.name, self._key) from error
            raise

    async def _abort(self) -> None:
        """Give the parts' room back. Shielded: a cancelled write must not leave its parts."""
        for task in self._in_flight:
            task.cancel()
        if self._in_flight:
            # Threads cannot be cancelled: a part sent after the abort would reopen nothing, S3
            # answers it with NoSuchUpload.
            await asyncio.wait(self._in_flight)
        if not self._upload_id:
            return
        abort = self._store.boto(
            "abort",
            self._key,
            lambda: self._store.client.abort_multipart_upload(
                **self._place(), UploadId=self._upload_id
            ),
        )
        with contextlib.suppress(StoreError):
            await asyncio.shield(abort)
