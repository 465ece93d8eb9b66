"""A large GCS object: part objects with a crc32c each, composed under a generation condition.

    .tidestore/parts/<key>/<token>/00001 ...     in parallel
              |  32 at a time, by name and generation
    .tidestore/parts/<key>/<token>/1-00001 ...   above 32 parts
              |
    <key>, if its generation is still the one    visible now; then the parts are deleted

docs/decisions/0019 has the reasons, and what each death leaves. Nobody but this adapter sees the
parts: its listing leaves them out.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import google_crc32c
from google.cloud import storage

from tidestore.connectors.crc32c import combine_crc32c
from tidestore.connectors.errors import (
    ObjectExistsError,
    ObjectMissingError,
    PreconditionError,
    StoreError,
    StoreUnreachableError,
)
from tidestore.connectors.gcs_access import TIMEOUT_SECONDS
from tidestore.connectors.gcs_answers import info_of_blob
from tidestore.connectors.gcs_send import send_object
from tidestore.connectors.parts import GCS_COMPOSED_MAX, GCS_LIMITS, PartedUpload
from tidestore.connectors.store import ByteSource, ObjectInfo, OpenUpload, UploadJournal
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.gcs import GcsStore

PARTS_PREFIX: Final = ".tidestore/parts/"
_PART_TYPE: Final = "application/octet-stream"
# Requests of one upload at once that carry no bytes; other calls of the store need threads too.
_CALLS_AT_ONCE: Final = 8
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Piece:
    """An object that others are composed of: just this generation of it."""

    name: str
    generation: int
    size: int
    crc32c: int


class GcsUpload(PartedUpload):
    """One upload in part objects."""

    limits = GCS_LIMITS

    def __init__(
        self,
        store: GcsStore,
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
        self._generation = 0
        self._token = ""
        self._parts: dict[int, Piece] = {}
        self._listed: dict[int, Piece] = {}
        self._sending: set[asyncio.Future[Any]] = set()

    async def run(self, source: ByteSource, *, generation: int = 0) -> ObjectInfo:
        """Send the source and compose: under a free key, or over the object of this generation.

        Raises StoreError or what the source raised.
        """
        self._generation = generation
        try:
            return await self._run(source)
        except ObjectExistsError as error:
            if generation:
                raise PreconditionError("replace", self._store.name, self._key) from error
            raise

    async def _begin(self) -> str:
        """See PartedUpload. Nothing is opened: parts come into being by being sent."""
        self._token = secrets.token_hex(8)
        return self._token

    async def _find(self, token: str) -> bool:
        if await self._is_taken():
            await drop_parts(self._store, self._key, token)
            return False
        self._token = token
        async for blob in _parts_of(self._store, self._key, token):
            number = blob.name.rpartition("/")[2]
            if number.isdecimal():  # else it was composed of parts, and will be again
                info = info_of_blob("upload", self._store.name, self._key, blob)
                self._listed[int(number)] = self._piece(blob.name, info)
        return True

    async def _is_taken(self) -> bool:
        try:
            await self._store.head(self._key)
        except ObjectMissingError:
            return False
        return True

    async def _holds(self, number: int, body: bytes) -> bool:
        listed = self._listed.get(number)
        if listed is None or listed.size != len(body):
            return False
        if listed.crc32c != google_crc32c.value(body):
            return False
        self._parts[number] = listed
        return True

    async def _add(self, chunk: bytes) -> None:
        self._crc32c = google_crc32c.extend(self._crc32c, bytes(chunk))

    async def _send_part(self, number: int, body: bytes) -> None:
        crc32c = google_crc32c.value(body)
        name = self._part_name(f"{number:05d}")
        info = await self._call(
            send_object(self._store, self._key, name, body, content_type=_PART_TYPE, crc32c=crc32c)
        )
        self._parts[number] = self._proved(name, info, len(body), crc32c)

    async def _put_whole(self, body: bytes) -> ObjectInfo:
        store = self._store
        if not store.capabilities.replace_if_same:
            await self._refuse_another()
        return await self._call(
            send_object(
                store,
                self._key,
                store.full_key(self._key),
                body,
                content_type=self._content_type,
                crc32c=self._crc32c,
                generation=self._generation,
            )
        )

    async def _complete(self) -> ObjectInfo:
        store = self._store
        pieces = [self._parts[number] for number in sorted(self._parts)]
        level = 0
        while len(pieces) > GCS_COMPOSED_MAX:
            level += 1
            pieces = await self._compose_level(pieces, level)
        if not store.capabilities.upload_if_absent:
            await self._refuse_another()
        name = store.full_key(self._key)
        info = await self._compose(name, pieces, self._content_type, self._generation)
        # It is done: parts that cannot be deleted now are found by the sweep.
        with contextlib.suppress(StoreError):
            await drop_parts(store, self._key, self._token)
        crc32c = f"{self._crc32c:08x}"
        if self._generation and info.checksums.get("crc32c", crc32c) != crc32c:
            raise self._mismatch(f"crc32c is {info.checksums['crc32c']}, not {crc32c}")
        return replace(info, checksums=info.checksums or {"crc32c": crc32c})  # else: verify.py

    async def _compose_level(self, pieces: Sequence[Piece], level: int) -> list[Piece]:
        places = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def compose(number: int, group: Sequence[Piece]) -> Piece:
            name = self._part_name(f"{level}-{number:05d}")
            async with places:
                info = await self._compose(name, group, _PART_TYPE)
            crc32c = combine_crc32c((piece.crc32c, piece.size) for piece in group)
            return self._proved(name, info, sum(piece.size for piece in group), crc32c)

        starts = range(0, len(pieces), GCS_COMPOSED_MAX)
        groups = [pieces[start : start + GCS_COMPOSED_MAX] for start in starts]
        tasks = [asyncio.create_task(compose(*item)) for item in enumerate(groups, 1)]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _compose(
        self, name: str, pieces: Sequence[Piece], content_type: str, generation: int | None = None
    ) -> ObjectInfo:
        store, bucket = self._store, self._store.bucket
        blob = bucket.blob(name)
        blob.content_type = content_type
        call = partial(
            blob.compose,
            [bucket.blob(piece.name, generation=piece.generation) for piece in pieces],
            if_generation_match=generation,
            timeout=TIMEOUT_SECONDS,
            retry=None,
        )
        try:
            await self._call(store.run("upload", self._key, call))
        except ObjectMissingError as error:
            detail = "parts of the upload are gone, or others are in their place"
            raise StoreUnreachableError("upload", store.name, self._key, detail=detail) from error
        return info_of_blob("upload", store.name, self._key, blob)

    async def _call(self, call: Coroutine[Any, Any, T]) -> T:
        """Ask for something that makes an object; raises StoreError.

        A thread cannot be stopped: what is under way is waited for before anything is deleted.
        """
        asking = asyncio.ensure_future(call)
        self._sending.add(asking)
        asking.add_done_callback(self._sending.discard)
        return await asyncio.shield(asking)

    async def _refuse_another(self) -> None:
        """Stand-in for a precondition on a server without one: asks first, so it can race."""
        try:
            found = int((await self._store.head(self._key)).etag)
        except ObjectMissingError:
            found = 0
        if found != self._generation:
            raise ObjectExistsError("upload", self._store.name, self._key)

    async def _abort(self) -> None:
        """See PartedUpload. Shielded: a cancelled write must not leave its parts."""
        if self._token:
            await asyncio.shield(self._drop())

    async def _drop(self) -> None:
        await asyncio.gather(*self._sending, return_exceptions=True)
        with contextlib.suppress(StoreError):
            await drop_parts(self._store, self._key, self._token)

    def _part_name(self, leaf: str) -> str:
        return _folder_of(self._store, self._key, self._token) + leaf

    def _proved(self, name: str, info: ObjectInfo, size: int, crc32c: int) -> Piece:
        """A piece that was just made, if the store's own word says that it is what it should be."""
        piece = self._piece(name, info)
        if (piece.size, piece.crc32c) != (size, crc32c):
            raise self._mismatch(f"the store got another part {name}")
        return piece

    def _piece(self, name: str, info: ObjectInfo) -> Piece:
        crc32c = info.checksums.get("crc32c", "")
        if not crc32c:
            detail = "answer without crc32c"
            raise StoreUnreachableError("upload", self._store.name, self._key, detail=detail)
        return Piece(name, int(info.etag), info.size, int(crc32c, 16))


async def drop_parts(store: GcsStore, key: ObjectKey, token: str = "") -> int:
    """Delete the parts of an upload, or of all uploads of a key; how many there were."""
    # Listed to the end first: a page's end may be told by a number of names.
    parts = [(blob.name, blob.generation) async for blob in _parts_of(store, key, token)]
    places = asyncio.Semaphore(_CALLS_AT_ONCE)

    async def delete(name: str, generation: int) -> None:
        blob = store.bucket.blob(name, generation=generation)
        async with places:
            with contextlib.suppress(ObjectMissingError):
                call = partial(blob.delete, timeout=TIMEOUT_SECONDS, retry=None)
                await store.run("abort", key, call)

    found = await asyncio.gather(*(delete(*part) for part in parts), return_exceptions=True)
    for error in found:
        if error is not None:
            raise error
    return len(parts)


async def open_uploads(store: GcsStore) -> AsyncIterator[OpenUpload]:
    """See ObjectStore. An upload is as old as the oldest of its parts."""
    folder, begun_at_ms = "", 0
    async for blob in store.blobs("list", "", store.full_key(ObjectKey(PARTS_PREFIX))):
        made_at_ms = info_of_blob("list", store.name, ObjectKey(""), blob).modified_at_ms
        this = blob.name.rpartition("/")[0]
        if this != folder:
            if folder:
                yield _upload_of(store, folder, begun_at_ms)
            folder, begun_at_ms = this, made_at_ms
        begun_at_ms = min(begun_at_ms, made_at_ms)
    if folder:
        yield _upload_of(store, folder, begun_at_ms)


def _upload_of(store: GcsStore, folder: str, begun_at_ms: int) -> OpenUpload:
    path = folder.removeprefix(store.full_key(ObjectKey(PARTS_PREFIX)))
    key, _, token = path.rpartition("/")
    return OpenUpload(ObjectKey(key), token, begun_at_ms)


def _parts_of(store: GcsStore, key: ObjectKey, token: str) -> AsyncIterator[storage.Blob]:
    """All versions of all parts: a deleted part of a versioned bucket would stay otherwise."""
    return store.blobs("upload", key, _folder_of(store, key, token), versions=True)


def _folder_of(store: GcsStore, key: ObjectKey, token: str) -> str:
    tail = f"{token}/" if token else ""
    return f"{store.full_key(ObjectKey(PARTS_PREFIX))}{key}/{tail}"
