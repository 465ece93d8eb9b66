"""Bad bytes under a good key are kept before the right ones are put back (design point 11).

    bad, as it was seen --1 keep_aside--> .tidestore/damaged/<key>@<etag>   outside of every dataset
    right bytes, proved --2 store.replace, if still as seen--> key

Killed in 1: the bad bytes are where they were. Killed between the two: they are in both places, and
the next try finds them kept. Another damage meanwhile has another etag: 2 refuses, and the next try
keeps that one too.
"""

from __future__ import annotations

from tidestore.connectors.aside import put_aside
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import damaged_key


async def keep_aside(store: ObjectStore, key: ObjectKey, seen: ObjectInfo) -> None:
    """Copy what was seen under a key out of the way; done when it is kept already.

    Raises StoreError, and nothing may be replaced then.
    """
    aside = damaged_key(key, seen.etag)
    await put_aside(store, aside, await store.get(key), seen.size)
