"""A copy inside S3: UploadPartCopy of ranges, then one completion with `If-None-Match: *`.

    HEAD the source: its md5 or crc32c is the object's
       |
    ranges, each if the ETag is still that one
       |
       +-- S3 tells the crc32c of each part --> the completion carries the whole's: S3 compares
       '-- it tells none (MinIO) --> one range alone: its ETag is its md5, which we compare
       |
    complete, if the key is free

CopyObject would be one request; that it can be conditional is new, and MinIO ignores it (R2).
Killed anywhere before the completion: an upload that nobody names, aborted by the sweep.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    StoreDeniedError,
    StoreError,
    StoreFaultError,
    UnsupportedError,
)
from tidestore.connectors.inside import full_key_at
from tidestore.connectors.parts import GIB, MIB, S3_LIMITS
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import Checksums, base64_of_hex
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.s3 import S3Store

# A server copies a range before it answers, and has a minute for it: 5 MB/s are enough.
_RANGE_BYTES: Final = 256 * MIB
# One range alone, where only its md5 proves it. 20 MB/s are enough, and a disk has more.
_ALONE_BYTES_MAX: Final = GIB
_RANGES_AT_ONCE: Final = 4
# What says that it cannot be done this way, and nothing about the target's health.
_REFUSALS: Final = (ObjectExistsError, StoreDeniedError, StoreFaultError, ChecksumMismatchError)


@dataclass(frozen=True, slots=True)
class InsideCopy:
    """One copy. Belongs to one event loop."""

    store: S3Store
    source: StoreAddress
    key: ObjectKey
    sums: Checksums
    content_type: str

    async def run(self) -> ObjectInfo:
        """See CopiesInside."""
        etag = await self._look()
        if self.store.checks_inside_copies:
            try:
                await self._copy(etag, is_checked=True)
                return await self._confirm()
            except UnsupportedError:
                if self.sums.size > _ALONE_BYTES_MAX:
                    raise
        await self._copy(etag, is_checked=False)
        # If it is the server's way, the next copy need not find that out again.
        self.store.checks_inside_copies = False
        return await self._confirm()

    async def _look(self) -> str:
        """The ETag of the source's object, if the store's own word proves that it is ours."""
        client = self.store.client
        with self._refusals():
            reply: Any = await self._ask(
                partial(client.head_object, **self._source(), ChecksumMode="ENABLED")
            )
        etag = str(reply.get("ETag", "")).strip('"')
        crc32c = reply.get("ChecksumCRC32C") if reply.get("ChecksumType") == "FULL_OBJECT" else ""
        is_proved = etag == self.sums.md5 or crc32c == base64_of_hex(self.sums.crc32c)
        if reply.get("ContentLength") != self.sums.size or not is_proved:
            raise self._unsupported("the source's own checksum does not prove its object")
        return etag

    async def _copy(self, etag: str, *, is_checked: bool) -> None:
        size = self.sums.size
        if not is_checked and size > _ALONE_BYTES_MAX:
            raise self._unsupported("the server tells no checksum of a part")
        store, client = self.store, self.store.client
        more: dict[str, Any] = {}
        if is_checked:
            more = {"ChecksumAlgorithm": "CRC32C", "ChecksumType": "FULL_OBJECT"}
        reply: Any = await self._ask(
            partial(
                client.create_multipart_upload,
                **self._target(),
                ContentType=self.content_type,
                **more,
            )
        )
        upload = str(reply["UploadId"])
        try:
            with self._refusals():
                parts = await self._copy_ranges(upload, etag, is_checked=is_checked)
            await self._complete(upload, parts, is_checked=is_checked)
        except BaseException:
            with contextlib.suppress(StoreError):
                await asyncio.shield(store.abort_upload(self.key, upload))
            raise

    async def _copy_ranges(self, upload: str, etag: str, *, is_checked: bool) -> list[Any]:
        size = self.sums.size
        length = size
        if is_checked:
            needed = -(-size // S3_LIMITS.parts_max)
            length = min(size, max(_RANGE_BYTES, -(-needed // MIB) * MIB))
        starts = list(range(0, size, length))
        places = asyncio.Semaphore(_RANGES_AT_ONCE)

        async def copy(number: int, start: int) -> dict[str, Any]:
            last = min(size, start + length) - 1
            # S3 takes no range of an object of less than 5 MiB.
            more: Any = {"CopySourceRange": f"bytes={start}-{last}"} if len(starts) > 1 else {}
            async with places:
                reply: Any = await self._ask(
                    partial(
                        self.store.client.upload_part_copy,
                        **self._target(),
                        UploadId=upload,
                        PartNumber=number,
                        CopySource=self._source(),
                        CopySourceIfMatch=etag,
                        **more,
                    )
                )
            return self._part(number, reply.get("CopyPartResult") or {}, is_checked=is_checked)

        # The first one alone: it shows whether the server can do it at all.
        first = await copy(1, 0)
        rest = [asyncio.create_task(copy(*item)) for item in enumerate(starts[1:], 2)]
        try:
            return [first, *await asyncio.gather(*rest)]
        finally:
            for task in rest:
                task.cancel()

    def _part(self, number: int, result: dict[str, Any], *, is_checked: bool) -> dict[str, Any]:
        """A part as the completion names it, if it can be proved."""
        etag, crc32c = str(result.get("ETag", "")), result.get("ChecksumCRC32C")
        if is_checked:
            if not crc32c:
                raise self._unsupported("the server tells no checksum of a part")
            return {"PartNumber": number, "ETag": etag, "ChecksumCRC32C": crc32c}
        if etag.strip('"') != self.sums.md5:
            raise self._unsupported("the copy's md5 is not the object's, or is not told")
        return {"PartNumber": number, "ETag": etag}

    async def _complete(self, upload: str, parts: list[Any], *, is_checked: bool) -> None:
        more: dict[str, Any] = {}
        if is_checked:
            more["ChecksumCRC32C"] = base64_of_hex(self.sums.crc32c)
            more["ChecksumType"] = "FULL_OBJECT"
        try:
            await self._ask(
                partial(
                    self.store.client.complete_multipart_upload,
                    **self._target(),
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},
                    IfNoneMatch="*",
                    **more,
                )
            )
        except (StoreFaultError, ChecksumMismatchError) as error:
            raise self._unsupported(f"not completed: {error}") from error

    async def _confirm(self) -> ObjectInfo:
        """What the store says of the object now; it was ours alone a moment ago."""
        info = await self.store.head(self.key)
        difference = info.differs_from(self.sums)
        if difference:
            await self.store.delete(self.key)
            detail = f"the store answered with another {difference}"
            raise ChecksumMismatchError("copy", self.store.name, self.key, detail=detail)
        return info

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        """A source that has changed, that we may not read, or that is not copied: not our way."""
        try:
            yield
        except _REFUSALS as error:
            raise self._unsupported(str(error)) from error

    async def _ask(self, call: Any) -> Any:
        return await self.store.boto("copy", self.key, call)

    def _source(self) -> Any:
        return {"Bucket": self.source.bucket, "Key": full_key_at(self.source, self.key)}

    def _target(self) -> dict[str, Any]:
        return {"Bucket": self.store.bucket, "Key": self.store.full_key(self.key)}

    def _unsupported(self, detail: str) -> UnsupportedError:
        return UnsupportedError("copy", self.store.name, self.key, detail=detail)
