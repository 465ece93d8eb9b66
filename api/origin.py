"""One write, end to end: the origin's conditional create, then the event on the log, then 201.

    bytes, proved --1 put_if_absent--> origin --2 append--> log --3--> created
                         |                                   ^
                         '-- taken: equal bytes? --yes, event missing--'   same
                                        |no
                                   damage: repair | another writer's: 409

Crash points. Before 1 is complete: nothing is visible, nobody heard anything. Between 1 and 2: the
object is at the origin and the log knows nothing; the writer got no answer and sends it again,
finds equal bytes, and the event is appended then (design point 1). After 2: the writer may send it
again and gets 200. The index is asked only after the create has said "taken": it never decides a
write.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tidestore.api.lookup import Index, ObjectRow
from tidestore.api.problems import Problem, unavailable
from tidestore.connectors.correlation import tell
from tidestore.connectors.damage import keep_aside
from tidestore.connectors.errors import ChecksumMismatchError, ObjectExistsError, StoreError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.store import ByteSource, ObjectInfo, ObjectStore
from tidestore.connectors.traces import annotate, span
from tidestore.connectors.verify import CheckedSource, put_verified, upload_verified
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.codec import encode
from tidestore.schemas.events import ObjectWritten
from tidestore.schemas.manifests import MANIFEST_CONTENT_TYPE
from tidestore.schemas.objects import Kind, ObjectKey, parse_key
from tidestore.schemas.positions import Position
from tidestore.schemas.topics import Topics, partition_of

LOGGER: Final = logging.getLogger("tidestore.origin")


@dataclass(frozen=True, slots=True)
class Author:
    """On whose behalf, and in which request, something is written."""

    name: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a write. `is_new` is False when the same was at the origin already."""

    is_new: bool
    position: Position
    sums: Checksums


class OriginWriter:
    """Writes objects of one gateway. Belongs to its event loop."""

    def __init__(
        self,
        store: ObjectStore,
        epoch: int,
        writer: LogWriter,
        index: Index,
        topics: Topics,
        *,
        replicas: Mapping[str, ObjectStore] | None = None,
    ) -> None:
        self._store = store
        self._replicas = replicas or {}
        self._epoch = epoch
        self._writer = writer
        self._index = index
        self._topics = topics

    @property
    def store(self) -> ObjectStore:
        """The origin's store."""
        return self._store

    async def write(
        self,
        key: ObjectKey,
        body: bytes,
        sums: Checksums,
        *,
        content_type: str,
        author: Author,
        inline_bytes_max: int,
    ) -> Outcome:
        """Write bytes that are in memory and hash to `sums`.

        Raises Problem 409 or 410, RecordTooLargeError before anything is put, StoreError, LogError.
        """
        self._index.refuse_redacted(key)
        event = self._event(key, sums, content_type, author)
        if sums.size <= inline_bytes_max:
            event = replace(event, data=body)
        value = encode(event)
        try:
            await put_verified(self._store, key, body, sums, content_type)
        except ObjectExistsError:
            return await self._settle(key, sums, value, body)
        return await self._created(key, sums, value)

    async def write_stream(
        self,
        key: ObjectKey,
        source: CheckedSource,
        *,
        size: int | None,
        content_type: str,
        author: Author,
    ) -> Outcome:
        """Write a stream that checks itself. Raises as `write` does, and what the source raises."""
        self._index.refuse_redacted(key)
        limit = self._store.capabilities.object_bytes_max
        if size is not None and size > limit:
            hint = f"the origin holds objects of up to {limit} bytes"
            raise Problem(413, "too_large", f"{size} bytes are too many", hint=hint)
        is_taken = False
        try:
            await upload_verified(self._store, key, source, size, content_type)
        except ObjectExistsError:
            is_taken = True
        if source.sums is None:
            # The store refused before it took all bytes. What was to be written is still unproved:
            # a wrong body must be told so even when the right one is there already.
            async for _ in source:
                pass
        sums = source.sums
        if sums is None:
            raise unavailable("the origin ended the upload early")
        value = encode(self._event(key, sums, content_type, author))
        if is_taken:
            return await self._settle(key, sums, value, None)
        return await self._created(key, sums, value)

    async def _created(self, key: ObjectKey, sums: Checksums, value: bytes) -> Outcome:
        """Append the event, whatever was decided meanwhile.

        When the key was redacted under our hands, its bytes are at the origin again: the event is
        what tells the workers so, even if we die now. The writer is told that it is gone.
        """
        position = await self._append(key, value)
        self._index.refuse_redacted(key)
        return Outcome(is_new=True, position=position, sums=sums)

    async def _settle(
        self, key: ObjectKey, sums: Checksums, value: bytes, body: bytes | None
    ) -> Outcome:
        """The key is taken at the origin: by the same, by another, or by damage."""
        info = await self._store.head(key)
        is_equal = await self._is_equal(key, info, sums)
        await self._index.catch_up([key])
        self._index.refuse_redacted(key)
        row = self._index.find(key)
        if not is_equal:
            # The log has just these bytes, the origin has others: that is damage, not a conflict.
            # So are other bytes under a hash that these bytes were proved to have.
            if (row is not None and row.sha256 != sums.sha256) or not (row or _is_blob(key)):
                raise _conflict(key, row)
            await self._repair(key, row, sums, info, body)
        if row is not None and row.sha256 == sums.sha256:
            return Outcome(is_new=False, position=self._index.position_of(row), sums=sums)
        if row is not None:
            raise _conflict(key, row)
        # Found equal and without an event: another writer is between its put and its append, or was
        # killed there. Whoever created the object is its one 201; with this event ours is durable
        # all the same.
        position = await self._append(key, value)
        return Outcome(is_new=not is_equal, position=position, sums=sums)

    async def _is_equal(self, key: ObjectKey, info: ObjectInfo, sums: Checksums) -> bool:
        """Whether the origin's object has these bytes; reads them back if nothing else tells."""
        if info.proves(sums):
            return True
        if info.differs_from(sums):
            return False
        stream = await self._store.get(key)
        try:
            async for _ in CheckedSource(stream.chunks, sha256=sums.sha256, size=sums.size):
                pass
        except ChecksumMismatchError:
            return False
        finally:
            await stream.close()
        return True

    async def _repair(
        self,
        key: ObjectKey,
        row: ObjectRow | None,
        sums: Checksums,
        seen: ObjectInfo,
        body: bytes | None,
    ) -> None:
        """Put the right bytes back (design point 11): conditional, the bad ones kept aside."""
        LOGGER.error("%s is damaged at the origin; putting the right bytes back", key)
        if body is not None:
            await self._put_back(key, _once(body), sums, seen)
            return
        # A streamed body is gone by now, so a replica that has the object gives it.
        present = self._index.present_on(row, self._index.copies(key)) if row else set()
        found = sorted(present & self._replicas.keys() - {self._store.name})
        for name, store in [(name, self._replicas[name]) for name in found]:
            try:
                stream = await store.get(key)
            except StoreError as error:
                LOGGER.warning("%s cannot give %s for the repair: %s", name, key, error)
                continue
            try:
                source = CheckedSource(stream.chunks, sha256=None, known=sums)
                await self._put_back(key, source, sums, seen)
            except ChecksumMismatchError as error:
                LOGGER.error("%s is damaged on %s too: %s", key, name, error)
                continue
            finally:
                await stream.close()
            return
        raise Problem(
            503,
            "origin_damaged",
            "the origin's copy of this object is damaged, and no replica has it yet",
            hint="send it again when a replica has it: see /copies",
            headers={"Retry-After": "60"},
        )

    async def _put_back(
        self, key: ObjectKey, source: ByteSource, sums: Checksums, seen: ObjectInfo
    ) -> None:
        await keep_aside(self._store, key, seen)
        content_type = "application/octet-stream" if _is_blob(key) else MANIFEST_CONTENT_TYPE
        await self._store.replace(key, source, sums, seen=seen, content_type=content_type)

    async def append_written(
        self,
        key: ObjectKey,
        sums: Checksums,
        *,
        content_type: str,
        author: Author,
        data: bytes | None,
    ) -> Position:
        """Append the event of an object that is at the origin, proved to be `sums`.

        For a write whose append was lost; see reconcile.py. Raises LogError.
        """
        event = replace(self._event(key, sums, content_type, author), data=data)
        return await self._append(key, encode(event))

    async def _append(self, key: ObjectKey, value: bytes) -> Position:
        partition = partition_of(key, self._topics.partitions)
        with span("append", key=key, replica=self._store.name):
            placed = await self._writer.append_bytes(
                self._topics.log, partition, key.encode(), value
            )
            position = Position(self._topics.generation, placed.partition, placed.offset)
            annotate(position=str(position))
        self._index.note_appended(key, position)
        tell("written", key=key, replica=self._store.name, position=str(position))
        return position

    def _event(
        self, key: ObjectKey, sums: Checksums, content_type: str, author: Author
    ) -> ObjectWritten:
        return ObjectWritten(
            key=key,
            size=sums.size,
            sha256=sums.sha256,
            sha1=sums.sha1,
            crc32c=sums.crc32c,
            md5=sums.md5,
            content_type=content_type,
            origin=self._store.name,
            origin_epoch=self._epoch,
            written_at_ms=int(time.time() * 1000),
            written_by=author.name,
            request_id=author.request_id,
        )


def _conflict(key: ObjectKey, row: ObjectRow | None) -> Problem:
    more: dict[str, str] = {"key": key}
    if row is not None:
        more["sha256"] = row.sha256
    return Problem(
        409,
        "conflict",
        "another object was written under this key; objects are immutable",
        hint="write your content under a new version",
        more=more,
    )


def _is_blob(key: ObjectKey) -> bool:
    return parse_key(key).kind is Kind.BLOB


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
