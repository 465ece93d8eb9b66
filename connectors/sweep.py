"""Abandoned uploads: found in the store's listing, aborted when nobody can need them any more.

    open, known to the store --+-- a pending copy names it ------------------> left alone
                               +-- younger than the longest life of a write --> left alone
                               +-- of a key that is not ours ----------------> left alone
                               '-- all else ---------------------------------> aborted

No object is touched: what is aborted was never visible (R7). Azure drops its blocks after a week by
itself and lists none; S3 keeps and bills uploads for ever unless told otherwise, and what GCS holds
are objects of ours (docs/decisions/0019).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tidestore.connectors.errors import StoreError
from tidestore.connectors.store import ObjectStore, OpenUpload
from tidestore.schemas.objects import find_key_parts
from tidestore.schemas.own_keys import OWN_PREFIX

LOGGER: Final = logging.getLogger("tidestore.sweep")

# A client's PUT has no record, and may take as long as its bytes keep coming. A week is what Azure
# gives an upload; 5 TiB in a week are 9 MB/s.
UPLOAD_LIFE_MS: Final = 7 * 24 * 3_600_000
# So many are aborted in one go: a bound on what one mistake could do, far above what crashes leave.
ABORTS_MAX: Final = 1_000


@dataclass(slots=True)
class Swept:
    """What a sweep met: uploads seen, how many of them abandoned, aborted, failed."""

    seen: int = 0
    abandoned: int = 0
    aborted: int = 0
    failed: int = 0


def is_abandoned(
    upload: OpenUpload, named: set[tuple[str, str]], now_ms: int, life_ms: int = UPLOAD_LIFE_MS
) -> bool:
    """Whether an upload is ours, old, and named by no copy. `named` are keys with their tokens."""
    # What a repair keeps aside is ours, too, though no object's key.
    if find_key_parts(upload.key) is None and not upload.key.startswith(OWN_PREFIX):
        return False
    return now_ms - upload.begun_at_ms > life_ms and (upload.key, upload.token) not in named


async def sweep_uploads(
    store: ObjectStore,
    *,
    is_mine: Callable[[str], bool],
    named: set[tuple[str, str]],
    now_ms: int,
    aborts_max: int = ABORTS_MAX,
) -> Swept:
    """Abort what is abandoned among the keys that are the caller's. Raises StoreError.

    `named` must hold every upload that a copy of those keys names by now: the caller holds their
    partitions, and has folded them up to its own claims.
    """
    swept = Swept()
    async for upload in store.open_uploads():
        swept.seen += 1
        if not is_mine(upload.key) or not is_abandoned(upload, named, now_ms):
            continue
        if swept.abandoned >= aborts_max:
            break
        await abort_abandoned(store, upload, swept)
    return swept


async def abort_abandoned(store: ObjectStore, upload: OpenUpload, swept: Swept) -> None:
    """Abort one upload and count it; one that cannot be aborted now is met again."""
    swept.abandoned += 1
    try:
        await store.abort_upload(upload.key, upload.token)
    except StoreError as error:
        swept.failed += 1
        LOGGER.warning("%s: an abandoned upload stays: %s", store.name, error)
    else:
        swept.aborted += 1
        LOGGER.info("%s: aborted an abandoned upload of %s", store.name, upload.key)
