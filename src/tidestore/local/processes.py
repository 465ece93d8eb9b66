"""Child processes that never outlive their stack.

Each child is in a session of its own, so that Ctrl-C reaches the stack alone and the stack decides
the order of ending. If the stack itself is killed, the kernel asks the children to end (Linux), and
wherever that does not exist the next start finds them by the list of pids and ends them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_TERM_SECONDS: Final = 15.0
_KILL_SECONDS: Final = 5.0


class Child:
    """One process: started, watched, ended."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        environ: Mapping[str, str],
        folder: Path,
    ) -> None:
        self.name = name
        self.command = command
        self.log = log
        self.begun = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environ),
                cwd=folder,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def wait_ended(self, seconds: float = _TERM_SECONDS) -> None:
        """Wait for the end; kill what does not end in time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_KILL_SECONDS)

    def last_words(self, lines: int = 12) -> str:
        """The end of its log, for the message that says it died."""
        try:
            text = self.log.read_bytes()[-16_384:].decode("utf-8", "replace")
        except OSError:
            return ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


def end_with_parent() -> None:
    """In the child, before it becomes the program: SIGTERM when the parent dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class PidList:
    """The pids of a stack's children in a file, so that a later start can find leftovers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, children: list[Child]) -> None:
        """Note all children, with the moment each began, because pids are used again."""
        rows = [[child.pid, _started(child.pid), child.name] for child in children]
        self._path.write_text(json.dumps(rows), "utf-8")

    def end_leftovers(self) -> list[str]:
        """End what an earlier stack left running; returns the names of what was ended."""
        try:
            rows = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return []
        alive = [(pid, name) for pid, begun, name in rows if begun and _started(pid) == begun]
        for pid, _ in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _TERM_SECONDS
        for pid, _ in alive:
            while _started(pid) and time.monotonic() < deadline:
                time.sleep(0.05)
            if _started(pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        self._path.unlink(missing_ok=True)
        return [name for _, name in alive]


def _started(pid: int) -> str:
    """When a process began, in the system's own words; "" when there is none.

    Together with the pid this names a process for good.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    found = subprocess.run(
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()
