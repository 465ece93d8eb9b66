"""Write a folder tree: every file a blob and a file, every folder a bundle, a collection over all.

    file    --> blob (by its hash) --> file (uuid of its path)   8 at once
    folder  --> bundle of its direct files                       when these are acknowledged
    root    --> collection of all bundles                        last

Resumable: the journal knows what is acknowledged; a file that has not changed since is not read
again. Killed anywhere, the next run goes on under the same versions. A problem with one file does
not stop the others; one that all of them would have (no gateway, a wrong token) ends the run.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import mimetypes
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from tidestore.client.api import Client, ClientError
from tidestore.client.journal import Journal
from tidestore.schemas.objects import version_of

T = TypeVar("T")

WRITERS: Final = 8
# Answers that would be the same for every file: nobody there, not allowed, no such dataset.
_FOR_ALL: Final = frozenset({0, 401, 403})
_CHUNK_BYTES: Final = 1024 * 1024
# Larger files are streamed; for these it also pays to ask first whether the content is there.
_WHOLE_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Member:
    """One acknowledged file in a folder."""

    name: str
    uuid: str
    version: str


@dataclass(slots=True)
class Written:
    """What a run did. `skipped` was acknowledged by an earlier run; `problems` name a path each."""

    files: int = 0
    skipped: int = 0
    bundles: int = 0
    bytes: int = 0
    keys: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    collection: str = ""
    root_id: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """One regular file below a root."""

    path: Path
    relative: str
    size: int

    @property
    def fingerprint(self) -> str:
        """Changes whenever the file may have."""
        status = self.path.stat()
        return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


def find_files(root: Path) -> tuple[list[Found], list[str]]:
    """All regular files below a folder (or the file itself), and what was passed over."""
    if root.is_file():
        return [Found(root, root.name, root.stat().st_size)], []
    found, passed = [], []
    for folder, names, files in os.walk(root):
        names.sort()
        for name in sorted(files):
            path = Path(folder) / name
            if path.is_symlink() or not path.is_file():
                passed.append(f"{shown(str(path))}: not a regular file")
                continue
            found.append(Found(path, path.relative_to(root).as_posix(), path.stat().st_size))
    return found, passed


class Uploader:
    """Writes one root. `on_done` is told the bytes of each file that is acknowledged or skipped."""

    def __init__(
        self, client: Client, journal: Journal, dataset: str, on_done: Callable[[int], None]
    ) -> None:
        self._client = client
        self._journal = journal
        self._dataset = dataset
        self._on_done = on_done
        self._gate = asyncio.Semaphore(WRITERS)
        self._blobs: dict[str, asyncio.Task[None]] = {}
        self.written = Written(root_id=journal.root_id)

    async def write(self, root: Path, files: list[Found]) -> Written:
        """Write files, bundles and the collection.

        Problems with single files are collected; raises ClientError for one that all would have.
        """
        members: dict[str, list[Member]] = {}
        results = await self._all([self._file(item) for item in files])
        incomplete: set[str] = set()
        for item, member in zip(files, results, strict=True):
            folder = item.relative.rpartition("/")[0]
            if member is None:
                incomplete.add(folder)
            else:
                members.setdefault(folder, []).append(member)
        if root.is_file():  # noqa: ASYNC240  one question to the file system
            return self.written
        bundles = await self._all(
            [
                self._bundle(folder, found)
                for folder, found in sorted(members.items())
                if folder not in incomplete
            ]
        )
        if not incomplete and None not in bundles:
            # "." has no name, the folder has.
            name = root.absolute().name  # noqa: ASYNC240  asks the file system for "." alone
            await self._collection(name, [bundle for bundle in bundles if bundle is not None])
        return self.written

    async def _all(self, work: list[Coroutine[Any, Any, T]]) -> list[T]:
        """Everything's results; when one fails for all, nothing goes on behind its back."""
        tasks = [asyncio.create_task(one) for one in work]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in (*tasks, *self._blobs.values()):
                task.cancel()
            await asyncio.gather(*tasks, *self._blobs.values(), return_exceptions=True)

    async def _file(self, item: Found) -> Member | None:
        async with self._gate:
            try:
                return await self._write_file(item)
            except (ClientError, OSError, UnicodeError) as error:
                if isinstance(error, ClientError) and error.status in _FOR_ALL:
                    raise
                hint = f" ({error.hint})" if isinstance(error, ClientError) and error.hint else ""
                reason = "its name is not UTF-8" if isinstance(error, UnicodeError) else str(error)
                self.written.problems.append(f"{shown(item.relative)}: {reason}{hint}")
                return None
            finally:
                self._on_done(item.size)

    async def _write_file(self, item: Found) -> Member:
        place = f"file:{item.relative}"
        entry = self._journal.begin(place, item.fingerprint, version_of(datetime.now(UTC)))
        identity = self._journal.uuid_of(place)
        member = Member(item.path.name, identity, entry.version)
        if entry.is_done:
            self.written.skipped += 1
            return member
        sha256 = await asyncio.to_thread(_hash_of, item.path)
        self._journal.note_hash(place, sha256)
        await self._blob(item, sha256)
        kind = mimetypes.guess_type(item.path.name)[0] or "application/octet-stream"
        answer = await self._client.put(
            f"/v1/files/{identity}",
            document={"blob": sha256, "name": item.path.name, "content_type": kind},
            version=entry.version,
            dataset=self._dataset,
        )
        self._journal.done(place)
        self.written.files += 1
        self.written.bytes += item.size
        self.written.keys.append(answer["key"])
        return member

    async def _blob(self, item: Found, sha256: str) -> None:
        """Write a content once, however many files have it."""
        task = self._blobs.get(sha256)
        if task is None:
            task = self._blobs[sha256] = asyncio.create_task(self._write_blob(item, sha256))
        await task

    async def _write_blob(self, item: Found, sha256: str) -> None:
        path = f"/v1/blobs/{sha256}"
        if item.size > _WHOLE_BYTES_MAX:
            try:
                found = await self._client.get(f"{path}/copies", dataset=self._dataset)
                self.written.keys.append(found["key"])
                return
            except ClientError as error:
                if error.status != 404:
                    raise
            answer = await self._client.put(
                path,
                body=lambda: _chunks_of(item.path),
                size=item.size,
                dataset=self._dataset,
            )
        else:
            data = await asyncio.to_thread(item.path.read_bytes)
            answer = await self._client.put(path, body=data, dataset=self._dataset)
        self.written.keys.append(answer["key"])

    async def _bundle(self, folder: str, members: list[Member]) -> dict[str, str] | None:
        files = [{"name": m.name, "uuid": m.uuid, "version": m.version} for m in members]
        return await self._put("bundle", f"bundle:{folder}/", {"files": files}, folder or ".")

    async def _collection(self, name: str, bundles: list[dict[str, str]]) -> None:
        contents = [
            {"kind": "bundle", "uuid": item["uuid"], "version": item["version"]} for item in bundles
        ]
        document = {"name": name, "contents": contents}
        found = await self._put("collection", "collection:/", document, "the collection")
        if found is not None:
            self.written.collection = found["uuid"]

    async def _put(
        self, kind: str, place: str, document: dict[str, Any], label: str
    ) -> dict[str, str] | None:
        text = json.dumps(document, sort_keys=True).encode()
        fingerprint = hashlib.sha256(text).hexdigest()
        entry = self._journal.begin(place, fingerprint, version_of(datetime.now(UTC)))
        identity = {"uuid": self._journal.uuid_of(place), "version": entry.version}
        if entry.is_done:
            return identity
        async with self._gate:
            try:
                answer = await self._client.put(
                    f"/v1/{kind}s/{identity['uuid']}",
                    document=document,
                    version=entry.version,
                    dataset=self._dataset,
                )
            except ClientError as error:
                if error.status in _FOR_ALL:
                    raise
                hint = f" ({error.hint})" if error.hint else ""
                self.written.problems.append(f"{shown(label)}: {error}{hint}")
                return None
        self._journal.done(place)
        self.written.bundles += kind == "bundle"
        self.written.keys.append(answer["key"])
        return identity


def shown(text: str) -> str:
    """A path as it can be printed anywhere: names may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def _hash_of(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


async def _chunks_of(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as opened:
        while chunk := await asyncio.to_thread(opened.read, _CHUNK_BYTES):
            yield chunk
