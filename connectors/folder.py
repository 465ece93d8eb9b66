"""A replica in a plain folder: one file per object, under the object's key.

A write is a temporary file in `.tidestore/tmp`, synced, then linked to its final name: the link is
the conditional create (it fails when the name is taken) and it is atomic, so a reader sees all of
an object or nothing. Killed at any point, what is left over is a temporary file, which the next
open() removes once it is older than a day.

    <root>/public/blobs/<sha256>       readable with cp, sha256sum, rsync
    <root>/.tidestore/tmp/...          unfinished writes
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import IO, ParamSpec, TypeVar

from tidestore.connectors.errors import (
    BucketMissingError,
    ChecksumMismatchError,
    ObjectExistsError,
    ObjectMissingError,
    PreconditionError,
    StoreDeniedError,
    StoreError,
    StoreFaultError,
    StoreFullError,
    UnsupportedError,
)
from tidestore.connectors.store import (
    CHUNK_BYTES,
    ByteSource,
    ByteStream,
    Capabilities,
    ObjectInfo,
    OpenUpload,
    UploadJournal,
    no_uploads,
)
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import OWN_FOLDER

FOLDER_CAPABILITIES = Capabilities(
    checks_uploads=False,  # there is no server between us and the disk that could check
    native_checksum="",
    presign=False,
    presign_overrides=False,
    public_read=False,
    checks_credentials=False,
    content_type=False,
    resumable_uploads=False,
    lists_ranges=False,  # every range would read the whole of a directory again
    object_bytes_max=8 * 1024**4,  # ext4 ends a file at 16 TiB; half of it, for other systems
)

_TEMPORARY_SECONDS_MAX = 24 * 60 * 60
# Each thread holds one chunk; a disk gains nothing from more at once.
_THREADS = 8

P = ParamSpec("P")
T = TypeVar("T")


class FolderStore:
    """Objects as files under one root."""

    def __init__(
        self, name: str, root: Path, capabilities: Capabilities = FOLDER_CAPABILITIES
    ) -> None:
        self._name = name
        self._root = root.absolute()
        self._temporary = self._root / OWN_FOLDER / "tmp"
        self._capabilities = capabilities
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"folder-{name}")

    @property
    def name(self) -> str:
        """The replica's name."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return self._capabilities

    async def open(self) -> None:
        """See ObjectStore. Creates the root, and removes temporary files over a day old."""
        await self._run("open", "", self._open)

    async def close(self) -> None:
        """See ObjectStore."""
        self._threads.shutdown(wait=True)

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See ObjectStore."""
        del content_type
        if len(body) != sums.size:
            raise ChecksumMismatchError("put", self._name, key, detail="length differs")
        return await self._run("put", key, self._put, key, body)

    async def upload_if_absent(
        self,
        key: ObjectKey,
        source: ByteSource,
        *,
        size: int | None,
        content_type: str,
        journal: UploadJournal | None = None,
    ) -> ObjectInfo:
        """See ObjectStore."""
        del content_type, journal
        temporary = await self._spool("upload", key, source, size)
        return await self._run("upload", key, self._link, temporary, key)

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        """See ObjectStore. One that is broken off is a spool file, and begun anew."""
        del key, token

    def open_uploads(self) -> AsyncIterator[OpenUpload]:
        """See ObjectStore."""
        return no_uploads()

    async def replace(
        self,
        key: ObjectKey,
        source: ByteSource,
        sums: Checksums,
        *,
        seen: ObjectInfo,
        content_type: str,
    ) -> ObjectInfo:
        """See ObjectStore.

        Between looking and renaming another repair may slip in: both write proved bytes of the
        same key, so the outcome is the same.
        """
        del content_type
        temporary = await self._spool("replace", key, source, sums.size)
        return await self._run("replace", key, self._rename, temporary, key, seen)

    async def get(self, key: ObjectKey, *, start: int = 0, length: int | None = None) -> ByteStream:
        """See ObjectStore."""
        opened, info = await self._run("get", key, self._open_file, key, start)
        wanted = info.size - start if length is None else min(length, info.size - start)
        return ByteStream(info, self._read(key, opened, wanted))

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """See ObjectStore."""
        return await self._run("head", key, self._info, key)

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """See ObjectStore. Walks one folder at a time, in key order."""
        walk = self._walk(prefix, after)
        while batch := await self._run("list", prefix, lambda: list(islice(walk, 500))):
            for info in batch:
                yield info

    async def delete(self, key: ObjectKey) -> None:
        """See ObjectStore."""
        await self._run("delete", key, self._delete, key)

    async def erase(self, key: ObjectKey) -> int:
        """See ObjectStore. Unfinished writes have no key yet; open() removes old ones."""
        return int(await self._run("erase", key, self._delete, key))

    async def presign(
        self, key: ObjectKey, *, expires_seconds: int, content_type: str, disposition: str
    ) -> str:
        """See ObjectStore."""
        del expires_seconds, content_type, disposition
        raise UnsupportedError("presign", self._name, key, hint="read through the gateway")

    def native_url(self, key: ObjectKey) -> str:
        """See ObjectStore."""
        return self._path(key).as_uri()

    # Everything below runs in a thread of the pool, or is a helper of what does.

    async def _run(
        self, operation: str, key: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))
        except OSError as error:
            raise self._translate(operation, key, error) from error

    def _translate(self, operation: str, key: str, error: OSError) -> StoreError:
        detail = error.strerror or str(error)
        place = (operation, self._name, key)
        if error.errno == errno.EEXIST:
            return ObjectExistsError(*place)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return StoreFullError(*place, detail=detail, hint=f"free space under {self._root}")
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            hint = f"this user must be able to read and write {self._root}"
            return StoreDeniedError(*place, detail=detail, hint=hint)
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            if self._root.is_dir():
                return ObjectMissingError(*place)
            hint = f"mount or create {self._root}"
            return BucketMissingError(*place, detail="the folder is gone", hint=hint)
        return StoreFaultError(*place, detail=detail)

    def _path(self, key: str) -> Path:
        return self._root / key

    def _open(self) -> None:
        self._temporary.mkdir(parents=True, exist_ok=True)
        # What lies in there is nobody's to read: unfinished, damaged, redacted.
        with contextlib.suppress(PermissionError):  # another user's folder that we may write to
            self._temporary.parent.chmod(0o700)
        oldest = time.time() - _TEMPORARY_SECONDS_MAX
        for leftover in self._temporary.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def _new_temporary(self) -> tuple[Path, IO[bytes]]:
        path = self._temporary / uuid.uuid4().hex
        return path, path.open("xb")

    def _put(self, key: ObjectKey, body: bytes) -> ObjectInfo:
        if self._path(key).exists():  # saves writing what the link below would refuse
            raise FileExistsError(errno.EEXIST, "exists")
        temporary, opened = self._new_temporary()
        try:
            with opened:
                opened.write(body)
                _sync(opened)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return self._link(temporary, key)

    async def _spool(
        self, operation: str, key: ObjectKey, source: ByteSource, size: int | None
    ) -> Path:
        """Write the whole source into a synced temporary file beside the objects.

        This is not a copy on the way: the same file becomes the object by a link.
        """
        temporary, opened = await self._run(operation, key, self._new_temporary)
        written = 0
        try:
            async for chunk in source:
                await self._run(operation, key, opened.write, chunk)
                written += len(chunk)
            if size is not None and written != size:
                raise ChecksumMismatchError(
                    operation,
                    self._name,
                    key,
                    detail=f"{written} bytes came, {size} were announced",
                )
            await self._run(operation, key, _sync, opened)
        except BaseException:
            opened.close()
            temporary.unlink(missing_ok=True)
            raise
        opened.close()
        return temporary

    def _link(self, temporary: Path, key: ObjectKey) -> ObjectInfo:
        target = self._path(key)
        try:
            if not target.parent.is_dir():
                self._make_folder(target.parent)
            os.link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
        return self._info(key)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder under the root, and its name durable in the one above."""
        if folder == self._root or folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)

    def _rename(self, temporary: Path, key: ObjectKey, seen: ObjectInfo) -> ObjectInfo:
        try:
            current = self._info(key)
        except FileNotFoundError:
            current = None
        if current is None or current.etag != seen.etag:
            temporary.unlink(missing_ok=True)
            raise PreconditionError("replace", self._name, key)
        temporary.replace(self._path(key))
        _sync_folder(self._path(key).parent)
        return self._info(key)

    def _info(self, key: ObjectKey) -> ObjectInfo:
        return _info_of(key, self._path(key).stat())

    def _open_file(self, key: ObjectKey, start: int) -> tuple[IO[bytes], ObjectInfo]:
        opened = self._path(key).open("rb")
        info = _info_of(key, os.fstat(opened.fileno()))
        opened.seek(start)
        return opened, info

    async def _read(self, key: ObjectKey, opened: IO[bytes], length: int) -> AsyncIterator[bytes]:
        left = length
        try:
            while left > 0:
                chunk = await self._run("get", key, opened.read, min(CHUNK_BYTES, left))
                if not chunk:
                    raise StoreFaultError(
                        "get", self._name, key, detail=f"{left} bytes are missing"
                    )
                left -= len(chunk)
                yield chunk
        finally:
            opened.close()

    def _delete(self, key: ObjectKey) -> bool:
        path = self._path(key)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        _sync_folder(path.parent)
        return True

    def _walk(self, prefix: str, after: str) -> Iterator[ObjectInfo]:
        """Files in order of key. A folder sorts as its name and "/", as its keys do."""
        pending = [""]
        while pending:
            place = pending.pop()
            if not place.endswith("/") and place:
                if place.startswith(prefix) and place > after:
                    with contextlib.suppress(FileNotFoundError):
                        yield self._info(ObjectKey(place))
                continue
            if not (place.startswith(prefix) or prefix.startswith(place)):
                continue
            with contextlib.suppress(FileNotFoundError), os.scandir(self._root / place) as entries:
                names = [
                    place + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                    for entry in entries
                    if entry.name != OWN_FOLDER or prefix.startswith(OWN_FOLDER)
                ]
                pending.extend(sorted(names, reverse=True))


def _info_of(key: ObjectKey, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(
        key=key,
        size=status.st_size,
        etag=f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}",
        modified_at_ms=status.st_mtime_ns // 1_000_000,
    )


def _sync(opened: IO[bytes]) -> None:
    opened.flush()
    os.fsync(opened.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new or removed name survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
