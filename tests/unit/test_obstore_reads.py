"""Reads that last longer than obstore lets one answer last: they go on, at the same object."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import obstore
import pytest

from tidestore.connectors.conformance.made import key_of
from tidestore.connectors.errors import StoreError, StoreUnreachableError
from tidestore.connectors.obstore_reads import LONG_SECONDS, ObstoreReader
from tidestore.connectors.store import ObjectInfo

BODY = bytes(range(100))


class _Store:
    """Gives ten bytes at a time; each answer breaks off after some, at its own speed."""

    def __init__(self, chunks_max: int, seconds: float) -> None:
        self.chunks_max, self.seconds = chunks_max, seconds
        self.now = 5.0
        self.asked: list[Any] = []

    async def get_async(self, store: object, key: str, *, options: Any) -> Any:
        del store, key
        self.asked.append(options)
        given = (options or {}).get("range", (0, len(BODY)))
        return _Answer(self, *given)


class _Answer:
    def __init__(self, store: _Store, start: int, end: int) -> None:
        self._store = store
        self.range = (start, end)
        self.meta = {"size": len(BODY), "e_tag": "e1", "last_modified": datetime.now(UTC)}

    async def stream(self, *, min_chunk_size: int) -> AsyncIterator[bytes]:
        del min_chunk_size
        start, end = self.range
        for count in range(-(-(end - start) // 10)):
            if count == self._store.chunks_max:
                self._store.now += self._store.seconds
                raise TimeoutError("the answer took too long")
            begin = start + 10 * count
            yield BODY[begin : min(end, begin + 10)]


def _reader(monkeypatch: pytest.MonkeyPatch, store: _Store) -> ObstoreReader:
    def translate(operation: str, name: str, key: str, error: Exception) -> StoreError:
        return StoreUnreachableError(operation, name, key, detail=str(error))

    def info_of(operation: str, key: Any, meta: Any) -> ObjectInfo:
        del operation
        return ObjectInfo(key, meta["size"], meta["e_tag"], 0)

    monkeypatch.setattr(obstore, "get_async", store.get_async)
    return ObstoreReader("aws", None, translate, info_of, lambda: store.now)


@pytest.mark.parametrize(("start", "length"), [(0, None), (0, 75), (13, 61)])
async def test_a_long_read_goes_on_where_it_broke_off(
    monkeypatch: pytest.MonkeyPatch, start: int, length: int | None
) -> None:
    """Goal: an object of any size can be read. Method: an answer ends after three chunks, late."""
    store = _Store(3, LONG_SECONDS + 1)
    stream = await _reader(monkeypatch, store).get(key_of(1), start=start, length=length)
    end = len(BODY) if length is None else start + length
    assert b"".join([chunk async for chunk in stream.chunks]) == BODY[start:end]
    later = store.asked[1:]
    assert [options["range"] for options in later] == [
        (begin, end) for begin in range(start + 30, end, 30)
    ]
    assert {options["if_match"] for options in later} == {"e1"}, "only the same object goes on"


@pytest.mark.parametrize(("chunks", "seconds"), [(3, LONG_SECONDS - 1), (0, LONG_SECONDS + 1)])
async def test_what_breaks_off_soon_or_gives_nothing_is_the_stores_failure(
    monkeypatch: pytest.MonkeyPatch, chunks: int, seconds: float
) -> None:
    """Goal: no store is asked for ever. Method: broken off early; late, without a byte."""
    store = _Store(chunks, seconds)
    stream = await _reader(monkeypatch, store).get(key_of(1), start=0, length=None)
    with pytest.raises(StoreUnreachableError):
        assert [chunk async for chunk in stream.chunks] == []
    assert len(store.asked) == 1
