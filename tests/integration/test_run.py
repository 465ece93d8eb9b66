"""`tidestore run` for real: a whole stack in a temporary folder, started, used, hurt and ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.commands import COMMAND, environ, lines, run
from tidestore.local.layout import cache_folder
from tidestore.local.servers import is_ready

# Its starts are timed by an idle machine's clock.
pytestmark = [pytest.mark.integration, pytest.mark.alone, pytest.mark.timeout(400)]

READY = "Ctrl-C ends everything"


class Run:
    """One `tidestore run`: its output as it comes, and every process below it."""

    def __init__(self, data: Path, *words: str) -> None:
        self.data = data
        self.env = environ(None, data.parent, TIDESTORE_CACHE=str(cache_folder(os.environ)))
        self.said: list[str] = []
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--data", str(data), *words], cwd=data.parent, env=self.env,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.said.append(line.rstrip())

    @property
    def text(self) -> str:
        """All that was said so far."""
        return "\n".join(self.said)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"no {what}:\n{self.text}"
            time.sleep(0.05)

    def until_said(self, words: str) -> None:
        """Wait until a line has these words."""
        self.until(lambda: words in self.text or self.process.poll() is not None, words)
        assert words in self.text, self.text

    def until_ready(self) -> float:
        """Wait until it says that it runs; how long that took."""
        self.until_said(READY)
        return time.monotonic() - self.begun

    def family(self) -> list[psutil.Process]:
        """Every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.data / "stack.json").read_text("utf-8"))
        return found

    def interrupt(self) -> None:
        """Ctrl-C, and all that it promises."""
        family = self.family()
        assert len(family) >= 8, "Kafka, two stores, gateway, three workers, feeds"
        names, begun = {one.pid: role_of(one) for one in family}, time.monotonic()
        self.process.send_signal(signal.SIGINT)
        ended: list[str] = []
        while self.process.poll() is None or len(ended) < len(family):
            ended += [names.pop(pid) for pid in list(names) if not is_alive(pid)]
            assert time.monotonic() < begun + 120, f"{names} still run:\n{self.text}"
            time.sleep(0.01)
        assert self.process.returncode == 0, self.text
        ours = [name for name in ended if name != "other"]
        assert ours[0] == "gateway", f"nothing is taken any more before all else ends: {ours}"
        assert ours[-1] == "kafka", f"who still writes has somewhere to write to: {ours}"
        self._reader.join(10)
        # The folder's name is said last, and stands on a line of its own where it is long.
        assert "everything has ended" in "\n".join(self.said[-2:])
        assert left(family) == []


def role_of(process: psutil.Process) -> str:
    """What a process below a stack is; "other" for what is not the stack's own kind."""
    words = process.cmdline()
    if "kafka.Kafka" in words:
        return "kafka"
    return next((word for word in words if word in ("gateway", "worker", "feeds")), "other")


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def left(family: list[psutil.Process]) -> list[str]:
    """Which of these processes still run."""
    found = []
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if one.is_running() and one.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(one.cmdline()[:5]))
    return found


def brokers(stack: Run) -> list[psutil.Process]:
    """Kafka's process; what just died has no command line any more."""
    found = []
    for one in stack.family():
        with contextlib.suppress(psutil.Error):
            if "kafka.Kafka" in one.cmdline():
                found.append(one)
    return found


class Bench:
    """The folder of this module's stack, and the run that is on it now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first: Run | None = None
        self.now: Run | None = None

    def running(self) -> Run:
        """A stack that runs: the one from before, or a new one on the same data."""
        if self.now is None or self.now.process.poll() is not None:
            self.now = Run(self.folder / "data")
            self.now.until_ready()
            self.first = self.first or self.now
        url = f"{self.now.state()['url']}/readyz"
        self.now.until(lambda: is_ready(url), "answer of the gateway")
        return self.now


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One data folder for the module; whatever runs on it is ended in the end."""
    found = Bench(tmp_path_factory.mktemp("run"))
    yield found
    if found.now is not None and found.now.process.poll() is None:
        found.now.interrupt()


def put_some(bench: Bench, stack: Run, name: str) -> bytes:
    body = name.encode() + os.urandom(2_000)
    (bench.folder / name).write_bytes(body)
    done = run(bench.folder, stack.env, "put", name, "--json", "--data", str(stack.data))
    assert done.returncode == 0, f"{done.stderr}\nthe stack said:\n{stack.text}"
    assert lines(done)[0]["files"] == 1
    return body


def get_back(bench: Bench, stack: Run, body: bytes) -> bytes:
    sha256 = hashlib.sha256(body).hexdigest()
    done = run(bench.folder, stack.env, "get", sha256, "--data", str(stack.data), "-o", "back")
    assert done.returncode == 0, done.stderr
    return (bench.folder / "back").read_bytes()


def test_run_says_where_everything_is_and_its_lines_can_be_pasted(bench: Bench) -> None:
    """Goal: what a newcomer reads is true.

    Method: the first object on every replica, each address answers, what a server lacks is said;
    the three lines to paste are pasted into a shell.
    """
    stack = bench.running()
    assert bench.first is not None
    first = bench.first.text
    assert re.search(r"wrote a first object: position 1\.\d+\.\d+", first)
    for replica in ("aws", "gcp", "onprem"):
        assert re.search(rf"present on {replica} +after +\d+ ms  \w+://", first), first
    state = stack.state()
    ports = state["ports"]
    assert isinstance(ports, dict)
    for name in ("gateway", "broker", "s3", "gcs"):
        assert f"127.0.0.1:{ports[name]}" in stack.text
        socket.create_connection(("127.0.0.1", ports[name]), timeout=5).close()
    for path in (stack.data, stack.data / "onprem", stack.data / "logs", stack.data / "token"):
        assert str(path) in stack.text
        assert path.exists()
    for kind in ("localbucket", "gcp-storage-emulator", "fake-gcs-server"):
        if kind in (state["s3"], state["gcs"]):
            assert re.search(rf"note: {kind} .*(checks n|knows no)", stack.text)
    assert "note: hooks may call this machine" in stack.text
    paste = [line.strip() for line in stack.said if re.match(r" +(echo|curl) ", line)]
    assert len(paste) == 3
    shell = subprocess.run(
        ["/bin/sh", "-e"], input="\n".join(paste), cwd=bench.folder, env=stack.env,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shell.returncode == 0, shell.stderr
    assert "hello, replicas\n" in shell.stdout
    assert shell.stdout.count('"state":"present"') + shell.stdout.count('"state": "present"') == 3


def test_a_second_start_is_quick_and_keeps_all_data(bench: Bench) -> None:
    """Goal: everything survives Ctrl-C, and nothing is left running after it.

    Method: write, Ctrl-C, start again, read; ports and token are the same. The 15 s are those of an
    idle machine of two cores; a busier one is given as much more as it is busier.
    """
    stack = bench.running()
    body = put_some(bench, stack, "kept.bin")
    ports, token = stack.state()["ports"], (stack.data / "token").read_text("utf-8")
    begun = time.monotonic()
    stack.interrupt()
    stopped = time.monotonic() - begun
    second = bench.running()
    seconds = float(re.findall(r"ready in ([\d.]+) s", second.text)[-1])
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    sys.stdout.write(
        f"stopped in {stopped:.1f} s, second start {seconds:.1f} s, {busy:.1f} times busy\n"
    )
    assert seconds < 15 * busy
    assert second.state()["ports"] == ports
    assert (stack.data / "token").read_text("utf-8") == token
    assert "the first object is there" in second.text
    assert "not stopped cleanly" not in second.text
    assert get_back(bench, second, body) == body
    listed = lines(
        run(bench.folder, second.env, "ls", "files", "--json", "--data", str(stack.data))
    )
    assert "kept.bin" in [item["name"] for item in listed]


def test_a_broker_that_dies_is_said_and_started_again(bench: Bench) -> None:
    """Goal: Kafka's death is a clear line, and the store goes on. Method: SIGKILL of the JVM."""
    stack = bench.running()
    body = put_some(bench, stack, "before.bin")
    (broker,) = brokers(stack)
    broker.kill()
    stack.until_said("kafka ended unexpectedly (exit code -9); starting it again")

    stack.until(lambda: [one for one in brokers(stack) if one != broker] != [], "new broker")
    assert bench.running() is stack
    again = put_some(bench, stack, "after.bin")
    assert "gateway ended unexpectedly" not in stack.text, "what was replaced did not die"
    assert get_back(bench, stack, again) == again
    assert get_back(bench, stack, body) == body


def test_a_killed_parent_leaves_nothing_running(bench: Bench) -> None:
    """Goal: kill -9 of `tidestore run` ends all, or the next start does. Method: do it."""
    stack = bench.running()
    body = put_some(bench, stack, "survives.bin")
    family = stack.family()
    stack.process.kill()
    stack.process.wait(10)
    deadline = time.monotonic() + 60
    while left(family) and time.monotonic() < deadline:
        time.sleep(0.1)
    lingering = left(family)
    second = bench.running()
    assert left(family) == [], "the next start cleans up"
    if lingering:
        assert "ended what an earlier run left behind" in second.text
    assert get_back(bench, second, body) == body


def test_two_stacks_on_one_folder_are_refused(bench: Bench) -> None:
    """Goal: a second start harms nothing. Method: start it; the first one still answers."""
    stack = bench.running()
    done = run(bench.folder, stack.env, "run", "--data", str(stack.data))
    assert done.returncode == 1
    assert f"a stack (pid {stack.process.pid}) already runs on" in done.stderr
    assert "choose another --data folder" in done.stderr
    assert put_some(bench, stack, "still.bin")


def test_demo_proves_a_folder_on_a_running_stack(bench: Bench, tmp_path: Path) -> None:
    """Goal: `tidestore demo`, with a small folder in place of the data set. Method: its table."""
    stack = bench.running()
    for number in range(12):
        path = tmp_path / "set" / f"part{number % 3}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(300 * number))
    words = ["demo", "--folder", str(tmp_path / "set"), "--data", str(stack.data)]
    done = run(tmp_path, stack.env | {"COLUMNS": "160"}, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 files written, 0 were there" in done.stdout
    assert "0 mismatches on 3 replicas" in done.stdout
    for replica in ("aws", "gcp", "onprem"):
        row = next(line for line in done.stdout.splitlines() if line.startswith(f"│ {replica}"))
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        assert int(cells[1]) >= 12 + 12 + 3 + 1
        assert cells[-2:] == ["0", "0"]
        assert all(f"{word} {replica}" in done.stdout for word in ("on", "reading"))
    victim = next((stack.data / "onprem/public/blobs").iterdir())
    good = victim.read_bytes()
    victim.chmod(0o644)
    victim.write_bytes(good + b"!")
    try:
        done = run(tmp_path, stack.env | {"COLUMNS": "160"}, *words)
        assert done.returncode == 1
        assert "12 were there" in done.stdout
        assert "1 mismatches on 3 replicas" in done.stdout
    finally:
        victim.write_bytes(good)


def test_ctrl_c_while_starting_ends_what_was_started(tmp_path: Path) -> None:
    """Goal: no half stack. Method: SIGINT as soon as there are children."""
    stack = Run(tmp_path / "data")
    stack.until(lambda: len(stack.family()) >= 3, "children")
    family = stack.family()
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(60) == 130
    assert left(family) == []
    assert "interrupted; everything has ended" in stack.text
