"""Tests on several workers of one run: who goes when somebody needs the machine alone."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

# Longer than all tests that need the machine alone, one after the other.
_WAIT_SECONDS_MAX = 1800.0


class Turns:
    """A room for many, or for one alone. The kernel's locks: who dies holds none."""

    def __init__(self, folder: Path) -> None:
        self._gate = (folder / "gate.lock").open("w")
        self._room = (folder / "room.lock").open("w")

    @contextlib.contextmanager
    def turn(self, *, is_alone: bool) -> Iterator[None]:
        """A test's time in the room.

        Who waits for the room keeps the gate shut: else the others, test after test, could keep the
        room taken for ever.
        """
        with _held(self._gate, fcntl.LOCK_EX):
            _take(self._room, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the files; what is held is free again."""
        self._gate.close()
        self._room.close()


@contextlib.contextmanager
def _held(file: TextIO, how: int) -> Iterator[None]:
    _take(file, how)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _take(file: TextIO, how: int) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS_MAX
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
