"""Fetch pinned files: checked by sha256, resumed where they were cut off, with a progress bar."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 256 * 1024
# Between two pieces of an answer, and for connecting; a slow line sends something in this time.
_TIMEOUT_SECONDS = 20
# In a row without a single new byte: a line that is cut again and again still gets there.
_TRIES = 4
_PAUSE_SECONDS = 0.5
# Central's servers allow more; 6 connections already fill a home's line.
_AT_ONCE = 6


class DownloadError(Exception):
    """A file cannot be had; the text says what to do."""


class _NoRoomError(Exception):
    """The disk refused; the text is the system's."""


@dataclass(frozen=True, slots=True)
class Pinned:
    """One file as it must be."""

    url: str
    path: Path
    sha256: str
    size: int

    def is_whole(self) -> bool:
        """Whether the file lies there with the right size. Its hash was checked when it came."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    @property
    def part(self) -> Path:
        """Where it grows until it is whole."""
        return self.path.with_name(self.path.name + ".part")


Progress = Callable[[int], None]


def fetch_all(files: list[Pinned], progress: Progress) -> None:
    """Fetch what is missing; `progress` is told bytes as they come. Raises DownloadError.

    The cache is shared: another process that fetches into the same folder is waited for.
    """
    missing = [file for file in files if not file.is_whole()]
    if not missing:
        return
    try:
        with _locked(missing[0].path.parent), ThreadPoolExecutor(_AT_ONCE) as pool:
            tasks = [pool.submit(_fetch, file, progress) for file in missing]
            done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
            # What one file cannot have, the others cannot either: none waits for its own tries.
            pool.shutdown(wait=False, cancel_futures=True)
            for task in done:
                task.result()
    except _NoRoomError as error:
        raise DownloadError(
            f"cannot write to the cache folder {missing[0].path.parent}: {error};"
            " free some room there, or choose another with TIDESTORE_CACHE"
        ) from None


@contextmanager
def _writing() -> Iterator[None]:
    """Tell what the disk refuses from what the network does: only the latter is tried again."""
    try:
        yield
    except OSError as error:
        raise _NoRoomError(error.strerror or str(error)) from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with _writing():
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(file: Pinned, progress: Progress) -> None:
    if file.is_whole():
        return
    last: Exception | None = None
    tries = 0
    progress(_size_of(file.part))
    while tries < _TRIES:
        had = _size_of(file.part)
        try:
            _continue(file, progress)
        except (OSError, http.client.HTTPException) as error:
            last = error
            if isinstance(error, urllib.error.HTTPError) and error.code in {403, 404}:
                break
        have = _size_of(file.part)
        if have == file.size:
            digest = _hash_of(file.part)
            if digest == file.sha256:
                file.part.replace(file.path)
                return
            last = DownloadError(f"its sha256 is {digest}, not {file.sha256}")
        if have >= file.size:  # not what it must be, so nothing of it is of use
            file.part.unlink()
            progress(-have)
        elif last is None:
            last = DownloadError(f"it was cut off after {have} of {file.size} bytes")
        tries = 0 if had < have < file.size else tries + 1
        time.sleep(_PAUSE_SECONDS * tries)
    raise DownloadError(
        f"cannot fetch {file.url}: {last}\n"
        "  The first start needs the internet once. Behind a proxy, set HTTPS_PROXY; without the\n"
        f"  internet, copy the cache folder of a machine that has it to {file.path.parent}.\n"
        "  What has come is kept: the next start goes on from there."
    )


def _continue(file: Pinned, progress: Progress) -> None:
    """Fetch what is missing of one file, as far as it comes. A cut-off answer just ends."""
    have = _size_of(file.part)
    request = urllib.request.Request(file.url)  # noqa: S310  https, from our own pinned list
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as reply:  # noqa: S310
        resumes = reply.status == 206
        progress(0 if resumes else -have)
        with _writing():
            opened = file.part.open("ab" if resumes else "wb", buffering=0)
        with opened:
            while chunk := reply.read(_CHUNK_BYTES):
                with _writing():
                    opened.write(chunk)
                progress(len(chunk))


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _hash_of(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
