"""Copies that a provider makes itself: between which replicas, and what follows when it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.made import written

from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.errors import ObjectExistsError, ObjectMissingError, UnsupportedError
from tidestore.connectors.inside import can_copy_inside, full_key_at
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import ObjectKey
from tidestore.streams.asking import Asking
from tidestore.streams.inside import REFUSED_SECONDS
from tidestore.streams.plan import SMALL_BYTES_MAX
from tidestore.streams.records import Identity, Wanted, record_of, wanted_of
from tidestore.streams.sources import Sources

_KEYS = {"access_key_id": Secret("me"), "secret_access_key": Secret("mine")}
_HERE = StoreAddress.parse("s3://here/a?endpoint=http://minio:9000", _KEYS)
_THERE = StoreAddress.parse("s3://there?endpoint=http://minio:9000&create=1", _KEYS)


def test_only_one_server_with_the_same_credentials_copies_inside() -> None:
    """Goal: no server is asked for what it cannot have. Method: change one thing of a pair."""
    assert can_copy_inside(_THERE, _HERE)
    assert can_copy_inside(StoreAddress.parse("gs://a"), StoreAddress.parse("gs://b/c"))
    others = [
        replace(_THERE, credentials={**_KEYS, "secret_access_key": Secret("yours")}),
        replace(_THERE, credentials={}),
        StoreAddress.parse("s3://there?endpoint=http://minio-2:9000", _KEYS),
        StoreAddress.parse("s3://there", _KEYS),
        StoreAddress.parse("s3://there?endpoint=http://minio:9000&region=eu-west-1", _KEYS),
        StoreAddress.parse("gs://there?endpoint=http://minio:9000", _KEYS),
    ]
    assert not any(can_copy_inside(other, _HERE) for other in others)
    assert not can_copy_inside(StoreAddress.parse("file:///a"), StoreAddress.parse("file:///b"))
    assert full_key_at(_HERE, ObjectKey("k")) == "a/k"
    assert full_key_at(_THERE, ObjectKey("k")) == "k"


class _Provider(MemoryStore):
    """A target whose provider copies, or says why not."""

    def __init__(self) -> None:
        super().__init__("here")
        self.asked: list[StoreAddress] = []
        self.answer: Exception | None = None

    async def copy_inside(
        self, source: StoreAddress, key: ObjectKey, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        self.asked.append(source)
        if self.answer is not None:
            raise self.answer
        return ObjectInfo(key, sums.size, content_type, 0)


class _Journal:
    """A journal of an upload that another worker has begun, or of none."""

    def __init__(self, token: str = "") -> None:
        self.token = token

    async def begun(self, token: str) -> None:
        self.token = token

    def stored(self, size: int) -> None:
        del size


class _Bench:
    """A target, a source that has one object, and the clock."""

    def __init__(self) -> None:
        self.target, self.source = _Provider(), MemoryStore("there")
        self.now = 100.0
        asking = Asking("here", {"here": self.target, "there": self.source})
        self.sources = Sources(
            asking, copies_in_flight=1, copy_bytes_in_flight=2**30, large_in_flight=1
        )
        self.sources.inside._clock = lambda: self.now
        self.sources.inside.use({"here": _HERE, "there": _THERE})

    async def wanted(self, size: int) -> Wanted:
        """Something that lies at the source."""
        body = bytes(size)
        wanted = wanted_of(record_of(Identity("here", 1, "copies", 4), written(body), 0))
        assert wanted.sums is not None
        await self.source.put_if_absent(wanted.key, body, wanted.sums, content_type="a/b")
        return wanted


async def test_a_large_object_is_copied_by_the_provider_and_a_small_one_is_not() -> None:
    """Goal: no byte passes the worker. Method: what the target is asked, at the bound and above."""
    bench = _Bench()
    small = await bench.wanted(SMALL_BYTES_MAX)
    await bench.sources.copy(bench.target, small)
    assert not bench.target.asked
    large = await bench.wanted(SMALL_BYTES_MAX + 1)
    assert (await bench.sources.copy(bench.target, large, _Journal())).size == large.size
    assert bench.target.asked == [_THERE]
    with pytest.raises(ObjectMissingError):
        await bench.target.head(large.key)  # streamed it would be there


async def test_an_upload_that_was_begun_is_gone_on_with() -> None:
    """Goal: parts that are there are used. Method: a journal that names an upload."""
    bench = _Bench()
    large = await bench.wanted(SMALL_BYTES_MAX + 1)
    await bench.sources.copy(bench.target, large, _Journal("u1"))
    assert not bench.target.asked
    assert (await bench.target.head(large.key)).size == large.size


async def test_what_the_provider_cannot_do_is_streamed_and_not_asked_again_at_once() -> None:
    """Goal: no copy is lost or slow for it. Method: refuse, look at the copy, move the clock."""
    bench = _Bench()
    large = await bench.wanted(SMALL_BYTES_MAX + 1)
    bench.target.answer = UnsupportedError("copy", "here")
    for seconds, asked in ((0.0, 1), (REFUSED_SECONDS - 1, 1), (2.0, 2)):
        bench.now += seconds
        await bench.sources.copy(bench.target, large)
        assert (await bench.target.head(large.key)).size == large.size
        await bench.target.delete(large.key)
        assert len(bench.target.asked) == asked
    bench.now += REFUSED_SECONDS
    bench.target.answer = ObjectMissingError("copy", "here")  # says nothing about the next one
    for asked in (3, 4):
        await bench.sources.copy(bench.target, large)
        await bench.target.delete(large.key)
        assert len(bench.target.asked) == asked
    bench.target.answer = ObjectExistsError("copy", "here")
    with pytest.raises(ObjectExistsError):
        await bench.sources.copy(bench.target, large)
