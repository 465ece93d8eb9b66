"""Values for unit tests, made as the product makes them."""

from __future__ import annotations

from typing import Any

from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import CopyChanged, CopyState, ObjectWritten
from tidestore.schemas.objects import PUBLIC, blob_key

KEY = blob_key(PUBLIC, checksums_of(b"test").sha256)


def written(body: bytes = b"test", **changes: Any) -> ObjectWritten:
    """An event of a blob."""
    sums = checksums_of(body)
    values: dict[str, Any] = {
        "key": blob_key(PUBLIC, sums.sha256),
        "size": sums.size,
        "sha256": sums.sha256,
        "sha1": sums.sha1,
        "crc32c": sums.crc32c,
        "md5": sums.md5,
        "content_type": "text/plain",
        "origin": "aws",
        "origin_epoch": 1,
        "written_at_ms": 1_000,
        "written_by": "tester",
        "request_id": "r1",
        "data": body,
    }
    return ObjectWritten(**{**values, **changes})


def copy(key: str = KEY, state: CopyState = CopyState.PRESENT, **changes: Any) -> CopyChanged:
    """A record of a copy on `onprem`."""
    values: dict[str, Any] = {
        "key": key,
        "replica": "onprem",
        "incarnation": 1,
        "state": state,
        "claim": 0,
        "log_offset": 0,
        "size": 4,
        "sha256": checksums_of(b"test").sha256,
        "content_type": "text/plain",
        "origin": "aws",
        "written_at_ms": 1_000,
        "changed_at_ms": 2_000,
    }
    return CopyChanged(**{**values, **changes})
