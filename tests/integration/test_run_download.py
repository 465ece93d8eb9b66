"""Fetching pinned files from a server that fails as servers do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tidestore.local.download import DownloadError, Pinned, fetch_all

pytestmark = pytest.mark.integration

BODY = os.urandom(1_000_000)


class Handler(BaseHTTPRequestHandler):
    """Serves BODY; `cuts` says after how many bytes each answer breaks off."""

    cuts: ClassVar[list[int]] = []
    asked: ClassVar[list[str]] = []
    body: ClassVar[bytes] = BODY

    def do_GET(self) -> None:
        span = self.headers.get("Range", "")
        self.asked.append(span)
        begin = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        rest = self.body[begin:]
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest[: self.cuts.pop(0)] if self.cuts else rest)

    def log_message(self, *words: object) -> None:
        """Be quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    Handler.cuts, Handler.asked, Handler.body = [], [], BODY
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/x.jar"
    server.shutdown()
    thread.join()
    server.server_close()


def pinned(url: str, folder: Path) -> Pinned:
    return Pinned(url, folder / "x.jar", hashlib.sha256(BODY).hexdigest(), len(BODY))


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(url: str, tmp_path: Path) -> None:
    """Goal: no byte is fetched twice. Method: three cuts, then the rest; the ranges asked for."""
    Handler.cuts = [300_000, 200_000, 0]
    told: list[int] = []
    file = pinned(url, tmp_path)
    fetch_all([file], told.append)
    assert file.path.read_bytes() == BODY
    assert Handler.asked == ["", "bytes=300000-", "bytes=500000-", "bytes=500000-"]
    assert sum(told) == len(BODY), "the bar ends where it should"
    assert not file.part.exists()


def test_a_download_goes_on_after_the_process_ended(url: str, tmp_path: Path) -> None:
    """Goal: a start that was killed while fetching costs nothing. Method: a part from before."""
    file = pinned(url, tmp_path)
    file.part.write_bytes(BODY[:700_000])
    told: list[int] = []
    fetch_all([file], told.append)
    assert file.path.read_bytes() == BODY
    assert Handler.asked == ["bytes=700000-"]
    assert sum(told) == len(BODY)


def test_wrong_bytes_never_get_the_files_name(url: str, tmp_path: Path) -> None:
    """Goal: sha256 decides. Method: one byte changed at the server; then a wrong part."""
    file = pinned(url, tmp_path)
    Handler.body = BODY[:-1] + bytes([BODY[-1] ^ 1])
    with pytest.raises(DownloadError, match="its sha256 is"):
        fetch_all([file], lambda _: None)
    assert not file.path.exists()
    assert not file.part.exists()
    Handler.body = BODY
    file.part.write_bytes(b"x" * 400_000)
    fetch_all([file], lambda _: None)
    assert file.path.read_bytes() == BODY


def test_a_server_that_is_not_there_is_one_message_for_all_files(tmp_path: Path) -> None:
    """Goal: no network is said soon. Method: twenty files, nobody listening."""
    files = [
        Pinned("http://127.0.0.1:9/x", tmp_path / str(number), "0" * 64, 10) for number in range(20)
    ]
    with pytest.raises(DownloadError, match="HTTPS_PROXY"):
        fetch_all(files, lambda _: None)


FETCH = """
import resource, sys
from pathlib import Path
from tidestore.local.download import DownloadError, Pinned, fetch_all
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
url, folder, sha256, size = sys.argv[1:]
try:
    fetch_all([Pinned(url, Path(folder) / "x.jar", sha256, int(size))], lambda count: None)
except DownloadError as error:
    sys.exit(str(error))
"""


def test_a_disk_that_refuses_is_said_at_once(url: str, tmp_path: Path) -> None:
    """Goal: no room is not the network's fault, and no reason to fetch it all again.

    Method: a process whose files the system lets grow to 300,000 bytes and no further.
    """
    words = [url, str(tmp_path), hashlib.sha256(BODY).hexdigest(), str(len(BODY))]
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *words], capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot write to the cache folder {tmp_path}: File too large" in done.stderr
    assert "TIDESTORE_CACHE" in done.stderr
    assert "Traceback" not in done.stderr
    assert Handler.asked == [""]
    fetch_all([pinned(url, tmp_path)], lambda _: None)
    assert Handler.asked[1].startswith("bytes="), "what came is kept"
    assert (tmp_path / "x.jar").read_bytes() == BODY
