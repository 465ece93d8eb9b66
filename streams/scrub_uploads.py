"""Abandoned uploads of a whole replica, found and aborted beside a comparison.

    list the open uploads --> fold the copies to their end --> old, and named by none --> abort

A worker sweeps the partitions that it holds (streams/uploads.py). Here nobody holds any, so the
order is what makes it safe: an upload is named by its copy's record before its first part is sent,
and goes on being named while it is needed. One that is a week old when it is listed, and that no
record names afterwards, will not be named any more.

Killed anywhere: some are aborted, the others are met again. What is aborted was never visible.
"""

from __future__ import annotations

from tidestore.connectors.store import OpenUpload
from tidestore.connectors.sweep import ABORTS_MAX, Swept, abort_abandoned, is_abandoned
from tidestore.streams.scrub import Scrubber
from tidestore.streams.scrub_view import ScrubRows


async def sweep_replica(scrubber: Scrubber, now_ms: int, *, is_dry: bool = False) -> Swept:
    """Abort what no copy of the replica needs; only count it when dry.

    Raises StoreError, LogError.
    """
    swept, old = Swept(), list[OpenUpload]()
    async for upload in scrubber.store.open_uploads():
        swept.seen += 1
        if len(old) < ABORTS_MAX and is_abandoned(upload, set(), now_ms):
            old.append(upload)
    if not old:
        return swept
    await scrubber.fold()
    named = ScrubRows(scrubber.view, scrubber.identity.replica).uploads()
    for upload in old:
        if (upload.key, upload.token) in named:
            continue
        if is_dry:
            swept.abandoned += 1
        else:
            await abort_abandoned(scrubber.store, upload, swept)
    return swept
