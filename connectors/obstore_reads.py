"""Reading through obstore, the same for every cloud that it speaks.

obstore's time limit is for a whole answer, its last byte included, and an answer may be hundreds of
gigabytes, read no faster than its reader goes on. So a read that breaks off after a while goes on
where it was, at the same ETag; one that breaks off soon is the store's failure, and the caller's.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import obstore

from tidestore.connectors.errors import StoreError, StoreUnreachableError
from tidestore.connectors.store import CHUNK_BYTES, ByteStream, ObjectInfo, no_chunks
from tidestore.schemas.objects import ObjectKey

# Half of obstore's limit for an answer (REQUEST_SECONDS_MAX of the adapters): a read that has lived
# so long has been given bytes, and goes on. Each time costs one request.
LONG_SECONDS: Final = 30.0


class ObstoreReader:
    """Opens objects of one store. `info_of` reads obstore's metadata as the adapter does."""

    def __init__(
        self,
        name: str,
        store: Any,
        translate: Callable[[str, str, str, Exception], StoreError],
        info_of: Callable[[str, ObjectKey, Any], ObjectInfo],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
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
        return ByteStream(info, self._chunks(key, result, first, last))

    async def _chunks(
        self, key: ObjectKey, result: Any, start: int, end: int
    ) -> AsyncIterator[bytes]:
        while True:
            begun, before = self._clock(), start
            try:
                async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                    start += len(chunk)
                    yield bytes(chunk)
                break
            except Exception as error:
                is_long = self._clock() - begun > LONG_SECONDS and start > before
                if not is_long or start >= end:
                    raise self._translate("get", self._name, key, error) from error
            result = await self._go_on(key, result.meta, start, end)
        if start != end:
            detail = f"{end - start} bytes are missing"
            raise StoreUnreachableError("get", self._name, key, detail=detail)

    async def _go_on(self, key: ObjectKey, meta: Any, start: int, end: int) -> Any:
        """The rest of an object that is still the same one."""
        options: Any = {"range": (start, end), "if_match": meta.get("e_tag")}
        try:
            return await obstore.get_async(self._store, key, options=options)
        except Exception as error:
            raise self._translate("get", self._name, key, error) from error
