"""Damaged bytes are kept before anything takes their place (design point 11)."""

from __future__ import annotations

import pytest

from tidestore.connectors.conformance.made import key_of, read_all
from tidestore.connectors.damage import keep_aside
from tidestore.connectors.errors import ChecksumMismatchError, StoreUnreachableError
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.store import ByteSource, ObjectInfo, UploadJournal
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.objects import ObjectKey

KEY = key_of(1)


class Failing(MemoryStore):
    """A store whose uploads fail in the given ways, one after the other."""

    failures: tuple[Exception, ...] = ()

    async def upload_if_absent(
        self,
        key: ObjectKey,
        source: ByteSource,
        *,
        size: int | None,
        content_type: str,
        journal: UploadJournal | None = None,
    ) -> ObjectInfo:
        if self.failures:
            failure, *rest = self.failures
            self.failures = tuple(rest)
            raise failure
        return await super().upload_if_absent(
            key, source, size=size, content_type=content_type, journal=journal
        )


async def put_bad(store: MemoryStore, body: bytes) -> ObjectInfo:
    return await store.put_if_absent(KEY, body, checksums_of(body), content_type="a/b")


async def kept(store: MemoryStore) -> list[bytes]:
    keys = [info.key async for info in store.list(f".tidestore/damaged/{KEY}@")]
    return [await read_all(store, key) for key in keys]


async def test_bad_bytes_are_kept_once_and_stay_where_they_were() -> None:
    """Goal: a try that begins again after a kill goes on. Method: keep the same aside twice."""
    store = MemoryStore("onprem")
    seen = await put_bad(store, b"bad")
    for _ in range(2):
        await keep_aside(store, KEY, seen)
        assert await kept(store) == [b"bad"]
        assert await read_all(store, KEY) == b"bad"


async def test_each_damage_is_kept() -> None:
    """Goal: a second damage does not hide the first. Method: two, one after the other."""
    store = MemoryStore("onprem")
    for body in (b"bad", b"worse"):
        await keep_aside(store, KEY, await put_bad(store, body))
        await store.delete(KEY)
    assert sorted(await kept(store)) == [b"bad", b"worse"]


@pytest.mark.parametrize("kind", [StoreUnreachableError, ChecksumMismatchError])
async def test_what_cannot_be_kept_is_said(kind: type[StoreUnreachableError]) -> None:
    """Goal: whoever wants to repair must not. Method: an upload that fails, then one that works."""
    store = Failing("onprem")
    seen = await put_bad(store, b"bad")
    store.failures = (kind("upload", "onprem", KEY, detail="test"),)
    with pytest.raises(kind):
        await keep_aside(store, KEY, seen)
    assert await kept(store) == []
    await keep_aside(store, KEY, seen)
    assert await kept(store) == [b"bad"]
