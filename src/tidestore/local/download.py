"""Fetch pinned files: checked by sha256, resumed where they were cut off, with a progress bar."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 256 * 1024
_TIMEOUT_SECONDS = 60
_TRIES = 4
# Central's servers allow more; 6 connections already fill a home's line.
_AT_ONCE = 6


class DownloadError(Exception):
    """A file cannot be had; the text says what to do."""


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


Progress = Callable[[int], None]


def fetch_all(files: list[Pinned], progress: Progress) -> None:
    """Fetch what is missing; `progress` is told bytes as they come. Raises DownloadError."""
    missing = [file for file in files if not file.is_whole()]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda file: _fetch(file, progress), missing):
            pass


def _fetch(file: Pinned, progress: Progress) -> None:
    part = file.path.with_name(file.path.name + ".part")
    file.path.parent.mkdir(parents=True, exist_ok=True)
    last: Exception | None = None
    for _ in range(_TRIES):
        try:
            _continue(file, part, progress)
        except (urllib.error.URLError, OSError, TimeoutError) as error:
            last = error
            if isinstance(error, urllib.error.HTTPError) and error.code in {403, 404}:
                break
            continue
        digest = hashlib.sha256(part.read_bytes()).hexdigest()
        if digest == file.sha256:
            part.replace(file.path)
            return
        part.unlink()
        last = DownloadError(f"its sha256 is {digest}, not {file.sha256}")
    raise DownloadError(
        f"cannot fetch {file.url}: {last}\n"
        "  The first start needs the internet once. Behind a proxy, set HTTPS_PROXY; without the\n"
        f"  internet, copy the cache folder of a machine that has it to {file.path.parent}."
    )


def _continue(file: Pinned, part: Path, progress: Progress) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= file.size:
        part.unlink()
        have = 0
    request = urllib.request.Request(file.url)  # noqa: S310  https, from our own pinned list
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as reply:  # noqa: S310
        resumes = reply.status == 206
        if resumes:
            progress(have)
        with part.open("ab" if resumes else "wb") as opened:
            while chunk := reply.read(_CHUNK_BYTES):
                opened.write(chunk)
                progress(len(chunk))
