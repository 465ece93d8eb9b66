"""What GCS answered about an object, believed only when it is whole.

An answer that was cut may still carry a 200, and Google's library then holds bytes or nothing where
it should hold a resource.
"""

from __future__ import annotations

from typing import Any

from google.cloud import storage

from tidestore.connectors.errors import StoreUnreachableError
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import hex_of_base64
from tidestore.schemas.objects import ObjectKey


def info_of_blob(operation: str, store: str, key: ObjectKey, blob: storage.Blob) -> ObjectInfo:
    """The library's blob as ObjectInfo; raises StoreUnreachableError."""
    try:
        found = (blob.generation, blob.size, blob.md5_hash, blob.crc32c)
        updated = blob.updated
    except (AttributeError, TypeError, ValueError):
        found, updated = (None, None, None, None), None
    moment = int(updated.timestamp() * 1000) if updated else 0
    return _info(operation, store, key, found, moment)


def info_of_resource(operation: str, store: str, key: ObjectKey, resource: Any) -> ObjectInfo:
    """The resource of an object that was just made; raises StoreUnreachableError."""
    names = ("generation", "size", "md5Hash", "crc32c")
    is_whole = isinstance(resource, dict)
    return _info(operation, store, key, [resource.get(n) if is_whole else None for n in names], 0)


def _info(
    operation: str, store: str, key: ObjectKey, found: Any, modified_at_ms: int
) -> ObjectInfo:
    generation, size, md5, crc32c = found
    if generation is None or size is None:
        detail = "answer without size or generation"
        raise StoreUnreachableError(operation, store, key, detail=detail)
    hashes = {"md5": md5, "crc32c": crc32c}
    return ObjectInfo(
        key=key,
        size=int(size),
        etag=str(generation),
        modified_at_ms=modified_at_ms,
        checksums={name: hex_of_base64(text) for name, text in hashes.items() if text},
    )
