"""A large S3 object: parts with a crc32c each, then one completion with `If-None-Match: *`.

The completion carries the crc32c of the whole, which S3 compares with what it has. Killed anywhere
before it, an open upload is left over: it costs room and is seen by no reader. The loser of a race
gets 412 and must abort its own (tried on MinIO: it would stay open otherwise).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import google_crc32c

from tidestore.connectors.errors import (
    ObjectExistsError,
    PreconditionError,
    StoreError,
    StoreUnreachableError,
)
from tidestore.connectors.parts import S3_LIMITS, PartedUpload
from tidestore.connectors.store import ByteSource, ObjectInfo
from tidestore.schemas.checksums import base64_of_hex
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.s3 import S3Store


class S3Upload(PartedUpload):
    """One multipart upload."""

    limits = S3_LIMITS

    def __init__(
        self, store: S3Store, key: ObjectKey, *, content_type: str, size: int | None
    ) -> None:
        super().__init__(store.name, key, size)
        self._store = store
        self._key = key
        self._content_type = content_type
        self._crc32c = 0
        self._upload_id = ""
        self._conditions: dict[str, Any] = {}
        self._parts: dict[int, dict[str, Any]] = {}

    async def run(
        self, source: ByteSource, *, if_none_match: str | None = None, if_match: str | None = None
    ) -> ObjectInfo:
        """Send the source and complete; raises StoreError or what the source raised."""
        conditions = {"IfNoneMatch": if_none_match, "IfMatch": if_match}
        self._conditions = {name: value for name, value in conditions.items() if value}
        return await self._run(source)

    async def _begin(self) -> None:
        store = self._store
        reply = await store.boto(
            "upload",
            self._key,
            lambda: store.client.create_multipart_upload(
                **self._target(),
                ContentType=self._content_type,
                ChecksumAlgorithm="CRC32C",
                ChecksumType="FULL_OBJECT",
            ),
        )
        self._upload_id = reply["UploadId"]

    async def _add(self, chunk: bytes) -> None:
        self._crc32c = google_crc32c.extend(self._crc32c, bytes(chunk))

    async def _send_part(self, number: int, body: bytes) -> None:
        store = self._store
        checksum = base64_of_hex(f"{google_crc32c.value(body):08x}")
        reply = await store.boto(
            "upload",
            self._key,
            lambda: store.client.upload_part(
                **self._target(),
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
                **self._target(),
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
                **self._target(),
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
        """See PartedUpload. Shielded: a cancelled write must not leave its parts."""
        if not self._upload_id:
            return
        with contextlib.suppress(StoreError):
            await asyncio.shield(self._store.abort_parts(self._key, self._upload_id))

    def _target(self) -> dict[str, Any]:
        return {"Bucket": self._store.bucket, "Key": self._store.full_key(self._key)}
