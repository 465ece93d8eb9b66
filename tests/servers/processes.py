"""Processes of a test: started in a session of their own, ended by pid, never left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidestore.local.processes import end_with_parent

# Many times what a start takes: a machine that is busy with other things is no failure.
READY_SECONDS_MAX = 120.0
PORT_TRIES_MAX = 1000


@dataclass(slots=True)
class Share:
    """Which share of something is ours, of how many."""

    number: int = 0
    of: int = 1


PORTS = Share()


def free_port() -> int:
    """A port of loopback that nobody listens on now, and that no other worker's tests are given.

    Between here and its program's start a port is nobody's, so workers draw from shares of their
    own. Pairs, for Linux gives listeners the odd ports.
    """
    for _ in range(PORT_TRIES_MAX):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port // 2 % PORTS.of == PORTS.number:
            return port
    raise AssertionError(f"no free port in {PORT_TRIES_MAX} tries")


class Process:
    """One program that can be started, killed, frozen, thawed and started again."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        *,
        environ: Mapping[str, str] | None = None,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environ = {**os.environ, "PYTHONUNBUFFERED": "1", **(environ or {})}
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until it is ready."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environ,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509  one call of the kernel's
            )
        if wait:
            self.await_ready()

    def await_ready(self) -> None:
        """Wait until it is ready; raises AssertionError with its last words."""
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not self._is_ready():
            if self.exit_code() is not None:
                raise AssertionError(f"{self.name} ended: {self.last_words()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name} is not ready: {self.last_words()}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, None while it runs or before it ran."""
        return self._process.poll() if self._process is not None else None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def freeze(self) -> None:
        """SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, also to one that is frozen."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
                self._process.terminate()

    def end(self, seconds: float = 20.0) -> int | None:
        """SIGTERM and wait; kill what does not end. The exit code, or None if it never ran."""
        self.terminate()
        return self.await_end(seconds)

    def await_end(self, seconds: float = 20.0) -> int | None:
        """Wait; kill what does not end. The exit code, or None if it never ran."""
        if self._process is None:
            return None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(10)

    def last_words(self) -> str:
        """The end of its log."""
        with contextlib.suppress(OSError):
            return self.log.read_bytes()[-6000:].decode("utf-8", "replace")
        return ""
