"""Keys, bytes and questions that the cases of the suite share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tidestore.connectors.errors import ObjectMissingError
from tidestore.connectors.store import ObjectStore, OpenUpload
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.objects import ObjectKey

BYTES = "application/octet-stream"
# Over the size at which every adapter begins to send parts, and not a multiple of any part size.
# More than the 64 MiB from which some clients treat an object apart.
LARGE_BYTES = 66 * 1024 * 1024 + 4321


class SourceFailedError(Exception):
    """What a failing source raises here: must come out of the store as it is."""


def key_of(number: int, kind: str = "blobs") -> ObjectKey:
    """A valid key; greater numbers sort later."""
    if kind == "blobs":
        return ObjectKey(f"public/blobs/{number:064x}")
    uuid = f"{number:08x}-0000-4000-8000-000000000000"
    return ObjectKey(f"public/{kind}/{uuid}.2026-11-23T120000.000000Z")


async def source_of(
    body: bytes, *, chunk_bytes: int = 700_001, fail: Exception | None = None
) -> AsyncIterator[bytes]:
    """Bytes as a source, in odd chunks; raises `fail` at its end."""
    for start in range(0, len(body), chunk_bytes):
        yield body[start : start + chunk_bytes]
        await asyncio.sleep(0)
    if fail is not None:
        raise fail


async def read_all(store: ObjectStore, key: ObjectKey) -> bytes:
    """The bytes of an object."""
    stream = await store.get(key)
    return b"".join([chunk async for chunk in stream.chunks])


async def is_absent(store: ObjectStore, key: ObjectKey) -> bool:
    """Whether nothing is visible under the key, by head, get and list."""
    with pytest.raises(ObjectMissingError):
        await store.head(key)
    with pytest.raises(ObjectMissingError):
        await read_all(store, key)
    return not [info async for info in store.list(key)]


async def open_uploads(store: ObjectStore) -> list[OpenUpload]:
    """What the store tells of unfinished uploads; nothing where it lists no traces."""
    if not store.capabilities.lists_traces:
        return []
    return [upload async for upload in store.open_uploads()]


def need(store: ObjectStore, capability: str) -> None:
    """Skip a case that a store declares it cannot pass: the gap is named, not hidden."""
    if not getattr(store.capabilities, capability):
        pytest.skip(f"declared gap of {store.name}: {capability}")


async def put(store: ObjectStore, key: ObjectKey, body: bytes) -> Checksums:
    """Store small bytes and return their checksums."""
    sums = checksums_of(body)
    await store.put_if_absent(key, body, sums, content_type=BYTES)
    return sums
