"""`tidestore run` where it cannot: each cause is named with what to do, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from tests.conftest import Tally
from tests.integration.commands import environ, run
from tests.servers.processes import free_port
from tidestore.local.layout import cache_folder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def refused(folder: Path, *words: str, before: Sequence[str] = (), **more: str) -> str:
    """A start that must fail: its message. Nothing of it may be left."""
    env = environ(None, folder, TIDESTORE_CACHE=str(cache_folder(os.environ)))
    done = run(folder, env | more, "run", *words, before=before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    mine = [
        one for one in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in one.info["cmdline"] or [])
    ]  # fmt: skip
    assert mine == [], "nothing is left running"
    return done.stderr


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    """Goal: what to do about a taken port. Method: listen on it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(tmp_path, "--data", str(tmp_path / "data"), "--port", str(port))
    assert f"port {port} (gateway) is in use" in said
    assert "--port" in said


def test_a_data_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Goal: what to do about an unwritable folder. Method: one below a file."""
    (tmp_path / "file").write_text("")
    said = refused(tmp_path, "--data", str(tmp_path / "file" / "data"))
    assert f"cannot write to {tmp_path / 'file' / 'data'}" in said
    assert "choose another --data folder" in said


def find_small_disk(folder: Path) -> list[str] | None:
    """What starts a command for which `folder` is a disk of 32 MB; None where nobody may do that.

    Its mounts are its own, so nothing is left mounted, whatever happens. Root may, and on most
    machines everybody who is root in a name space of his own.
    """
    folder.mkdir()
    mount = ["sh", "-ec", 'mount -t tmpfs -o size=32m tmpfs "$0"; exec "$@"', str(folder)]
    for user in ([], ["--user", "--map-root-user"]):
        words = ["unshare", *user, "--mount", *mount]
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
                return words
    return None


def test_a_full_disk_is_said(tmp_path: Path, tally: Tally) -> None:
    """Goal: what to do about a full disk. Method: a real disk of 32 MB."""
    before = find_small_disk(tmp_path / "disk")
    if before is None:
        tally.missing("a small disk", "nobody may mount one here")
    tally.ran("a small disk")
    said = refused(tmp_path, "--data", str(tmp_path / "disk" / "data"), before=before)
    found = re.search(r"only (\d+) MiB are free under", said)
    assert found, said
    assert int(found[1]) <= 32
    assert "choose another --data folder" in said


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """Goal: the remedy is the cache's, not the data folder's. Method: a cache below a file."""
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    said = refused(tmp_path, "--data", str(tmp_path / "data"), TIDESTORE_CACHE=str(cache))
    assert f"cannot write to the cache folder {cache}" in said
    assert "choose another with TIDESTORE_CACHE" in said
    assert "--data" not in said


def test_no_network_at_the_first_start_is_said(tmp_path: Path) -> None:
    """Goal: what to do without the internet. Method: an empty cache, a proxy nobody listens at."""
    said = refused(
        tmp_path, "--data", str(tmp_path / "data"), TIDESTORE_CACHE=str(tmp_path / "cache"),
        HTTPS_PROXY=f"http://127.0.0.1:{free_port()}",
    )  # fmt: skip
    assert "cannot fetch https://" in said
    assert "HTTPS_PROXY" in said
    assert "copy the cache folder" in said
