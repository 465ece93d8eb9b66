"""Commands as a person runs them: processes of their own, with a person's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.world import TOKEN, World

Done = subprocess.CompletedProcess[str]
COMMAND = [sys.executable, "-m", "tidestore"]


def environ(world: World | None, folder: Path, **more: str) -> dict[str, str]:
    """A person's environment: nothing of the tests', the world's gateway if there is one."""
    found = {"PATH": os.environ["PATH"], "HOME": str(folder), "XDG_STATE_HOME": str(folder)}
    if world is not None:
        found |= {"TIDESTORE_URL": world.url(), "TIDESTORE_TOKEN": TOKEN}
    return found | more


def run(
    folder: Path,
    env: dict[str, str],
    *words: str,
    user: int | None = None,
    before: Sequence[str] = (),
) -> Done:
    """Run a command to its end; `before` is what starts it, for a place that is not the usual."""
    return subprocess.run(
        [*before, *COMMAND, *words], cwd=folder, env=env, capture_output=True, text=True,
        timeout=100, check=False, user=user,
    )  # fmt: skip


def lines(done: Done) -> list[Any]:
    """The JSON documents of a command that went well."""
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_refusal(done: Done, code: int = 1) -> str:
    """An error is one line and a hint, never a trace; the text."""
    text = done.stderr
    assert done.returncode == code, done.stdout + text
    assert "Traceback" not in text + done.stdout
    said = [line for line in text.splitlines() if line.startswith("tidestore: ")]
    assert len(said) == 1, text
    return text
