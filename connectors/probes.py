"""How to find out whether a store is well again: by what failed, not by any question.

    network, or a read that was refused   GET of a key that is never written
    a write that was refused              create an empty object of ours; "exists" is a yes, too
    full                                  write a little, and take it away again

A store that answers reads may still refuse writes (a permission was withdrawn, a disk is full):
believing those would begin everything again, once a second, for nothing. All keys lie under
`.tidestore/`, outside of every dataset. Killed between writing and removing: one object of 64 KiB
stays until the next probe of this kind takes it away.
"""

from __future__ import annotations

import contextlib
from typing import Final

from tidestore.connectors.errors import (
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
)
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.own_keys import PROBE_KEY, ROOM_KEY, WRITE_KEY

WRITES: Final = frozenset({"put", "upload", "replace"})
# About what a small object takes; a store that has room for this and no more is soon full again.
ROOM_BYTES: Final = 64 * 1024
_BYTES: Final = "application/octet-stream"


async def probe(store: ObjectStore, why: StoreError) -> None:
    """Ask the store for what it refused; returns when it does it, raises StoreError when not."""
    if why.error_class == "full":
        await _find_room(store)
    elif why.operation in WRITES and why.error_class in {"auth", "bucket"}:
        with contextlib.suppress(ObjectExistsError):
            await store.put_if_absent(WRITE_KEY, b"", checksums_of(b""), content_type=_BYTES)
    else:
        with contextlib.suppress(ObjectMissingError):
            # Not HEAD: without a body a missing bucket looks like a missing key, and a server that
            # is still starting like one that has too much to do.
            stream = await store.get(PROBE_KEY)
            await stream.close()


async def _find_room(store: ObjectStore) -> None:
    body = bytes(ROOM_BYTES)
    with contextlib.suppress(StoreError):
        await store.delete(ROOM_KEY)  # what a probe that was killed has left
    with contextlib.suppress(ObjectExistsError):  # it may not be removed: then writes will tell
        await store.put_if_absent(ROOM_KEY, body, checksums_of(body), content_type=_BYTES)
    with contextlib.suppress(StoreError):
        await store.delete(ROOM_KEY)
