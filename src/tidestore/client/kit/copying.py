"""One object from the store to a third party's replica: fetched, proved, put if it is not there.

    GET /v1/objects?key= --redirect or bytes--> sha256 while it streams --> put_if_absent
    a manifest: its children first, so that nothing refers to what is not here (R5)

Nothing appears under its key before all of it is proved (R4). A key that is taken is read back: it
may be our own, from before a kill. Other bytes there are told to a person, never overwritten.
"""

from __future__ import annotations

from typing import Final

from tidestore.client.api import Client, ClientError, Head
from tidestore.client.kit.state import State
from tidestore.connectors.errors import ObjectExistsError
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.verify import CheckedSource, put_verified, upload_verified
from tidestore.schemas.checksums import Sha256Hasher, checksums_of
from tidestore.schemas.manifests import stored_children
from tidestore.schemas.objects import Kind, MalformedError, ObjectKey, parse_key

# Up to this an object is held in memory and stored in one request; manifests have at most twice.
SMALL_BYTES: Final = 8 * 1024 * 1024
_MANIFEST_BYTES_MAX: Final = 64 * 1024 * 1024
# A collection may name collections; deeper than this is no work of a person.
_DEPTH_MAX: Final = 64


class OtherBytesError(Exception):
    """Something else lies under the key."""


class Copier:
    """Copies objects into one store."""

    def __init__(self, client: Client, store: ObjectStore, state: State) -> None:
        self._client = client
        self._store = store
        self._state = state

    async def copy(self, key: str, depth: int = 0) -> None:
        """Make sure that an object, and all it refers to, is here; or note that it is redacted.

        Raises ClientError, StoreError, MalformedError, OtherBytesError.
        """
        if self._state.is_settled(key):
            self._state.dropped(key)
            return
        if depth > _DEPTH_MAX:
            raise MalformedError("manifest", f"refers more than {_DEPTH_MAX} deep")
        try:
            await self._copy(ObjectKey(key), depth)
        except ClientError as error:
            if error.status != 410:
                raise
            self._state.dropped(key)  # the decision itself comes on the feed

    async def _copy(self, key: ObjectKey, depth: int) -> None:
        head = await self._client.head("/v1/objects", key=key)
        parts = parse_key(key)
        if parts.kind is Kind.BLOB and head.sha256 != parts.sha256:
            raise MalformedError("sha256", "is not the one in the blob's key")
        if parts.kind is Kind.BLOB and head.size > SMALL_BYTES:
            await self._stream(key, head)
        else:
            data = await self._read(key, head)
            if parts.kind is not Kind.BLOB:
                for child in stored_children(key, data):
                    await self.copy(child, depth + 1)
            await self._put(key, head, data)
        self._state.stored(key, head.size, head.sha256)

    async def _read(self, key: ObjectKey, head: Head) -> bytes:
        if head.size > _MANIFEST_BYTES_MAX:
            raise MalformedError("manifest", f"has {head.size} bytes")
        source = self._source(key, head)
        return b"".join([chunk async for chunk in source])

    def _source(self, key: ObjectKey, head: Head) -> CheckedSource:
        chunks = self._client.read("/v1/objects", key=key)
        return CheckedSource(
            chunks, sha256=head.sha256, size=head.size, place=("read", "the feed's store", key)
        )

    async def _put(self, key: ObjectKey, head: Head, data: bytes) -> None:
        try:
            await put_verified(self._store, key, data, checksums_of(data), head.content_type)
        except ObjectExistsError:
            await self._prove(key, head)

    async def _stream(self, key: ObjectKey, head: Head) -> None:
        source = self._source(key, head)
        try:
            await upload_verified(self._store, key, source, head.size, head.content_type)
        except ObjectExistsError:
            await self._prove(key, head)

    async def _prove(self, key: ObjectKey, head: Head) -> None:
        """Read what lies there back."""
        stream = await self._store.get(key)
        hasher = Sha256Hasher()
        try:
            async for chunk in stream.chunks:
                hasher.update(chunk)
        finally:
            await stream.close()
        found = hasher.result()
        if (found.sha256, found.size) != (head.sha256, head.size):
            raise OtherBytesError(f"other bytes lie under {key}: move them away by hand")

    async def erase(self, key: str) -> None:
        """Remove a redacted object, all its versions; raises StoreError."""
        await self._store.erase(ObjectKey(key))
        self._state.removed(key)
