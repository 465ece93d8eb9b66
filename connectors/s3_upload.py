"""A large S3 object: parts with a crc32c each, then one completion with `If-None-Match: *`.

The completion carries the crc32c of the whole, which S3 compares with what it has. Killed anywhere
before it, an open upload is left over: it costs room and is seen by no reader. The loser of a race
gets 412 and must abort its own (tried on MinIO: it would stay open otherwise).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import google_crc32c

from tidestore.connectors.errors import (
    ObjectExistsError,
    ObjectMissingError,
    PreconditionError,
    StoreError,
    StoreUnreachableError,
)
from tidestore.connectors.parts import S3_LIMITS, PartedUpload
from tidestore.connectors.quick import tried_again
from tidestore.connectors.store import ByteSource, ObjectInfo, UploadJournal
from tidestore.schemas.checksums import base64_of_hex
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.s3 import S3Store


class S3Upload(PartedUpload):
    """One multipart upload."""

    limits = S3_LIMITS

    def __init__(
        self,
        store: S3Store,
        key: ObjectKey,
        *,
        content_type: str,
        size: int | None,
        journal: UploadJournal | None = None,
    ) -> None:
        super().__init__(store.name, key, size, journal)
        self._store = store
        self._key = key
        self._content_type = content_type
        self._crc32c = 0
        self._upload_id = ""
        self._conditions: dict[str, Any] = {}
        self._parts: dict[int, dict[str, Any]] = {}
        self._listed: dict[int, dict[str, Any]] = {}

    async def run(
        self, source: ByteSource, *, if_none_match: str | None = None, if_match: str | None = None
    ) -> ObjectInfo:
        """Send the source and complete; raises StoreError or what the source raised."""
        conditions = {"IfNoneMatch": if_none_match, "IfMatch": if_match}
        self._conditions = {name: value for name, value in conditions.items() if value}
        return await self._run(source)

    async def _begin(self) -> str:
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
        return self._upload_id

    async def _find(self, token: str) -> bool:
        store, after = self._store, 0
        while True:  # 10,000 parts are ten pages
            more: dict[str, Any] = {"PartNumberMarker": after} if after else {}
            try:
                reply: Any = await store.boto(
                    "upload",
                    self._key,
                    partial(store.client.list_parts, **self._target(), UploadId=token, **more),
                )
            except ObjectMissingError:
                return False
            self._listed.update((part["PartNumber"], part) for part in reply.get("Parts", []))
            if not reply.get("IsTruncated"):
                self._upload_id = token
                return True
            after = reply["NextPartNumberMarker"]

    async def _is_taken(self) -> bool:
        try:
            await self._store.head(self._key)
        except ObjectMissingError:
            return False
        return True

    async def _holds(self, number: int, body: bytes) -> bool:
        """See PartedUpload. The crc32c that S3 has verified; where it has none, the part's md5."""
        listed = self._listed.get(number)
        if listed is None or listed.get("Size") != len(body):
            return False
        checksum: str | None = listed.get("ChecksumCRC32C")
        if checksum:
            is_same = _crc32c_of(body) == checksum
        else:
            digest = await asyncio.to_thread(hashlib.md5, body, usedforsecurity=False)
            is_same = bool(str(listed["ETag"]).strip('"') == digest.hexdigest())
        if is_same:
            self._parts[number] = self._part(number, listed["ETag"], checksum)
        return is_same

    async def _add(self, chunk: bytes) -> None:
        self._crc32c = google_crc32c.extend(self._crc32c, bytes(chunk))

    async def _send_part(self, number: int, body: bytes) -> None:
        store = self._store
        checksum = _crc32c_of(body)
        send = partial(
            store.client.upload_part,
            **self._target(),
            UploadId=self._upload_id,
            PartNumber=number,
            Body=body,
            ChecksumCRC32C=checksum,
        )
        # Sent twice, a part is the same part.
        reply = await tried_again(lambda: store.boto("upload", self._key, send))
        if not reply.get("ETag"):
            raise StoreUnreachableError("upload", store.name, self._key, detail="part without ETag")
        self._parts[number] = self._part(number, reply["ETag"], checksum)

    def _part(self, number: int, etag: str, checksum: str | None) -> dict[str, Any]:
        """A part as the completion names it."""
        part: dict[str, Any] = {"PartNumber": number, "ETag": etag}
        if checksum and self._store.capabilities.checks_uploads:
            part["ChecksumCRC32C"] = checksum
        return part

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
            await asyncio.shield(self._store.abort_upload(self._key, self._upload_id))

    def _target(self) -> dict[str, Any]:
        return {"Bucket": self._store.bucket, "Key": self._store.full_key(self._key)}


def _crc32c_of(body: bytes) -> str:
    return base64_of_hex(f"{google_crc32c.value(body):08x}")
