"""What GCS answered about an object, believed only when it is whole.

An answer that was cut may still carry a 200, and Google's library then holds bytes or nothing where
it should hold a resource.
"""

from __future__ import annotations

from google.cloud import storage

from tidestore.connectors.errors import StoreUnreachableError
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import hex_of_base64
from tidestore.schemas.objects import ObjectKey


def info_of_blob(operation: str, store: str, key: ObjectKey, blob: storage.Blob) -> ObjectInfo:
    """The library's blob as ObjectInfo; raises StoreUnreachableError."""
    try:
        generation, size, updated = blob.generation, blob.size, blob.updated
        hashes = {"md5": blob.md5_hash, "crc32c": blob.crc32c}
    except (AttributeError, TypeError, ValueError):
        generation = size = updated = None
        hashes = {}
    if generation is None or size is None:
        detail = "answer without size or generation"
        raise StoreUnreachableError(operation, store, key, detail=detail)
    return ObjectInfo(
        key=key,
        size=int(size),
        etag=str(generation),
        modified_at_ms=int(updated.timestamp() * 1000) if updated else 0,
        checksums={name: hex_of_base64(text) for name, text in hashes.items() if text},
    )
