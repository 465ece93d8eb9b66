"""A copy inside GCS: a rewrite of one generation, if the key is free.

    look at the source: its crc32c is the object's --> rewrite just this generation --> compare

A rewrite is whole or not at all; one between locations or classes goes on in several calls, and
nothing is visible before the last of them. Killed between them: Google drops what was begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from google.cloud import storage

from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    ObjectMissingError,
    StoreDeniedError,
    StoreFaultError,
    UnsupportedError,
)
from tidestore.connectors.gcs_access import TIMEOUT_SECONDS
from tidestore.connectors.gcs_answers import info_of_blob
from tidestore.connectors.inside import full_key_at
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.gcs import GcsStore

# A call moves a GiB at least, whatever has to be copied: twice what 5 TiB need.
_CALLS_MAX: Final = 10_240


@dataclass(frozen=True, slots=True)
class GcsInsideCopy:
    """One copy. Belongs to one event loop."""

    store: GcsStore
    source: StoreAddress
    key: ObjectKey
    sums: Checksums
    content_type: str

    async def run(self) -> ObjectInfo:
        """See CopiesInside."""
        store, key = self.store, self.key
        try:
            seen = await self._look()
        except (StoreDeniedError, StoreFaultError) as error:
            raise self._unsupported(str(error)) from error
        blob = store.bucket.blob(store.full_key(key))
        blob.content_type = self.content_type
        if not store.capabilities.upload_if_absent:
            await self._refuse_taken()
        await self._rewrite(blob, seen)
        info = info_of_blob("copy", store.name, key, blob)
        difference = info.differs_from(self.sums)
        if difference:  # ours alone a moment ago: see verify.py
            await store.delete(key)
            detail = f"the store answered with another {difference}"
            raise ChecksumMismatchError("copy", store.name, key, detail=detail)
        return info

    async def _look(self) -> storage.Blob:
        """The source's object, if the store's own word proves that it is ours."""
        bucket = self.store.other_bucket(self.source.bucket)
        name = full_key_at(self.source, self.key)
        call = partial(bucket.get_blob, name, timeout=TIMEOUT_SECONDS, retry=None)
        blob = await self.store.run("copy", self.key, call)
        if blob is None:
            raise ObjectMissingError("copy", self.store.name, self.key)
        if not info_of_blob("copy", self.store.name, self.key, blob).proves(self.sums):
            raise self._unsupported("the source's own checksum does not prove its object")
        return blob

    async def _rewrite(self, blob: storage.Blob, seen: storage.Blob) -> None:
        token: str | None = None
        for _ in range(_CALLS_MAX):
            call = partial(
                blob.rewrite,
                seen,
                token=token,
                if_generation_match=0,
                if_source_generation_match=seen.generation,
                timeout=TIMEOUT_SECONDS,
                retry=None,
            )
            try:
                token, _, _ = await self.store.run("copy", self.key, call)
            except (StoreDeniedError, StoreFaultError) as error:
                raise self._unsupported(str(error)) from error
            except ObjectExistsError:
                # Either condition may have failed: the key was taken, or the source is another.
                await self._refuse_taken()
                raise self._unsupported("the source changed meanwhile") from None
            if token is None:
                return
        raise self._unsupported("it does not come to an end")

    async def _refuse_taken(self) -> None:
        try:
            await self.store.head(self.key)
        except ObjectMissingError:
            return
        raise ObjectExistsError("copy", self.store.name, self.key)

    def _unsupported(self, detail: str) -> UnsupportedError:
        return UnsupportedError("copy", self.store.name, self.key, detail=detail)
