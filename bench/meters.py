"""What processes cost, and what kind of machine this is."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

_SAMPLE_SECONDS: Final = 0.1
_MB: Final = 1e6


class Meter:
    """CPU time and peak memory of named processes, from its start to its stop."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._peaks = dict.fromkeys(pids, 0)
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="meter", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the sampling."""
        self._is_stopping.set()
        self._thread.join(5)

    def cpu(self) -> dict[str, float]:
        """Seconds of CPU that each process has used since it began."""
        found: dict[str, float] = {}
        for name, process in self._processes.items():
            times = process.cpu_times()
            found[name] = times.user + times.system
        return found

    def rss_mb(self) -> dict[str, float]:
        """The greatest resident size of each process so far.

        Samples see what lasts; on Linux the kernel's own high-water mark sees the rest.
        """
        return {
            name: round(max(self._peaks[name], _high_water_bytes(process.pid)) / _MB, 1)
            for name, process in self._processes.items()
        }

    def _sample(self) -> None:
        while not self._is_stopping.wait(_SAMPLE_SECONDS):
            for name, process in self._processes.items():
                try:
                    size = process.memory_info().rss
                except psutil.Error:  # it ended; what was seen stays
                    continue
                self._peaks[name] = max(self._peaks[name], size)


def _high_water_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0
    found = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(found.split()[1]) * 1024


def machine() -> dict[str, Any]:
    """The machine's facts; call it before the first load."""
    return {
        "begun_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": _cpu_name(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
    }


def versions(minio: Path) -> dict[str, str]:
    """What was measured."""
    names = ("tidestore", "aiohttp", "aiokafka", "confluent-kafka", "faust-streaming", "obstore")
    found = {name: version(name) for name in (*names, "uvloop")}
    said = subprocess.run(
        [minio, "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    found["minio"] = said.stdout.splitlines()[0].strip() if said.stdout else "unknown"
    found["python"] = platform.python_version()
    return found


def commit(folder: Path) -> str:
    """The commit that was measured, with a plus when the work tree differs from it."""
    try:
        name = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{name}+" if changed else name


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")
