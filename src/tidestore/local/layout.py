"""Where a local stack keeps things.

<data>/                  everything of one stack; removing it removes the stack
    tidestore.toml       the configuration that all its processes read
    stack.json           what runs where, for people and for the command line
    token                the producer's token, readable by its owner only
    kafka/ s3/ gcs/ onprem/   the data itself
    views/               indexes, rebuilt from Kafka at will
    logs/                one file per process
<cache>/                 shared by all stacks: Kafka's jars, built servers
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders and files of one stack."""

    data: Path
    cache: Path

    @property
    def config(self) -> Path:
        """The configuration of all processes."""
        return self.data / "tidestore.toml"

    @property
    def state(self) -> Path:
        """What runs where."""
        return self.data / "stack.json"

    @property
    def token(self) -> Path:
        """The producer's token."""
        return self.data / "token"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.data / "logs"

    def make(self) -> None:
        """Create the stack's own folders; raises OSError."""
        for folder in (self.data, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    def read_state(self) -> dict[str, Any]:
        """What the last start wrote; empty when there was none."""
        try:
            state: dict[str, Any] = json.loads(self.state.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace the state whole, so that a reader never sees half of it."""
        write_whole(self.state, json.dumps(state, indent=1) + "\n")


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file by renaming a complete one into place."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    temporary.replace(path)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """The cache: TIDESTORE_CACHE, or the place that the system has for caches."""
    chosen = environ.get("TIDESTORE_CACHE")
    if chosen:
        return Path(chosen)
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tidestore"
