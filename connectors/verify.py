"""Bytes that check themselves, and answers that are not believed (R4).

Every copy goes through here: a source hashes what passes through it and raises at its end when it
was not what it should have been; and what the store says it got is compared with that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from tidestore.connectors.errors import ChecksumMismatchError
from tidestore.connectors.store import ByteSource, ObjectInfo, ObjectStore, UploadJournal
from tidestore.schemas.checksums import Checksums, Hasher, Sha256Hasher
from tidestore.schemas.objects import ObjectKey

# Four hashes over a MiB take about 3 ms; smaller chunks are not worth the way to a thread.
_THREAD_BYTES = 256 * 1024


class CheckedSource:
    """A source that hashes what it gives and ends only if that was the announced content.

    With `sha256` or `size` as None there is nothing to compare for it. When all checksums are
    `known`, only sha256 is computed: it implies the others. `sums` is set at the end.
    """

    def __init__(
        self,
        chunks: AsyncIterable[bytes],
        *,
        sha256: str | None,
        size: int | None = None,
        known: Checksums | None = None,
        place: tuple[str, str, str] = ("read", "", ""),
    ) -> None:
        self._chunks = chunks
        self._sha256 = known.sha256 if known else sha256
        self._size = known.size if known else size
        self._known = known
        self._place = place
        self.sums: Checksums | None = None
        self.bytes_done = 0
        # One pass only: whoever goes on reading after another has stopped, goes on from there.
        self._pass = self._read()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pass

    async def _read(self) -> AsyncIterator[bytes]:
        hasher = Hasher() if self._known is None else Sha256Hasher()
        async for chunk in self._chunks:
            if self._size is not None and hasher.size + len(chunk) > self._size:
                raise ChecksumMismatchError(
                    *self._place, detail=f"more than the {self._size} bytes that were announced"
                )
            if len(chunk) >= _THREAD_BYTES:
                await asyncio.to_thread(hasher.update, chunk)
            else:
                hasher.update(chunk)
            self.bytes_done = hasher.size
            yield chunk
        sums = hasher.result()
        if self._size is not None and sums.size != self._size:
            raise ChecksumMismatchError(
                *self._place, detail=f"{sums.size} bytes came, {self._size} were announced"
            )
        if self._sha256 is not None and sums.sha256 != self._sha256:
            raise ChecksumMismatchError(*self._place, detail=f"sha256 is {sums.sha256}")
        self.sums = self._known or sums


async def put_verified(
    store: ObjectStore, key: ObjectKey, body: bytes, sums: Checksums, content_type: str
) -> ObjectInfo:
    """put_if_absent, and the answer compared with `sums`."""
    info = await store.put_if_absent(key, body, sums, content_type=content_type)
    await _check_answer(store, key, info, sums)
    return info


async def upload_verified(
    store: ObjectStore,
    key: ObjectKey,
    source: CheckedSource,
    size: int | None,
    content_type: str,
    journal: UploadJournal | None = None,
) -> ObjectInfo:
    """upload_if_absent of a checked source, and the answer compared with what was sent."""
    stream: ByteSource = source
    info = await store.upload_if_absent(
        key, stream, size=size, content_type=content_type, journal=journal
    )
    assert source.sums is not None, "an adapter completes only after its source"  # noqa: S101
    await _check_answer(store, key, info, source.sums)
    return info


async def _check_answer(
    store: ObjectStore, key: ObjectKey, info: ObjectInfo, sums: Checksums
) -> None:
    difference = info.differs_from(sums)
    if not difference:
        return
    # Only a server that does not check uploads can get here. The object is ours alone: our create
    # won, a moment ago. Left there, it would be taken for somebody's good copy.
    await store.delete(key)
    raise ChecksumMismatchError(
        "put", store.name, key, detail=f"the store answered with another {difference}"
    )
