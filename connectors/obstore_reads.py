"""Reading through obstore, the same for every cloud that it speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import obstore

from tidestore.connectors.errors import StoreError, StoreUnreachableError
from tidestore.connectors.store import CHUNK_BYTES, ByteStream, ObjectInfo, no_chunks
from tidestore.schemas.objects import ObjectKey


class ObstoreReader:
    """Opens objects of one store. `info_of` reads obstore's metadata as the adapter does."""

    def __init__(
        self,
        name: str,
        store: Any,
        translate: Callable[[str, str, str, Exception], StoreError],
        info_of: Callable[[str, ObjectKey, Any], ObjectInfo],
    ) -> None:
        self._name = name
        self._store = store
        self._translate = translate
        self._info_of = info_of

    async def get(self, key: ObjectKey, *, start: int, length: int | None) -> ByteStream:
        """See ObjectStore."""
        options: Any = {}
        if length is not None:
            options["range"] = (start, start + length)
        elif start:
            options["range"] = {"offset": start}
        try:
            if length == 0:  # no server takes a range of nothing
                meta = await obstore.head_async(self._store, key)
                return ByteStream(self._info_of("get", key, meta), no_chunks())
            result = await obstore.get_async(self._store, key, options=options or None)
        except StoreError:
            raise
        except Exception as error:
            raise self._translate("get", self._name, key, error) from error
        first, last = result.range
        info = self._info_of("get", key, result.meta)
        return ByteStream(info, self._chunks(key, result, last - first))

    async def _chunks(self, key: ObjectKey, result: Any, length: int) -> AsyncIterator[bytes]:
        left = length
        try:
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                left -= len(chunk)
                yield bytes(chunk)
        except Exception as error:
            raise self._translate("get", self._name, key, error) from error
        if left:
            raise StoreUnreachableError("get", self._name, key, detail=f"{left} bytes are missing")
