"""A large Azure object: blocks in flight, then one conditional commit of their list.

    source --> [buffer of one block] --> up to 4 Put Block in flight --> Put Block List
                        |                 (md5 each, checked there)       If-None-Match: *
                        `-- it was all: one Put Blob If-None-Match: *     (md5 of the whole with it)

Nothing is visible before the commit, and the commit is sent only after the source has ended without
raising, which is the source's word that the bytes are the right ones (store.py).

Azure has no upload to abort: blocks that were never committed are seen by no reader or listing,
and it drops them after a week, or when anything is committed under the key. That last is why a
loser's list can become invalid; and since all writers of a key share one space of block names, each
upload's names begin with a random word of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.storage.blob import BlobBlock, ContentSettings

from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    PreconditionError,
)
from tidestore.connectors.store import ByteSource, ObjectInfo
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.azure import AzureStore

MIB = 1024 * 1024
# learn.microsoft.com, "Scalability and performance targets for Blob Storage": a block blob has at
# most 50,000 blocks of at most 4,000 MiB. Ten are kept back, as for S3.
BLOCKS_MAX = 49_990
BLOCK_BYTES_MIN = 16 * MIB
# Our own bound, far below Azure's: memory of one upload is (in flight + 1) x block, so 80 MiB at
# the smallest and 1.25 GiB at this size of a block.
BLOCK_BYTES_MAX = 256 * MIB
OBJECT_BYTES_MAX = BLOCKS_MAX * BLOCK_BYTES_MAX
BLOCKS_IN_FLIGHT = 4
# A stream of unknown length begins with small blocks and changes to larger ones, as for S3:
# 1,000 x 16 MiB + 48,990 x 64 MiB = 3 TiB.
_RAMP_BLOCKS = 1_000
_RAMP_BYTES = 64 * MIB
# A MiB of md5 takes about 2 ms; less is not worth the way to a thread.
_THREAD_BYTES = 256 * 1024


def block_bytes(number: int, size: int | None) -> int:
    """How many bytes block `number` (from 1) has, for an object of `size` or unknown bytes."""
    if size is None:
        return BLOCK_BYTES_MIN if number <= _RAMP_BLOCKS else _RAMP_BYTES
    needed = -(-size // BLOCKS_MAX)
    return max(BLOCK_BYTES_MIN, -(-needed // MIB) * MIB)


def condition_of(if_match: str | None) -> dict[str, Any]:
    """The library's arguments for: only if the key is free, or holds the object with this ETag."""
    if if_match is None:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": f'"{if_match}"', "match_condition": MatchConditions.IfNotModified}


class BlockUpload:
    """One upload, from its first block to the commit."""

    def __init__(
        self, store: AzureStore, key: ObjectKey, *, content_type: str, size: int | None
    ) -> None:
        self._store = store
        self._key = key
        self._content_type = content_type
        self._size = size
        self._sent = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._condition: dict[str, Any] = {}
        self._word = secrets.token_hex(8)
        self._names: list[str] = []
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self, source: ByteSource, *, if_match: str | None = None) -> ObjectInfo:
        """Send the source and commit: under a free key, or over the object with this ETag.

        Raises StoreError or what the source raised.
        """
        self._condition = condition_of(if_match)
        try:
            rest = await self._send_blocks(source)
            self._check_size()
            return await self._commit() if self._names else await self._put_whole(rest)
        except ObjectExistsError as error:
            if if_match is not None:
                raise PreconditionError("replace", self._store.name, self._key) from error
            raise
        finally:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)

    def _check_size(self) -> None:
        if self._size is not None and self._sent != self._size:
            raise self._mismatch(f"{self._sent} bytes came, {self._size} were announced")

    async def _send_blocks(self, source: ByteSource) -> bytes:
        """Send all blocks and wait for them; what fits into one is returned, not sent."""
        buffer = bytearray()
        wanted = block_bytes(1, self._size)
        async for chunk in source:
            self._sent += len(chunk)
            if len(chunk) >= _THREAD_BYTES:
                await asyncio.to_thread(self._md5.update, chunk)
            else:
                self._md5.update(chunk)
            buffer += chunk
            while len(buffer) > wanted:
                # Cut out only when it can be sent, and copied once: blocks are what memory is.
                await self._await_place()
                with memoryview(buffer) as view:
                    body = bytes(view[:wanted])
                del buffer[:wanted]
                self._send(body)
                wanted = block_bytes(len(self._names) + 1, self._size)
        if self._names:
            await self._await_place()
            self._send(bytes(buffer))
            buffer.clear()
        while self._in_flight:
            await self._reap(asyncio.ALL_COMPLETED)
        return bytes(buffer)

    def _send(self, body: bytes) -> None:
        if len(self._names) >= BLOCKS_MAX:
            raise self._mismatch("the stream has too many blocks")
        # All names of a blob must have one length (Azure), those of other uploads included.
        name = f"{self._word}{len(self._names) + 1:08d}"
        self._names.append(name)
        self._in_flight.add(asyncio.create_task(self._send_block(name, body)))

    async def _await_place(self) -> None:
        while len(self._in_flight) >= BLOCKS_IN_FLIGHT:
            await self._reap(asyncio.FIRST_COMPLETED)

    async def _reap(self, when: str) -> None:
        done, self._in_flight = await asyncio.wait(self._in_flight, return_when=when)
        for task in done:
            task.result()

    async def _send_block(self, name: str, body: bytes) -> None:
        digest = await asyncio.to_thread(_md5_of, body)
        blob = self._store.blob(self._key)
        async with self._store.translating("upload", self._key):
            reply: Any = await blob.stage_block(
                name, body, length=len(body), headers={"Content-MD5": b64encode(digest).decode()}
            )
        # The service compares it as well; a server that does not still says what it got.
        got = reply.get("content_md5")
        if got is not None and bytes(got) != digest:
            raise self._mismatch(f"the store got another block {name}")

    async def _put_whole(self, body: bytes) -> ObjectInfo:
        return await self._store.put_whole(
            "upload",
            self._key,
            body,
            md5=self._md5.hexdigest(),
            content_type=self._content_type,
            condition=self._condition,
        )

    async def _commit(self) -> ObjectInfo:
        store, md5 = self._store, self._md5.hexdigest()
        blocks = [BlobBlock(name) for name in self._names]
        # Azure keeps this md5 as it is said. It is of the bytes that went into the blocks, and each
        # block's own was compared when it arrived.
        settings = ContentSettings(
            content_type=self._content_type, content_md5=bytearray.fromhex(md5)
        )
        async with store.translating("upload", self._key):
            reply: Any = await store.blob(self._key).commit_block_list(
                blocks, content_settings=settings, **self._condition
            )
        return store.info(self._key, self._sent, reply.get("etag"), "upload", md5=md5)

    def _mismatch(self, detail: str) -> ChecksumMismatchError:
        return ChecksumMismatchError("upload", self._store.name, self._key, detail=detail)


def _md5_of(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()
