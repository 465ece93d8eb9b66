"""A large Azure object: blocks with an md5 each, then one Put Block List with `If-None-Match: *`.

Nothing is visible before the commit. The md5 of the whole goes with it; Azure keeps it as it is
said, so each block's own is compared when it arrives.

Azure has no upload to abort: blocks that were never committed are seen by no reader or listing,
and it drops them after a week, or when anything is committed under the key. That last is why a
loser's list can become invalid.

All writers of a key share one space of block names. A name therefore tells the block's content:

    base64url( number, 2 bytes | md5, 16 bytes )    24 characters

So writers of equal content share their blocks, and those of other content never meet.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any

from azure.core import MatchConditions
from azure.storage.blob import BlobBlock, ContentSettings

from tidestore.connectors.errors import (
    ObjectExistsError,
    ObjectMissingError,
    PreconditionError,
)
from tidestore.connectors.parts import AZURE_LIMITS, PartedUpload
from tidestore.connectors.store import ByteSource, ObjectInfo, UploadJournal
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.azure import AzureStore

# A MiB of md5 takes about 2 ms; less is not worth the way to a thread.
_THREAD_BYTES = 256 * 1024


def condition_of(if_match: str | None) -> dict[str, Any]:
    """The library's arguments for: only if the key is free, or holds the object with this ETag."""
    if if_match is None:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": f'"{if_match}"', "match_condition": MatchConditions.IfNotModified}


def block_name(number: int, md5: bytes) -> str:
    """What a block is called; all names of a blob must have one length (Azure)."""
    return urlsafe_b64encode(number.to_bytes(2, "big") + md5).decode()


class BlockUpload(PartedUpload):
    """One upload in blocks."""

    limits = AZURE_LIMITS

    def __init__(
        self,
        store: AzureStore,
        key: ObjectKey,
        *,
        content_type: str,
        size: int | None,
        journal: UploadJournal | None = None,
    ) -> None:
        super().__init__(store.name, key, size, journal)
        self._store = store
        self._key = key
        self._content_type = content_type
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._condition: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._listed: dict[str, int] = {}

    async def run(self, source: ByteSource, *, if_match: str | None = None) -> ObjectInfo:
        """Send the source and commit: under a free key, or over the object with this ETag.

        Raises StoreError or what the source raised.
        """
        self._condition = condition_of(if_match)
        try:
            return await self._run(source)
        except ObjectExistsError as error:
            if if_match is not None:
                raise PreconditionError("replace", self._store.name, self._key) from error
            raise

    async def _begin(self) -> str:
        """See PartedUpload. Nothing is opened: blocks come into being by being sent."""
        return "blocks"

    async def _find(self, token: str) -> bool:
        del token  # blocks are the key's, whoever has sent them
        try:
            async with self._store.translating("upload", self._key):
                _, sent = await self._store.blob(self._key).get_block_list("uncommitted")
        except ObjectMissingError:  # no block was sent, or all of them were committed
            return not await self._is_taken()
        self._listed = {block.id: block.size for block in sent}
        return bool(sent) or not await self._is_taken()

    async def _is_taken(self) -> bool:
        try:
            await self._store.head(self._key)
        except ObjectMissingError:
            return False
        return True

    async def _holds(self, number: int, body: bytes) -> bool:
        """See PartedUpload. The name tells the md5 with which Azure took the block."""
        if not self._listed:
            return False
        name = block_name(number, await asyncio.to_thread(_md5_of, body))
        if self._listed.get(name) != len(body):
            return False
        self._names[number] = name
        return True

    async def _add(self, chunk: bytes) -> None:
        if len(chunk) >= _THREAD_BYTES:
            await asyncio.to_thread(self._md5.update, chunk)
        else:
            self._md5.update(chunk)

    async def _send_part(self, number: int, body: bytes) -> None:
        digest = await asyncio.to_thread(_md5_of, body)
        name = self._names[number] = block_name(number, digest)
        blob = self._store.blob(self._key)
        async with self._store.translating("upload", self._key):
            reply: Any = await blob.stage_block(
                name, body, length=len(body), headers={"Content-MD5": b64encode(digest).decode()}
            )
        # The service compares it as well; a server that does not still says what it got.
        got = reply.get("content_md5")
        if got is not None and bytes(got) != digest:
            raise self._mismatch(f"the store got another block {number}")

    async def _put_whole(self, body: bytes) -> ObjectInfo:
        return await self._store.put_whole(
            "upload",
            self._key,
            body,
            md5=self._md5.hexdigest(),
            content_type=self._content_type,
            condition=self._condition,
        )

    async def _complete(self) -> ObjectInfo:
        store, md5 = self._store, self._md5.hexdigest()
        blocks = [BlobBlock(self._names[number]) for number in sorted(self._names)]
        settings = ContentSettings(
            content_type=self._content_type, content_md5=bytearray.fromhex(md5)
        )
        async with store.translating("upload", self._key):
            reply: Any = await store.blob(self._key).commit_block_list(
                blocks, content_settings=settings, **self._condition
            )
        return store.info(self._key, self._sent, reply.get("etag"), "upload", md5=md5)

    async def _abort(self) -> None:
        """There is nothing to abort; see above."""


def _md5_of(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()
