"""The contract of connectors/store.py as tests.

A subclass overrides the fixture `store` with an opened, empty store. Where a capability is absent
the case asserts what the store does instead, so a declared gap is tested too, never skipped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from tidestore.connectors.conformance.made import (
    BYTES,
    LARGE_BYTES,
    SourceFailedError,
    is_absent,
    key_of,
    need,
    open_uploads,
    put,
    read_all,
    source_of,
)
from tidestore.connectors.conformance.uploads import ResumedUploads
from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    PreconditionError,
    UnsupportedError,
)
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.objects import ObjectKey

__all__ = [
    "BYTES",
    "LARGE_BYTES",
    "SourceFailedError",
    "StoreContract",
    "is_absent",
    "key_of",
    "need",
    "put",
    "read_all",
    "source_of",
]


class StoreContract(ResumedUploads):
    """What a store must do. The names of the cases are the claims."""

    @pytest.fixture
    async def store(self) -> AsyncIterator[ObjectStore]:
        """An opened and empty store."""
        raise NotImplementedError
        yield  # type: ignore[unreachable]  # makes it the generator that the fixture is

    @pytest.mark.parametrize("size", [0, 1, 4096, 1024 * 1024 + 1])
    async def test_bytes_come_back_as_they_were_put(self, store: ObjectStore, size: int) -> None:
        body = os.urandom(size)
        sums = checksums_of(body)
        info = await store.put_if_absent(key_of(1), body, sums, content_type=BYTES)
        assert info.size == size
        assert not info.differs_from(sums)
        assert await read_all(store, key_of(1)) == body

    async def test_bytes_that_look_like_text_and_headers_come_back_unchanged(
        self, store: ObjectStore
    ) -> None:
        body = b"\r\n--boundary\r\nContent-Type: x\r\n\r\n\n\r\x0b\x0c\x1c\x85\xe2\x80\xa8\x00\n\n"
        await put(store, key_of(1), body)
        assert await read_all(store, key_of(1)) == body

    async def test_the_stores_own_word_proves_the_bytes(self, store: ObjectStore) -> None:
        body = os.urandom(50_000)
        sums = await put(store, key_of(1), body)
        info = await store.head(key_of(1))
        if store.capabilities.native_checksum:
            assert info.proves(sums)
        assert not info.proves(checksums_of(body[:-1] + bytes([body[-1] ^ 1])))
        assert info.differs_from(checksums_of(body[:-1])) == "size"

    async def test_a_taken_key_is_refused_and_unchanged(self, store: ObjectStore) -> None:
        await put(store, key_of(1), b"first")
        with pytest.raises(ObjectExistsError):
            await put(store, key_of(1), b"second")
        assert await read_all(store, key_of(1)) == b"first"

    async def test_one_of_many_racing_creates_wins(self, store: ObjectStore) -> None:
        # Where it is a gap the store asks first, so two at once may both pass. One after the other
        # is still refused, which the case above shows.
        need(store, "put_if_absent")
        bodies = [f"writer {number}".encode() for number in range(12)]
        results = await asyncio.gather(
            *(put(store, key_of(1), body) for body in bodies), return_exceptions=True
        )
        winners = [
            body
            for body, result in zip(bodies, results, strict=True)
            if not isinstance(result, BaseException)
        ]
        assert len(winners) == 1
        assert sum(isinstance(result, ObjectExistsError) for result in results) == 11
        assert await read_all(store, key_of(1)) == winners[0]

    async def test_a_large_stream_comes_back_as_it_was_sent(self, store: ObjectStore) -> None:
        body = os.urandom(LARGE_BYTES)
        sums = checksums_of(body)
        info = await store.upload_if_absent(
            key_of(1), source_of(body), size=len(body), content_type=BYTES
        )
        assert info.size == len(body)
        head = await store.head(key_of(1))
        assert not head.differs_from(sums)
        if store.capabilities.native_checksum:
            assert head.proves(sums)
        assert await read_all(store, key_of(1)) == body

    async def test_a_stream_of_unknown_length_is_stored_whole(self, store: ObjectStore) -> None:
        body = os.urandom(17 * 1024 * 1024 + 3)
        await store.upload_if_absent(key_of(1), source_of(body), size=None, content_type=BYTES)
        assert await read_all(store, key_of(1)) == body

    async def test_an_empty_stream_is_an_empty_object(self, store: ObjectStore) -> None:
        await store.upload_if_absent(key_of(1), source_of(b""), size=0, content_type=BYTES)
        assert await read_all(store, key_of(1)) == b""

    @pytest.mark.parametrize("size", [1000, 16 * 1024 * 1024, LARGE_BYTES])
    async def test_a_source_that_fails_at_its_end_leaves_nothing(
        self, store: ObjectStore, size: int
    ) -> None:
        body = os.urandom(size)
        failing = source_of(body, fail=SourceFailedError("the hash is wrong"))
        with pytest.raises(SourceFailedError):
            await store.upload_if_absent(key_of(1), failing, size=size, content_type=BYTES)
        assert await is_absent(store, key_of(1))
        assert not await open_uploads(store)
        await store.upload_if_absent(key_of(1), source_of(body), size=size, content_type=BYTES)
        assert await read_all(store, key_of(1)) == body

    @pytest.mark.parametrize("announced", [999, 1001])
    async def test_a_stream_of_another_length_leaves_nothing(
        self, store: ObjectStore, announced: int
    ) -> None:
        with pytest.raises(ChecksumMismatchError):
            await store.upload_if_absent(
                key_of(1), source_of(bytes(1000)), size=announced, content_type=BYTES
            )
        assert await is_absent(store, key_of(1))

    async def test_a_cancelled_upload_leaves_nothing(self, store: ObjectStore) -> None:
        reached = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield bytes(20 * 1024 * 1024)
            reached.set()
            await asyncio.Event().wait()

        upload = asyncio.create_task(
            store.upload_if_absent(key_of(1), endless(), size=None, content_type=BYTES)
        )
        await asyncio.wait_for(reached.wait(), 30)
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert await is_absent(store, key_of(1))
        assert not await open_uploads(store)

    async def test_a_large_stream_does_not_replace_a_taken_key(self, store: ObjectStore) -> None:
        await put(store, key_of(1), b"first")
        with pytest.raises(ObjectExistsError):
            await store.upload_if_absent(
                key_of(1), source_of(bytes(LARGE_BYTES)), size=LARGE_BYTES, content_type=BYTES
            )
        assert await read_all(store, key_of(1)) == b"first"

    async def test_of_two_racing_uploads_one_wins(self, store: ObjectStore) -> None:
        need(store, "upload_if_absent")
        bodies = [bytes([number]) * (17 * 1024 * 1024) for number in range(2)]
        results = await asyncio.gather(
            *(
                store.upload_if_absent(
                    key_of(1), source_of(body), size=len(body), content_type=BYTES
                )
                for body in bodies
            ),
            return_exceptions=True,
        )
        won = [not isinstance(result, BaseException) for result in results]
        assert sorted(won) == [False, True]
        assert isinstance(results[won.index(False)], ObjectExistsError)
        assert await read_all(store, key_of(1)) == bodies[won.index(True)]

    async def test_other_bytes_than_announced_are_refused(self, store: ObjectStore) -> None:
        """The client library or the wire changed a byte: the server's own check must catch it."""
        need(store, "checks_uploads")  # else the answer's checksum is compared: verify.py
        body = os.urandom(5000)
        wrong = checksums_of(body[:-1] + bytes([body[-1] ^ 1]))
        if store.capabilities.native_checksum == "md5":
            pytest.skip("S3's library computes what it sends: see the tests of a faulty wire")
        with pytest.raises(ChecksumMismatchError):
            await store.put_if_absent(key_of(1), body, wrong, content_type=BYTES)
        assert await is_absent(store, key_of(1))

    @pytest.mark.parametrize(
        ("start", "length"),
        [(0, 1), (0, 10), (5, 3), (9, 1), (3, None), (8, 100), (0, None), (0, 0), (4, 0)],
    )
    async def test_a_range_is_just_those_bytes(
        self, store: ObjectStore, start: int, length: int | None
    ) -> None:
        body = b"0123456789"
        await put(store, key_of(1), body)
        stream = await store.get(key_of(1), start=start, length=length)
        expected = body[start:] if length is None else body[start : start + length]
        assert b"".join([chunk async for chunk in stream.chunks]) == expected
        assert stream.info.size == 10

    @pytest.mark.parametrize("length", [None, 0])
    async def test_an_empty_object_is_read_as_nothing(
        self, store: ObjectStore, length: int | None
    ) -> None:
        await put(store, key_of(1), b"")
        stream = await store.get(key_of(1), length=length)
        assert [chunk async for chunk in stream.chunks] in ([], [b""])
        assert stream.info.size == 0

    async def test_a_stream_may_be_left_early(self, store: ObjectStore) -> None:
        await put(store, key_of(1), bytes(3 * 1024 * 1024))
        stream = await store.get(key_of(1))
        async for _ in stream.chunks:
            break
        await stream.close()
        assert (await store.head(key_of(1))).size == 3 * 1024 * 1024

    async def test_a_missing_object_is_missing(self, store: ObjectStore) -> None:
        assert await is_absent(store, key_of(404))
        await store.delete(key_of(404))  # deleting what is not there is success

    async def test_a_deleted_object_is_gone_and_its_key_free(self, store: ObjectStore) -> None:
        await put(store, key_of(1), b"first")
        await store.delete(key_of(1))
        assert await is_absent(store, key_of(1))
        await put(store, key_of(1), b"second")
        assert await read_all(store, key_of(1)) == b"second"

    async def test_a_listing_is_complete_and_in_key_order(self, store: ObjectStore) -> None:
        keys = sorted(
            [key_of(number, kind) for number in range(40) for kind in ("blobs", "files", "bundles")]
            + [ObjectKey(f"public-two/blobs/{7:064x}"), ObjectKey(f"a/blobs/{7:064x}")]
        )
        for key in sorted(keys, key=hash):
            await put(store, key, key.encode())
        found = [info async for info in store.list()]
        assert [info.key for info in found] == keys
        assert [info.size for info in found] == [len(key) for key in keys]
        prefix = "public/files/"
        expected = [key for key in keys if key.startswith(prefix)]
        assert [info.key async for info in store.list(prefix)] == expected
        assert [info.key async for info in store.list(prefix, after=expected[7])] == expected[8:]
        assert [info.key async for info in store.list(expected[3])] == [expected[3]]

    async def test_a_listing_goes_over_many_pages(self, store: ObjectStore) -> None:
        keys = [key_of(number) for number in range(1105)]
        gate = asyncio.Semaphore(16)

        async def one(key: ObjectKey) -> None:
            async with gate:
                await put(store, key, b"x")

        await asyncio.gather(*(one(key) for key in keys))
        assert [info.key async for info in store.list()] == keys

    async def test_damaged_bytes_are_replaced_only_if_they_are_still_the_same(
        self, store: ObjectStore
    ) -> None:
        await put(store, key_of(1), b"damaged")
        seen = await store.head(key_of(1))
        good = checksums_of(b"good bytes")
        await store.replace(
            key_of(1), source_of(b"good bytes"), good, seen=seen, content_type=BYTES
        )
        assert await read_all(store, key_of(1)) == b"good bytes"
        with pytest.raises(PreconditionError):
            await store.replace(
                key_of(1), source_of(b"good bytes"), good, seen=seen, content_type=BYTES
            )

    async def test_a_signed_url_is_made_or_refused_by_name(self, store: ObjectStore) -> None:
        await put(store, key_of(1), b"signed")
        call = store.presign(
            key_of(1), expires_seconds=60, content_type="text/x-test", disposition="inline"
        )
        if not store.capabilities.presign:
            with pytest.raises(UnsupportedError):
                await call
            return
        assert (await call).startswith("http")

    async def test_the_native_address_names_the_key(self, store: ObjectStore) -> None:
        assert store.native_url(key_of(1)).endswith(key_of(1))

    async def test_objects_survive_a_second_opening(self, store: ObjectStore) -> None:
        await put(store, key_of(1), b"kept")
        await store.open()
        assert await read_all(store, key_of(1)) == b"kept"

    async def test_erasing_says_what_it_found_and_leaves_nothing(self, store: ObjectStore) -> None:
        await put(store, key_of(1), b"gone")
        await put(store, key_of(2), b"kept")
        assert await store.erase(key_of(1)) >= 1
        assert await is_absent(store, key_of(1))
        assert await store.erase(key_of(1)) == 0
        assert await read_all(store, key_of(2)) == b"kept"
        await put(store, key_of(1), b"free again")
