"""Turns of tests on several workers; here their objects stand for workers: locks are per file."""

from __future__ import annotations

import fcntl
import threading
import time
from pathlib import Path

from tests.turns import Turns


def is_shut(gate: Path) -> bool:
    """Whether somebody keeps the gate shut."""
    with gate.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_who_waits_to_be_alone_goes_before_who_comes_later(tmp_path: Path) -> None:
    """Goal: others, one after the other, cannot keep one waiting for ever.

    Method: one is in the room, one waits to be alone in it, then a third comes who could share it.
    """
    inside, waiting, later = (Turns(tmp_path) for _ in range(3))
    order: list[str] = []

    def go(turns: Turns, name: str, *, is_alone: bool) -> None:
        with turns.turn(is_alone=is_alone):
            order.append(name)

    first = threading.Thread(target=go, args=(waiting, "alone"), kwargs={"is_alone": True})
    second = threading.Thread(target=go, args=(later, "later"), kwargs={"is_alone": False})
    with inside.turn(is_alone=False):
        first.start()
        deadline = time.monotonic() + 10
        while not is_shut(tmp_path / "gate.lock"):
            assert time.monotonic() < deadline, "the gate stays open"
            time.sleep(0.01)
        second.start()
        second.join(0.2)
        assert order == []
    first.join(10)
    second.join(10)
    assert order == ["alone", "later"]
    for turns in (inside, waiting, later):
        turns.close()
