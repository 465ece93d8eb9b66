"""An object is copied out of the way, under another key of the same store, as it is.

Damage before its repair, what a redaction takes from sight, what nobody knows: all are kept so
before anything happens to them. Killed anywhere: the object is where it was, or in both places.
"""

from __future__ import annotations

from tidestore.connectors.errors import ObjectExistsError
from tidestore.connectors.store import ByteStream, ObjectStore
from tidestore.schemas.objects import ObjectKey


async def put_aside(store: ObjectStore, aside: ObjectKey, stream: ByteStream, size: int) -> bool:
    """Write an opened object under `aside`; False when something is there already.

    `size` in bytes is what was seen of it. The stream is closed. Raises StoreError.
    """
    try:
        await store.upload_if_absent(
            aside, stream.chunks, size=size, content_type="application/octet-stream"
        )
    except ObjectExistsError:
        return False
    finally:
        await stream.close()
    return True
