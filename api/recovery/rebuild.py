"""The events of everything that lies on one replica, appended to a new log: children first.

    list the replica --> file manifests read, checked --> what each blob must be
                                                              |
    blobs: proved by the store's own checksum, or read and hashed --> appended
    files --> bundles --> collections: read, checked, their children looked up --> appended

Nothing is appended that is not what its key says, and nothing on the replica is changed. Where a
manifest's child is missing or wrong, the manifest is appended all the same and reported: it can be
read, and on other replicas it waits for the child, which says so.

Crash points: anywhere. An event that was appended is in the log, and the next run passes over its
key; everything else is done again. Repeated events are harmless to every reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tidestore.api.recovery.findings import Findings
from tidestore.api.recovery.inventory import Inventory, Listed
from tidestore.api.settings import Limits
from tidestore.connectors.errors import ChecksumMismatchError, ObjectMissingError, StoreError
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.connectors.verify import CheckedSource
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.events import ObjectRedacted, ObjectWritten, RedactionDecided
from tidestore.schemas.manifests import (
    MANIFEST_CONTENT_TYPE,
    read_file_manifest,
    stored_children,
)
from tidestore.schemas.objects import (
    Kind,
    MalformedError,
    ObjectKey,
    Sha256,
    blob_key,
    find_key_parts,
    parse_key,
)
from tidestore.schemas.own_keys import OWN_PREFIX

# How the events of a recovery are told from all others: they have no request of their own.
REQUEST_ID: Final = "recover"
_AUTHOR: Final = "tidestore"
_BLOB_CONTENT_TYPE: Final = "application/octet-stream"
_LIST_BATCH: Final = 500
# Requests under way at once. A manifest of the largest kind has 32 MiB, so few of those at a time.
_WIDTH: Final = 32
_WIDTH_MANIFESTS: Final = 6
# A store that fails this often without one success in between is down, not damaged in one place.
_FAILURES_MAX: Final = 20

AppendEvent = Callable[[ObjectKey, bytes], Awaitable[None]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Task:
    """What a rebuild is told."""

    epoch: int
    limits: Limits
    redactions: dict[str, RedactionDecided]
    # Read every blob whole, also where the store's own checksum would do.
    reads_all: bool = False


class Rebuild:
    """One pass over one replica. Belongs to the event loop."""

    def __init__(
        self,
        store: ObjectStore,
        inventory: Inventory,
        findings: Findings,
        task: Task,
        append: AppendEvent,
        progress: Progress,
    ) -> None:
        self._store = store
        self._inventory = inventory
        self._findings = findings
        self._task = task
        self._append_event = append
        self._progress = progress
        self._failures = 0

    async def list(self) -> None:
        """Take the listing into the inventory. Raises StoreError."""
        batch: list[ObjectInfo] = []
        count = 0
        async for info in self._store.list():
            if find_key_parts(info.key) is None:
                # Ours under .tidestore/, or somebody else's.
                self._findings.others += not info.key.startswith(OWN_PREFIX)
                continue
            batch.append(info)
            self._findings.bytes_found += info.size
            if len(batch) >= _LIST_BATCH:
                self._inventory.add_listed(batch)
                count += len(batch)
                batch = []
                self._progress("listing", count, 0)
        self._inventory.add_listed(batch)
        self._progress("listing", count + len(batch), count + len(batch))

    async def append(self) -> None:
        """Prove and append everything that was listed. Raises StoreError, LogError."""
        for target, decided in self._task.redactions.items():
            if find_key_parts(target) is not None:
                # Also when nothing lies here any more: another replica may have been away when it
                # was decided, and its worker learns of it from the log alone (R7).
                await self._append_redacted(ObjectKey(target), decided)
        await self._each("reading files", Kind.FILE, _WIDTH, self._read_file)
        await self._each("blobs", Kind.BLOB, _WIDTH, self._blob)
        await self._each("files", Kind.FILE, _WIDTH, self._file)
        await self._each("bundles", Kind.BUNDLE, _WIDTH_MANIFESTS, self._manifest)
        await self._each("collections", Kind.COLLECTION, _WIDTH_MANIFESTS, self._manifest)

    async def _each(
        self, word: str, kind: Kind, width: int, work: Callable[[Listed], Awaitable[None]]
    ) -> None:
        """Work on all objects of a kind, `width` at once; the first error ends it."""
        total, done = self._inventory.counts().get(kind.value, (0, 0))[0], 0
        left: Iterator[Listed] = self._inventory.each(kind)

        async def take() -> None:
            nonlocal done
            for item in left:
                if item.refused is None:
                    await self._guarded(item.key, work, item)
                done += 1
                self._progress(word, done, total)

        tasks = [asyncio.create_task(take()) for _ in range(width)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _guarded(
        self, key: ObjectKey, work: Callable[[Listed], Awaitable[None]], item: Listed
    ) -> None:
        """Do one, and note what is wrong with it; a store that is down ends the run."""
        try:
            await work(item)
        except (ChecksumMismatchError, MalformedError) as error:
            self._refuse("damaged", key, getattr(error, "detail", "") or str(error))
        except ObjectMissingError:
            self._refuse("unreadable", key, "is in the listing, but cannot be had")
        except StoreError as error:
            self._failures += 1
            if self._failures >= _FAILURES_MAX:
                raise
            self._refuse("unreadable", key, str(error))
        else:
            self._failures = 0

    def _refuse(self, word: str, key: ObjectKey, reason: str) -> None:
        self._inventory.refuse(key, f"is {word}: {reason}")
        self._findings.note(word, key, reason)

    # Each kind of object.

    async def _read_file(self, item: Listed) -> None:
        """A file's manifest: what it says of its blob, and its event, kept until the blob's."""
        if self._redaction(item.key) is not None:
            return
        data, sums = await self._read(item)
        stored_children(item.key, data)
        manifest = read_file_manifest(data)
        self._inventory.add_sums(self._blob_of(item.key, manifest.checksums), manifest.checksums)
        self._inventory.keep_event(item.key, self._manifest_event(item, data, sums))

    async def _blob(self, item: Listed) -> None:
        sha256 = Sha256(item.key.rsplit("/", 1)[-1])
        if await self._is_done(item, sha256):
            return
        told = self._inventory.sums(item.key)
        if item.info.size > self._task.limits.inline_bytes_max and not self._task.reads_all:
            sums = told and await self._proved(item, told)
            if sums:
                await self._append_written(item, self._event(item, sums, _BLOB_CONTENT_TYPE, None))
                return
        data, sums = await self._read_blob(item, sha256)
        if told != sums:
            self._inventory.set_sums(item.key, sums)
        await self._append_written(item, self._event(item, sums, _BLOB_CONTENT_TYPE, data))

    async def _proved(self, item: Listed, told: Checksums) -> Checksums | None:
        """The manifests' checksums, if the store's own word shows that these are the bytes."""
        if item.info.size != told.size:
            return None  # blob or manifest: reading the blob will tell
        info = item.info if item.info.checksums else await self._store.head(item.key)
        return told if info.proves(told) else None

    async def _file(self, item: Listed) -> None:
        value = self._inventory.event(item.key)
        if value is None:  # redacted
            await self._is_done(item, "")
            return
        event = decode(value)
        assert isinstance(event, ObjectWritten), "made by _read_file"  # noqa: S101
        data = event.data if event.data is not None else (await self._read(item))[0]
        manifest = read_file_manifest(data)
        truth = self._inventory.sums(self._blob_of(item.key, manifest.checksums))
        if truth is not None and truth != manifest.checksums:
            raise MalformedError("manifest", "says other checksums than its blob has")
        self._look_for_children(item.key, data)
        if not await self._is_done(item, event.sha256):
            await self._append_written(item, value)

    async def _manifest(self, item: Listed) -> None:
        if self._redaction(item.key) is not None:
            await self._is_done(item, "")
            return
        data, sums = await self._read(item)
        self._look_for_children(item.key, data)
        if not await self._is_done(item, sums.sha256):
            await self._append_written(item, self._manifest_event(item, data, sums))

    def _look_for_children(self, key: ObjectKey, data: bytes) -> None:
        children = [child for child in stored_children(key, data) if not self._redaction(child)]
        lacking = self._inventory.lacking(children)
        if lacking:
            child, reason = lacking[0]
            more = f", and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            self._findings.note("incomplete", key, f"{child} {reason}{more}")

    # Reading and saying.

    async def _read(self, item: Listed) -> tuple[bytes, Checksums]:
        """A manifest, whole. Nothing but its form proves it: its key holds no hash."""
        if item.info.size > self._task.limits.json_bytes_max:
            raise MalformedError("manifest", "is larger than any that was ever taken")
        return await self._read_whole(item, None)

    async def _read_blob(self, item: Listed, sha256: Sha256) -> tuple[bytes | None, Checksums]:
        """Read and hash a blob; its bytes too, if they are to ride inside the event."""
        if item.info.size <= self._task.limits.inline_bytes_max:
            return await self._read_whole(item, sha256)
        stream = await self._store.get(item.key)
        source = CheckedSource(stream.chunks, sha256=sha256, place=self._place(item.key))
        try:
            async for _ in source:
                pass
        finally:
            self._findings.bytes_read += source.bytes_done
            await stream.close()
        assert source.sums is not None, "the source ended without raising"  # noqa: S101
        return None, source.sums

    async def _read_whole(self, item: Listed, sha256: Sha256 | None) -> tuple[bytes, Checksums]:
        stream = await self._store.get(item.key)
        source = CheckedSource(
            stream.chunks, sha256=sha256, size=item.info.size, place=self._place(item.key)
        )
        try:
            data = b"".join([chunk async for chunk in source])
        finally:
            self._findings.bytes_read += source.bytes_done
            await stream.close()
        assert source.sums is not None, "the source ended without raising"  # noqa: S101
        return data, source.sums

    def _place(self, key: ObjectKey) -> tuple[str, str, str]:
        return ("recover", self._store.name, key)

    async def _is_done(self, item: Listed, sha256: str | None) -> bool:
        """Whether nothing has to be said of this key: the log has it, or it is redacted.

        `sha256` is compared with the log's, where it is known.
        """
        decided = self._redaction(item.key)
        logged = self._inventory.logged(item.key)
        kind = parse_key(item.key).kind.value
        if decided is not None:
            # Its bytes are still here: whoever folds this takes them away.
            await self._append_redacted(item.key, decided)
            self._findings.restored["redacted objects that were still here"] += 1
            return True
        if logged is None:
            return False
        if sha256 is not None and logged != sha256:
            raise MalformedError("object", "is not the one that an earlier run has appended")
        self._findings.already[kind] += 1
        return True

    async def _append_redacted(self, key: ObjectKey, decided: RedactionDecided) -> None:
        """Say that a key is redacted, once."""
        if self._inventory.logged(key) is not None:
            return
        gone = ObjectRedacted(
            key, decided.number, decided.reason, decided.decided_by,
            decided.decided_at_ms, decided.released_to,
        )  # fmt: skip
        await self._append_event(key, encode(gone))
        self._inventory.add_logged([(key, "")])

    def _redaction(self, key: str) -> RedactionDecided | None:
        """The decision that covers a key: its own, or that of all versions."""
        found = self._task.redactions.get(key)
        if found is None and "/blobs/" not in key:
            found = self._task.redactions.get(key.partition(".")[0])
        return found

    def _blob_of(self, key: ObjectKey, sums: Checksums) -> ObjectKey:
        return blob_key(parse_key(key).dataset, sums.sha256)

    def _manifest_event(self, item: Listed, data: bytes, sums: Checksums) -> bytes:
        is_inline = len(data) <= self._task.limits.inline_manifest_bytes_max
        return self._event(item, sums, MANIFEST_CONTENT_TYPE, data if is_inline else None)

    def _event(self, item: Listed, sums: Checksums, content_type: str, data: bytes | None) -> bytes:
        return encode(
            ObjectWritten(
                key=item.key,
                size=sums.size,
                sha256=sums.sha256,
                sha1=sums.sha1,
                crc32c=sums.crc32c,
                md5=sums.md5,
                content_type=content_type,
                # The event is the proof of the copy on its origin (R1): this replica has it.
                origin=self._store.name,
                origin_epoch=self._task.epoch,
                written_at_ms=item.info.modified_at_ms,
                written_by=_AUTHOR,
                request_id=REQUEST_ID,
                data=data,
            )
        )

    async def _append_written(self, item: Listed, event: bytes) -> None:
        await self._append_event(item.key, event)
        self._findings.appended[parse_key(item.key).kind.value] += 1
