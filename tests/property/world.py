"""Objects for machines: made as a gateway makes them, children before their parents."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass, field

from tests.property.stage import Clock, MemoryLog, StagedStore, StageLoop
from tests.property.worker import COPIES, LOG, REDACTIONS

from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import CopyState, ObjectRedacted, ObjectWritten, RedactionDecided
from tidestore.schemas.manifests import (
    BundleEntry,
    FileManifest,
    Link,
    bundle_manifest_bytes,
    collection_manifest_bytes,
    file_manifest_bytes,
)
from tidestore.schemas.objects import (
    PUBLIC,
    Kind,
    ObjectKey,
    ObjectUuid,
    Version,
    blob_key,
    parse_key,
    versioned_key,
)
from tidestore.schemas.topics import partition_of

VERSION = Version("2026-11-23T120000.000000Z")


@dataclass(slots=True)
class Objects:
    """What was written: the origin's store, the log, and who refers to whom."""

    loop: StageLoop
    log: MemoryLog
    origin: StagedStore
    children: dict[str, list[str]] = field(default_factory=dict)
    redacted: set[str] = field(default_factory=set)
    bodies: dict[str, bytes] = field(default_factory=dict)
    # Written when the replica that is looked at was the origin itself.
    written_here: set[str] = field(default_factory=set)

    def keys(self, kind: Kind | None = None) -> list[str]:
        """The keys that were written, in order."""
        return [key for key in self.children if kind is None or parse_key(key).kind is kind]

    def add_blob(self, size: int, *, is_inline: bool) -> str:
        """A blob nobody has."""
        head = b"blob %d " % len(self.children)
        body = head + b"x" * max(0, size - len(head))
        sums = checksums_of(body)
        return self.write(blob_key(PUBLIC, sums.sha256), body, [], is_inline=is_inline)

    def add_blob_here(self, target: StagedStore) -> str:
        """A blob of the time when the target was the origin: it lies there, and has no record."""
        before, self.origin = self.origin, target
        key = self.add_blob(60, is_inline=True)
        self.origin = before
        target.taken.add(key)
        self.written_here.add(key)
        return key

    def add_file(self, blob: str, *, is_inline: bool) -> str:
        """A file of a blob."""
        identity = self._uuid()
        manifest = FileManifest(
            identity, VERSION, "a.txt", "text/plain", checksums_of(self.bodies[blob])
        )
        key = versioned_key(PUBLIC, Kind.FILE, identity, VERSION)
        return self.write(key, file_manifest_bytes(manifest), [blob], is_inline=is_inline)

    def add_bundle(self, files: list[str], *, is_inline: bool) -> str:
        """A bundle of files."""
        identity = self._uuid()
        entries = [
            BundleEntry(
                f"{number}.txt",
                parse_key(file).uuid,
                VERSION,
                "text/plain",
                1,
                checksums_of(b"").sha256,
            )
            for number, file in enumerate(files)
        ]
        key = versioned_key(PUBLIC, Kind.BUNDLE, identity, VERSION)
        body = bundle_manifest_bytes(identity, VERSION, entries)
        return self.write(key, body, files, is_inline=is_inline)

    def add_collection(self, members: list[str], *, is_inline: bool) -> str:
        """A collection of anything."""
        identity = self._uuid()
        links = []
        for member in members:
            parts = parse_key(member)
            links.append(Link(parts.kind, parts.sha256, parts.uuid, parts.version))
        key = versioned_key(PUBLIC, Kind.COLLECTION, identity, VERSION)
        body = collection_manifest_bytes(identity, VERSION, links)
        return self.write(key, body, members, is_inline=is_inline)

    def write(self, key: ObjectKey, body: bytes, children: list[str], *, is_inline: bool) -> str:
        """Put at the origin, then append: as the gateway does."""
        sums = checksums_of(body)
        self.loop.run(self.origin.memory.put_if_absent(key, body, sums, content_type="x/y"))
        event = ObjectWritten(
            key=key,
            size=sums.size,
            sha256=sums.sha256,
            sha1=sums.sha1,
            crc32c=sums.crc32c,
            md5=sums.md5,
            content_type="x/y",
            origin=self.origin.name,
            origin_epoch=1,
            written_at_ms=0,
            written_by="machine",
            request_id="",
            data=body if is_inline else None,
        )
        self.log.append(LOG, partition_of(key, self.log.partitions), key, event)
        self.children[key] = children
        self.bodies[key] = body
        return key

    def redact(self, key: str) -> None:
        """The decision first, then its event."""
        self.log.append(REDACTIONS, 0, key, RedactionDecided(key, 1, "test", "machine", 0, 0))
        event = ObjectRedacted(key, 1, "test", "machine", 0)
        self.log.append(LOG, partition_of(key, self.log.partitions), key, event)
        self.redacted.add(key)

    def append_again(self, key: str, log_offset: int) -> None:
        """A client's retry after a lost answer: the same event once more."""
        partition = partition_of(key, self.log.partitions)
        records = self.log.of(LOG, partition)
        records.append(records[log_offset])

    def settled(self, key: str, target: StagedStore) -> bool:
        """Whether a key was settled on a replica: there once, or said to be, at any time.

        One that is redacted just now, or for the second time, had its turn: a parent that was
        checked a moment before may still appear.
        """
        if key in target.taken:
            return True
        settled = {CopyState.PRESENT, CopyState.EXCLUDED, CopyState.REDACTED}
        return any(
            record.key == key and record.state in settled
            for record in self.log.accepted_ever(COPIES)
        )

    def _uuid(self) -> ObjectUuid:
        digest = hashlib.md5(b"%d" % len(self.children), usedforsecurity=False).digest()
        return ObjectUuid(str(uuid.UUID(bytes=digest, version=4)))


def new_stage(partitions: int) -> tuple[Clock, StageLoop, MemoryLog]:
    """Time, a loop and an empty log."""
    clock = Clock()
    return clock, StageLoop(clock), MemoryLog(partitions)
