"""The origin's listing against the log, after the log may have lost its tail (design point 10).

A lone broker whose power was cut may have lost records that it had acknowledged. The objects are at
the origin all the same: R1 puts them there first. So after an unclean stop, a topic that was made
anew, or a log that ends before where it ended, one gateway or more go through the origin's listing
and append an event for every object that the log does not know.

    list the origin --> 500 keys --> the index reads the log's end --> not in the log: dark
                                                                         |
      bytes read, hashed, compared with the key --equal--> event appended (design point 1)
                                                 '-other--> left as it is, and said

Crash points: anywhere. The marker is written after everything else, so the next start begins again;
what was appended already is in the log then, and a second event for the same object is harmless.
Nothing is ever moved or removed here.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tidestore.api.lookup import Index
from tidestore.api.origin import Author, OriginWriter
from tidestore.connectors.errors import ChecksumMismatchError, ObjectMissingError, StoreError
from tidestore.connectors.kafka import LogError
from tidestore.connectors.store import ObjectInfo
from tidestore.connectors.verify import CheckedSource
from tidestore.connectors.view import View
from tidestore.schemas.manifests import MANIFEST_CONTENT_TYPE, stored_children
from tidestore.schemas.objects import Kind, MalformedError, ObjectKey, find_key_parts

LOGGER: Final = logging.getLogger("tidestore.reconcile")

_KEYS_PER_BATCH: Final = 500
# How often is it looked whether the index had to be folded anew. The listing itself takes longer.
_LOOK_SECONDS: Final = 1.0
# A store or broker that fails half way: the listing begins again after this.
_RETRY_SECONDS: Final = 10.0
# No manifest of ours is larger: the API refuses a longer one (Limits.json_bytes_max).
_MANIFEST_BYTES_MAX: Final = 32 * 1024 * 1024
_CONTENT_TYPE: Final = "application/octet-stream"
_AUTHOR: Final = Author("tidestore", "reconcile")


class Reconciler:
    """Finishes writes whose event is not in the log any more. Belongs to the gateway's loop."""

    def __init__(
        self,
        origin: OriginWriter,
        index: Index,
        view: View,
        *,
        unclean_stops: int,
        data_folder: Path,
        inline_bytes_max: int,
        inline_manifest_bytes_max: int,
    ) -> None:
        self._origin = origin
        self._index = index
        self._view = view
        self._unclean_stops = unclean_stops
        self._marker = data_folder / "reconciled.json"
        self._inline_bytes_max = inline_bytes_max
        self._inline_manifest_bytes_max = inline_manifest_bytes_max

    async def run(self) -> None:
        """Look for a reason, compare, and look again, until cancelled."""
        refolds = 0
        while True:
            seen = self._view.refolds
            if seen != refolds or self._unclean_stops > self._noted():
                try:
                    appended = await self.compare()
                except (StoreError, LogError) as error:
                    LOGGER.warning("cannot compare the origin with the log yet: %s", error)
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                LOGGER.warning("origin and log compared: %d events appended", appended)
                refolds = seen
                self._note()
            await asyncio.sleep(_LOOK_SECONDS)

    async def compare(self) -> int:
        """Go through the origin once; how many events were appended."""
        appended = 0
        batch: list[ObjectInfo] = []
        async for info in self._origin.store.list():
            if find_key_parts(info.key) is None:
                continue  # other things may lie in a bucket, our own damaged copies among them
            batch.append(info)
            if len(batch) >= _KEYS_PER_BATCH:
                appended += await self._finish(batch)
                batch = []
        return appended + await self._finish(batch)

    async def finish(self, keys: Sequence[str]) -> int:
        """Look at some objects that a comparison found dark; how many events were appended."""
        batch: list[ObjectInfo] = []
        for key in keys:
            try:
                batch.append(await self._origin.store.head(ObjectKey(key)))
            except ObjectMissingError:
                continue
        return await self._finish(batch)

    async def _finish(self, batch: list[ObjectInfo]) -> int:
        if not batch:
            return 0
        keys = [info.key for info in batch]
        # After the listing, never before it: what is written while we look is then in both.
        await self._index.catch_up(keys)
        known = self._index.find_many(keys)
        redacted = set(self._index.redacted_among(keys))
        appended = 0
        for info in batch:
            if info.key not in known and info.key not in redacted:
                appended += await self._adopt(info)
        return appended

    async def _adopt(self, info: ObjectInfo) -> bool:
        """Append the event of one dark object, if its bytes are what its key says."""
        parts = find_key_parts(info.key)
        assert parts is not None, "chosen by the caller"  # noqa: S101
        if parts.kind is Kind.BLOB:
            limit, content_type = self._inline_bytes_max, _CONTENT_TYPE
        else:
            limit, content_type = self._inline_manifest_bytes_max, MANIFEST_CONTENT_TYPE
        keep = _MANIFEST_BYTES_MAX if parts.kind is not Kind.BLOB else limit
        stream = await self._origin.store.get(info.key)
        place = ("reconcile", self._origin.store.name, info.key)
        source = CheckedSource(
            stream.chunks, sha256=parts.sha256 or None, size=info.size, place=place
        )
        held = bytearray()
        try:
            async for chunk in source:
                if info.size <= keep:
                    held += chunk
            if parts.kind is not Kind.BLOB:
                stored_children(info.key, bytes(held))
        except (ChecksumMismatchError, MalformedError) as error:
            LOGGER.error(
                "%s is at the origin but not in the log, and is wrong: %s", *place[2:], error
            )
            return False
        finally:
            await stream.close()
        assert source.sums is not None, "the source ended without raising"  # noqa: S101
        data = bytes(held) if info.size <= limit else None
        await self._origin.append_written(
            info.key, source.sums, content_type=content_type, author=_AUTHOR, data=data
        )
        LOGGER.warning("%s was at the origin but not in the log: its event is appended", info.key)
        return True

    def _noted(self) -> int:
        try:
            return int(json.loads(self._marker.read_text("utf-8"))["unclean_stops"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0  # never compared here: comparing once too often only costs a listing

    def _note(self) -> None:
        draft = self._marker.with_suffix(".new")
        draft.write_text(json.dumps({"unclean_stops": self._unclean_stops}), "utf-8")
        draft.replace(self._marker)
