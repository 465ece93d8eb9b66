"""The port to object stores: what every adapter promises, and what it may leave out.

An adapter is one file (s3.py, gcs.py, folder.py, ...): calls of the cloud's library, a mapping of
its errors into errors.py, and a record of its capabilities. Nothing else: verifying, retrying,
limiting and measuring are wrappers in layers.py that are stores themselves. memory.py is the
executable form of this contract, and conformance/ the suite that all of them pass.

Rules of the port, beyond each method's own promise:

- Whole or not at all. After any failure, cancellation included, no reader can see a partial or
  wrong object under the final key.
- An answer is not believed because it is a 200: length and checksum must have been in it. What
  could not be established is StoreUnreachableError, and the caller asks again.
- Keys are ours (schemas/objects.py), relative to the replica's bucket and prefix.
- Every call ends within the store's configured time limits; none waits for ever.
- Methods may run concurrently on one event loop. A store belongs to that loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import ObjectKey

# A source of bytes checks itself: it raises (ChecksumMismatchError or any other error) after its
# last chunk and before it ends, when the bytes are not the announced ones. An adapter therefore
# must not make an upload visible before the source has ended without raising.
ByteSource = AsyncIterable[bytes]

# Chunks that streams are cut into: large enough that a Python loop costs little per byte, small
# enough that tens of streams fit into memory.
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one store, with one server behind it, can do. Data, not code: tests choose by it."""

    # A small object can be created only if its key is free, atomically.
    put_if_absent: bool = True
    # The same for objects that are uploaded in parts.
    upload_if_absent: bool = True
    # An object can be overwritten only if it is still the one that was looked at.
    replace_if_same: bool = True
    # The server checks a checksum sent with the bytes and refuses others.
    checks_uploads: bool = True
    # Which checksum head() and put return for an object written in one piece: md5, crc32c or "".
    native_checksum: str = "md5"
    # A signed URL lets anybody with it read one object for a time.
    presign: bool = True
    # The signed URL can set content type and disposition of the answer.
    presign_overrides: bool = True
    # A bucket policy lets strangers read the public dataset with the cloud's own client.
    public_read: bool = True
    # The server refuses wrong credentials.
    checks_credentials: bool = True
    # The object's content type is kept and returned.
    content_type: bool = True
    # Older versions of an object and open uploads of its key can be listed, so that erase() leaves
    # none of them.
    lists_traces: bool = True
    # An upload that was broken off can be gone on with by another process: see UploadJournal.
    resumable_uploads: bool = True
    # A listing that begins at a key costs nothing for those before it, and may be one of several.
    lists_ranges: bool = True
    # What was written is still there after the server restarts.
    keeps_data: bool = True
    # Larger objects are refused before a byte is sent. The number's source is in the adapter.
    object_bytes_max: int = 5 * 1024**4

    def gaps(self, full: Capabilities) -> list[str]:
        """The names of what `full` has and this lacks, for the line that the stack prints."""
        names = (name for name in Capabilities.__slots__ if isinstance(getattr(full, name), bool))
        return sorted(name for name in names if getattr(full, name) and not getattr(self, name))


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about an object. `checksums` holds hex by algorithm, as far as known."""

    key: ObjectKey
    size: int
    # Opaque: names exactly these bytes on this store, for conditional replacing.
    etag: str
    modified_at_ms: int
    checksums: dict[str, str] = field(default_factory=dict)

    def differs_from(self, sums: Checksums) -> str:
        """What contradicts `sums`: "size", an algorithm, or "" when nothing does."""
        if self.size != sums.size:
            return "size"
        for algorithm, digest in self.checksums.items():
            if getattr(sums, algorithm) != digest:
                return algorithm
        return ""

    def proves(self, sums: Checksums) -> bool:
        """Whether the store's own word shows that these are the bytes of `sums`."""
        return bool(self.checksums) and not self.differs_from(sums)


@dataclass(slots=True)
class ByteStream:
    """An open read: the object's info and its chunks. Must be iterated to the end or closed."""

    info: ObjectInfo
    chunks: AsyncIterator[bytes]

    async def close(self) -> None:
        """Let go of the connection; harmless after the end."""
        close = getattr(self.chunks, "aclose", None)
        if close is not None:
            await close()


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload that was begun, and neither completed nor aborted."""

    key: ObjectKey
    token: str
    begun_at_ms: int


class UploadJournal(Protocol):
    """Where one upload is remembered, so that another process can go on with it."""

    @property
    def token(self) -> str:
        """What `begun` was given last, in whichever process; "" when there is nothing."""
        ...

    async def begun(self, token: str) -> None:
        """Keep how to find the upload; returns when that will outlive this process."""
        ...

    def stored(self, size: int) -> None:
        """So many bytes of the object are at the store by now."""
        ...


async def no_chunks() -> AsyncIterator[bytes]:
    """The chunks of nothing: many servers refuse to be asked for no bytes at all."""
    nothing: tuple[bytes, ...] = ()
    for chunk in nothing:
        yield chunk


async def no_uploads() -> AsyncIterator[OpenUpload]:
    """The open uploads of a store that tells of none."""
    nothing: tuple[OpenUpload, ...] = ()
    for upload in nothing:
        yield upload


class ObjectStore(Protocol):
    """One replica's store."""

    @property
    def name(self) -> str:
        """The replica's name, for errors and metrics."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        ...

    async def open(self) -> None:
        """Check that the place is there and usable; create it where configured to.

        Raises StoreError with a hint when it is not.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and threads. No call may be running."""
        ...

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """Store bytes under a free key, in one piece; `sums` are the checksums of `body`.

        Raises ObjectExistsError, changing nothing, when the key is taken; ChecksumMismatchError,
        leaving nothing visible, when the store got other bytes.
        """
        ...

    async def upload_if_absent(
        self,
        key: ObjectKey,
        source: ByteSource,
        *,
        size: int | None,
        content_type: str,
        journal: UploadJournal | None = None,
    ) -> ObjectInfo:
        """Store a stream of any length under a free key, in bounded memory.

        `size` is the length if it is known. When the source raises, nothing is visible, no upload
        stays open, and the source's error comes out. Raises ObjectExistsError as put_if_absent
        does; a store without `upload_if_absent` may instead overwrite, so callers stream only
        bytes that are proved to belong to the key.

        With a `journal` (and `resumable_uploads`, else it is ignored) a failure leaves the parts
        that were stored, invisible, for another call with the same journal: it gets the source from
        its beginning again, and leaves out each part whose checksum at the store is that of the
        bytes which the source gives now. Whoever gives up calls abort_upload.
        """
        ...

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        """Give the room of an unfinished upload back; one that is not there any more is success."""
        ...

    def open_uploads(self) -> AsyncIterator[OpenUpload]:
        """The open uploads of this replica, as far as the store tells of them; in no order."""
        ...

    async def replace(
        self,
        key: ObjectKey,
        source: ByteSource,
        sums: Checksums,
        *,
        seen: ObjectInfo,
        content_type: str,
    ) -> ObjectInfo:
        """Overwrite damaged bytes: the only overwrite there is (design point 11).

        Raises PreconditionError, changing nothing, when the object is no longer `seen`.
        """
        ...

    async def get(self, key: ObjectKey, *, start: int = 0, length: int | None = None) -> ByteStream:
        """Open the object, or `length` bytes of it from `start`. Raises ObjectMissingError.

        The stream raises StoreUnreachableError when it ends before the promised length.
        """
        ...

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """What the store knows about the object; raises ObjectMissingError."""
        ...

    def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """All objects whose key begins with `prefix` and is greater than `after`, in key order."""
        ...

    async def delete(self, key: ObjectKey) -> None:
        """Remove the object; a key that is free already is success."""
        ...

    async def erase(self, key: ObjectKey) -> int:
        """Remove the object for good, and answer how much was found of it; 0 when nothing was.

        All its stored versions go, delete markers among them, and every open upload of the key is
        aborted, so that none can complete any more. A store without `lists_traces` can only remove
        the object itself. Killed in between: called again, it finds the rest.
        """
        ...

    async def presign(
        self, key: ObjectKey, *, expires_seconds: int, content_type: str, disposition: str
    ) -> str:
        """A URL with which anybody can GET the object, Range included, until it expires.

        `content_type` and `disposition` are what the answer shall say. Raises UnsupportedError.
        """
        ...

    def native_url(self, key: ObjectKey) -> str:
        """The address in the cloud's own words: s3://..., gs://..., file://..."""
        ...
