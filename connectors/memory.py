"""The store in a dict: the port's contract in its shortest executable form.

Used where a test needs a store and no server, and by the conformance suite as the reference: a
case that this store fails is a wrong case.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    ObjectMissingError,
    PreconditionError,
    UnsupportedError,
)
from tidestore.connectors.store import (
    CHUNK_BYTES,
    ByteSource,
    ByteStream,
    Capabilities,
    ObjectInfo,
    OpenUpload,
    UploadJournal,
    no_uploads,
)
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.objects import ObjectKey

MEMORY_CAPABILITIES = Capabilities(
    presign=False,
    presign_overrides=False,
    public_read=False,
    checks_credentials=False,
    resumable_uploads=False,
    keeps_data=False,
    object_bytes_max=1024**3,
)


@dataclass(frozen=True, slots=True)
class _Stored:
    body: bytes
    info: ObjectInfo


class MemoryStore:
    """Objects in a dict. Lost with the process."""

    def __init__(self, name: str, capabilities: Capabilities = MEMORY_CAPABILITIES) -> None:
        self._name = name
        self._capabilities = capabilities
        self._objects: dict[ObjectKey, _Stored] = {}
        self._etags = itertools.count(1)

    @property
    def name(self) -> str:
        """The replica's name."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return self._capabilities

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See ObjectStore."""
        del content_type
        await asyncio.sleep(0)  # other tasks run between asking and storing, as with a real store
        if checksums_of(body) != sums:
            raise ChecksumMismatchError("put", self._name, key)
        if key in self._objects:
            raise ObjectExistsError("put", self._name, key)
        return self._store(key, body, sums)

    async def upload_if_absent(
        self,
        key: ObjectKey,
        source: ByteSource,
        *,
        size: int | None,
        content_type: str,
        journal: UploadJournal | None = None,
    ) -> ObjectInfo:
        """See ObjectStore."""
        del content_type, journal
        body = b"".join([chunk async for chunk in source])
        if size is not None and len(body) != size:
            raise ChecksumMismatchError("upload", self._name, key, detail="length differs")
        if key in self._objects:
            raise ObjectExistsError("upload", self._name, key)
        return self._store(key, body, checksums_of(body))

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        """See ObjectStore. None is ever open."""
        del key, token

    def open_uploads(self) -> AsyncIterator[OpenUpload]:
        """See ObjectStore."""
        return no_uploads()

    async def replace(
        self,
        key: ObjectKey,
        source: ByteSource,
        sums: Checksums,
        *,
        seen: ObjectInfo,
        content_type: str,
    ) -> ObjectInfo:
        """See ObjectStore."""
        del content_type
        body = b"".join([chunk async for chunk in source])
        if checksums_of(body) != sums:
            raise ChecksumMismatchError("replace", self._name, key)
        stored = self._objects.get(key)
        if stored is None or stored.info.etag != seen.etag:
            raise PreconditionError("replace", self._name, key)
        return self._store(key, body, sums)

    async def get(self, key: ObjectKey, *, start: int = 0, length: int | None = None) -> ByteStream:
        """See ObjectStore."""
        stored = self._find("get", key)
        end = len(stored.body) if length is None else start + length
        return ByteStream(stored.info, _chunks(stored.body[start:end]))

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """See ObjectStore."""
        return self._find("head", key).info

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """See ObjectStore."""
        for key in sorted(self._objects):
            if key.startswith(prefix) and key > after and key in self._objects:
                yield self._objects[key].info
                await asyncio.sleep(0)

    async def delete(self, key: ObjectKey) -> None:
        """See ObjectStore."""
        self._objects.pop(key, None)

    async def erase(self, key: ObjectKey) -> int:
        """See ObjectStore. There are no versions and no open uploads here."""
        return 0 if self._objects.pop(key, None) is None else 1

    async def presign(
        self, key: ObjectKey, *, expires_seconds: int, content_type: str, disposition: str
    ) -> str:
        """See ObjectStore."""
        del expires_seconds, content_type, disposition
        raise UnsupportedError("presign", self._name, key)

    def native_url(self, key: ObjectKey) -> str:
        """See ObjectStore."""
        return f"memory://{self._name}/{key}"

    def _store(self, key: ObjectKey, body: bytes, sums: Checksums) -> ObjectInfo:
        info = ObjectInfo(
            key=key,
            size=sums.size,
            etag=f"m{next(self._etags)}",
            modified_at_ms=int(time.time() * 1000),
            checksums={"md5": sums.md5, "crc32c": sums.crc32c},
        )
        self._objects[key] = _Stored(body, info)
        return info

    def _find(self, operation: str, key: ObjectKey) -> _Stored:
        stored = self._objects.get(key)
        if stored is None:
            raise ObjectMissingError(operation, self._name, key)
        return stored


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]
        await asyncio.sleep(0)
