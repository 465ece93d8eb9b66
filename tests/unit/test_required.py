"""What TIDESTORE_REQUIRE names may not be skipped, misspelt or left out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("required", "code"), [("", 0), ("no-such-server", 1)])
def test_a_run_without_a_required_server_fails(required: str, code: int) -> None:
    """Goal: a skip cannot look green. Method: a session of one small file, which passes."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "tests/unit/test_positions.py"],
        cwd=_ROOT, env={**os.environ, "TIDESTORE_REQUIRE": required},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert " passed" in done.stdout, done.stdout
    assert done.returncode == code
    assert ("nothing ran on it: ['no-such-server']" in done.stderr) == bool(code)
