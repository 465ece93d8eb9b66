"""connectors: wrappers around a store, the byte budget, and bytes that check themselves (R4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from tidestore.connectors.budget import ByteBudget
from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
    StoreFaultError,
    StoreThrottledError,
    StoreUnreachableError,
    UnsupportedError,
)
from tidestore.connectors.layers import (
    LayeredStore,
    LimitedStore,
    MeasuredStore,
    RetryingStore,
    StoreMetrics,
)
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.store import ObjectInfo
from tidestore.connectors.verify import CheckedSource, put_verified, upload_verified
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.objects import PUBLIC, ObjectKey, blob_key

_BODY = b"some bytes"
_SUMS = checksums_of(_BODY)
_KEY = blob_key(PUBLIC, _SUMS.sha256)


class FailingStore(MemoryStore):
    """Fails its next heads and puts with what it was given."""

    def __init__(self, *failures: StoreError) -> None:
        super().__init__("memory")
        self.failures = list(failures)
        self.calls = 0
        self.after = False

    async def head(self, key: ObjectKey) -> ObjectInfo:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return await super().head(key)

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        self.calls += 1
        if self.failures and not self.after:
            raise self.failures.pop(0)
        info = await super().put_if_absent(key, body, sums, content_type=content_type)
        if self.failures:
            raise self.failures.pop(0)
        return info

    async def upload_if_absent(self, key: ObjectKey, source: object, **more: object) -> ObjectInfo:
        self.calls += 1
        raise self.failures.pop(0)


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def _retrying(store: MemoryStore, pauses: list[float]) -> RetryingStore:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    return RetryingStore(store, sleep=sleep)


@pytest.mark.parametrize("kind", [StoreUnreachableError, StoreThrottledError, StoreFaultError])
async def test_a_fault_that_passes_is_tried_again_a_few_times(kind: type[StoreError]) -> None:
    """Goal: a hiccup is nobody's concern. Method: two failures, then three."""
    pauses: list[float] = []
    store = FailingStore(kind("head", "m"), kind("head", "m"))
    with pytest.raises(ObjectMissingError):
        await _retrying(store, pauses).head(_KEY)
    assert store.calls == 3
    assert 0.05 <= pauses[0] <= 0.15 <= pauses[1] * 1.5 <= 0.45
    store = FailingStore(*(kind("head", "m") for _ in range(3)))
    with pytest.raises(kind):
        await _retrying(store, pauses).head(_KEY)
    assert store.calls == 3


@pytest.mark.parametrize("kind", [ObjectMissingError, ChecksumMismatchError, UnsupportedError])
async def test_what_repeating_cannot_mend_is_tried_once(kind: type[StoreError]) -> None:
    """Goal: no time is lost. Method: final errors."""
    store = FailingStore(kind("head", "m"))
    with pytest.raises(kind):
        await _retrying(store, []).head(_KEY)
    assert store.calls == 1


async def test_a_stream_is_sent_once() -> None:
    """Goal: half a stream is never sent as a whole. Method: an upload that fails in passing."""
    store = FailingStore(StoreUnreachableError("upload", "m"))
    with pytest.raises(StoreUnreachableError):
        await _retrying(store, []).upload_if_absent(
            _KEY, _chunks(_BODY), size=None, content_type="x/y"
        )
    assert store.calls == 1


async def test_a_create_whose_answer_was_lost_finds_its_own_object() -> None:
    """Goal: callers compare equal bytes. Method: the answer is lost after the object was made."""
    store = FailingStore(StoreUnreachableError("put", "m"))
    store.after = True
    with pytest.raises(ObjectExistsError):
        await _retrying(store, []).put_if_absent(_KEY, _BODY, _SUMS, content_type="x/y")
    assert (await store.head(_KEY)).proves(_SUMS)


async def test_a_limited_store_lets_so_many_in_and_no_more() -> None:
    """Goal: connections are bounded. Method: count the calls that are inside at once."""
    inside, most = 0, 0

    class Slow(MemoryStore):
        async def head(self, key: ObjectKey) -> ObjectInfo:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            for _ in range(3):
                await asyncio.sleep(0)
            inside -= 1
            raise ObjectMissingError("head", "m", key)

    store = LimitedStore(Slow("m"), calls_max=3)
    found = await asyncio.gather(*(store.head(_KEY) for _ in range(12)), return_exceptions=True)
    assert most == 3
    assert all(isinstance(item, ObjectMissingError) for item in found)


async def test_calls_and_errors_are_counted_by_operation() -> None:
    """Goal: an operator sees which store fails how. Method: a success and a failure."""
    registry = CollectorRegistry()
    store = MeasuredStore(MemoryStore("aws"), StoreMetrics(registry))
    with pytest.raises(ObjectMissingError):
        await store.head(_KEY)
    await store.put_if_absent(_KEY, _BODY, _SUMS, content_type="x/y")
    labels = {"replica": "aws", "operation": "head"}
    name = "tidestore_store_errors_total"
    assert registry.get_sample_value(name, {**labels, "error_class": "missing"}) == 1
    for operation in ("head", "put"):
        labels["operation"] = operation
        assert registry.get_sample_value("tidestore_store_call_seconds_count", labels) == 1


async def test_a_layer_passes_every_call_through() -> None:
    """Goal: a wrapper is a store. Method: each method of the port through a bare layer."""
    inner = MemoryStore("m")
    store = LayeredStore(inner)
    await store.open()
    assert (store.name, store.capabilities) == ("m", inner.capabilities)
    assert store.native_url(_KEY) == inner.native_url(_KEY)
    seen = await store.upload_if_absent(_KEY, _chunks(_BODY), size=10, content_type="x/y")
    assert await store.head(_KEY) == seen
    stream = await store.get(_KEY, start=5, length=3)
    assert b"".join([chunk async for chunk in stream.chunks]) == _BODY[5:8]
    assert [info.key async for info in store.list("public/")] == [_KEY]
    again = await store.replace(_KEY, _chunks(_BODY), _SUMS, seen=seen, content_type="x/y")
    assert again.etag != seen.etag
    with pytest.raises(UnsupportedError):
        await store.presign(_KEY, expires_seconds=1, content_type="", disposition="")
    await store.delete(_KEY)
    with pytest.raises(ObjectMissingError):
        await store.head(_KEY)
    await store.close()


async def test_a_budget_is_never_overdrawn_and_one_that_is_too_large_waits_for_all_of_it() -> None:
    """Goal: memory is bounded and nothing waits for ever. Method: small ones and a giant."""
    budget, held, most = ByteBudget(100), 0, 0

    async def use(size: int) -> None:
        nonlocal held, most
        async with budget.hold(size):
            held += min(size, 100)
            most = max(most, held)
            await asyncio.sleep(0)
            held -= min(size, 100)

    await asyncio.gather(*(use(size) for size in (60, 60, 10, 5_000, 30, 100, 0)))
    assert 60 <= most <= 100
    async with budget.hold(100):
        assert budget._left == 0

    async def fail() -> None:
        raise ValueError("given back")

    async def use_and_fail() -> None:
        async with budget.hold(50):
            await fail()

    with pytest.raises(ValueError, match="given back"):
        await use_and_fail()
    assert budget._left == 100


async def _read(source: CheckedSource) -> bytes:
    return b"".join([chunk async for chunk in source])


async def test_a_checked_source_gives_its_bytes_and_knows_their_checksums() -> None:
    """Goal: R4. Method: small chunks and one that is hashed in a thread."""
    large = b"x" * 300_000
    source = CheckedSource(_chunks(b"ab", large), sha256=checksums_of(b"ab" + large).sha256)
    before = source.sums
    assert before is None, "not before the end"
    assert await _read(source) == b"ab" + large
    assert source.sums == checksums_of(b"ab" + large)
    assert source.bytes_done == 300_002


@pytest.mark.parametrize("parts", [(_BODY[:-1],), (_BODY, b"!"), (_BODY[::-1],), ()])
async def test_bytes_that_are_not_the_announced_ones_end_in_an_error(
    parts: tuple[bytes, ...],
) -> None:
    """Goal: wrong bytes never become visible. Method: short, long, other, none; via the store."""
    for size, known in ((len(_BODY), None), (None, None), (None, _SUMS)):
        source = CheckedSource(_chunks(*parts), sha256=_SUMS.sha256, size=size, known=known)
        store = MemoryStore("m")
        with pytest.raises(ChecksumMismatchError):
            await upload_verified(store, _KEY, source, None, "x/y")
        with pytest.raises(ObjectMissingError):
            await store.head(_KEY)
        assert source.sums is None


async def test_a_source_of_unknown_content_is_only_hashed() -> None:
    """Goal: a body without an announcement is taken. Method: nothing to compare with."""
    source = CheckedSource(_chunks(_BODY), sha256=None)
    await _read(source)
    assert source.sums == _SUMS


class LyingStore(MemoryStore):
    """Answers with another checksum than what it was given."""

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        info = await super().put_if_absent(key, body, sums, content_type=content_type)
        return replace(info, checksums={"md5": "0" * 32})

    async def upload_if_absent(self, key: ObjectKey, source: object, **more: object) -> ObjectInfo:
        info = await super().upload_if_absent(key, source, **more)  # type: ignore[arg-type]
        return replace(info, size=info.size - 1)


async def test_an_answer_that_contradicts_the_bytes_is_not_believed() -> None:
    """Goal: trust no 200. Method: a store that answers wrong; what it made is taken away."""
    store = LyingStore("m")
    with pytest.raises(ChecksumMismatchError, match="another md5"):
        await put_verified(store, _KEY, _BODY, _SUMS, "x/y")
    source = CheckedSource(_chunks(_BODY), sha256=_SUMS.sha256)
    with pytest.raises(ChecksumMismatchError, match="another size"):
        await upload_verified(store, _KEY, source, len(_BODY), "x/y")
    with pytest.raises(ObjectMissingError):
        await store.head(_KEY)


def test_a_stores_word_proves_only_what_it_says() -> None:
    """Goal: no proof without a checksum. Method: none, a right one, a wrong one, a wrong size."""
    info = ObjectInfo(_KEY, _SUMS.size, "e", 0)
    assert not info.proves(_SUMS)
    assert info.differs_from(_SUMS) == ""
    assert replace(info, checksums={"crc32c": _SUMS.crc32c}).proves(_SUMS)
    assert replace(info, checksums={"crc32c": "0"}).differs_from(_SUMS) == "crc32c"
    assert replace(info, size=1).differs_from(_SUMS) == "size"
