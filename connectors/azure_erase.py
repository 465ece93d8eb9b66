"""An Azure blob removed for good: the blob, its snapshots, its older versions, its loose blocks.

With versioning a delete only makes the present version an older one, so versions are listed after
it. Blocks of an upload that never ended have no blob; an empty one in their place makes Azure drop
them, and then goes, too. Soft delete of the account keeps what it keeps: docs/redaction.md.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tidestore.connectors.errors import ObjectMissingError
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.azure import AzureStore


async def erase(store: AzureStore, key: ObjectKey) -> int:
    """See ObjectStore.erase."""
    blob, found = store.blob(key), 0
    async with store.translating("erase", key):
        kinds = {
            bool(item.etag)
            async for item in store.traces(key, "uncommittedblobs")
            if item.name == blob.blob_name
        }
    if kinds == {False}:
        async with store.translating("erase", key):
            await blob.upload_blob(b"", overwrite=True)
    if kinds:
        found += 1
        with contextlib.suppress(ObjectMissingError):
            async with store.translating("erase", key):
                await blob.delete_blob(delete_snapshots="include")
    async with store.translating("erase", key):
        versions = [
            item.version_id
            async for item in store.traces(key, "versions")
            if item.name == blob.blob_name and item.version_id
        ]
    for version in versions:
        found += 1
        with contextlib.suppress(ObjectMissingError):
            async with store.translating("erase", key):
                await blob.delete_blob(version_id=version)
    return found
