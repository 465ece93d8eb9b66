"""`tidestore smoke` for real: what it proves when all is well, and that it can fail."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import COMMAND, environ
from tidestore.local.layout import cache_folder

# The journey is timed by an idle machine's clock.
pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.timeout(400)]

MEMBERS = {
    "ok", "objects", "lag_ms_p50", "lag_ms_p99", "put_per_s", "hook_ms_p50", "seconds"
}  # fmt: skip


def begin(folder: Path) -> subprocess.Popen[str]:
    env = environ(None, folder, TIDESTORE_CACHE=str(cache_folder(os.environ)), TMPDIR=str(folder))
    return subprocess.Popen(
        [*COMMAND, "smoke"], cwd=folder, env=env,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its last line."""
    output, said = process.communicate(timeout=300)
    assert output, said
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert found.keys() >= MEMBERS
    return found


def test_smoke_is_well_and_leaves_nothing(tmp_path: Path) -> None:
    """Goal: the journey of `make smoke`.

    Method: run it; 20 blobs, 20 files and a bundle; its 40 s are those of an idle machine of two
    cores, and a busier one is given as much more as it is busier.
    """
    process = begin(tmp_path)
    found = end(process)
    assert process.returncode == 0, found
    assert (found["ok"], found["objects"]) == (True, 41)
    assert found["hook_ms_p50"] > 0
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert found["seconds"] < 40 * busy
    assert not list(tmp_path.glob("tidestore-smoke-*"))


def test_smoke_fails_when_one_copy_is_wrong(tmp_path: Path) -> None:
    """Goal: exit 1 when anything is not as it should be.

    Method: change one byte of one copy on one replica while the journey runs.
    """
    process = begin(tmp_path)
    deadline = time.monotonic() + 300
    copies: list[Path] = []
    while len(copies) < 3:  # beyond the stack's first object, which is not the journey's
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        copies = list(tmp_path.glob("tidestore-smoke-*/data/onprem/public/blobs/*"))
        time.sleep(0.01)
    newest = max(copies, key=lambda path: path.stat().st_mtime_ns)
    newest.chmod(0o644)
    newest.write_bytes(b"not what was written")
    found = end(process)
    assert process.returncode == 1
    assert found["ok"] is False
    assert found["problems"] == ["onprem: 0 missing, 1 differ"]
