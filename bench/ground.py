"""The ground that both sides stand on: MinIO servers, and a Kafka for ours, all on loopback.

Two servers run all the time, a third one while a load wants it. They and mc are built by
scripts/servers (AGPL: for measuring beside us, never shipped). All data lies in one temporary
folder; every process is ended by its pid.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from bench.wire import S3Server
from tidestore.local.download import fetch_all
from tidestore.local.kafka_server import KafkaServer
from tidestore.local.layout import cache_folder
from tidestore.local.ports import choose_ports, is_free
from tidestore.local.processes import Child
from tidestore.local.servers import is_ready

ROOT: Final = Path(__file__).resolve().parent.parent
READY_SECONDS_MAX: Final = 90.0
_BUILD_SECONDS_MAX: Final = 3_600
_COMMAND_SECONDS_MAX: Final = 60
_TOPICS_SECONDS_MAX: Final = 30
SOURCE: Final = "minio-source"
TARGET: Final = "minio-target"
SECOND: Final = "minio-second"
KAFKA: Final = "kafka"
STORES: Final = (SOURCE, TARGET, SECOND)
# A store that is down for a while must find its port free: below those that connections get.
_PORTS_LOW: Final = range(20_000, 30_000)


class GroundError(Exception):
    """The benchmark cannot be set up; the text says why."""


def find_tools(*more: str) -> dict[str, Path]:
    """MinIO, mc and what else is named: on the PATH, else from the cache, else built now.

    Building takes minutes and needs Go.
    """
    built = cache_folder(os.environ) / "bin"
    found: dict[str, Path] = {}
    for name in ("minio", "mc", *more):
        there = shutil.which(name) or str(built / name)
        if not Path(there).is_file():
            subprocess.run(
                [ROOT / "scripts" / "servers", name],
                check=True,
                timeout=_BUILD_SECONDS_MAX,
                stdout=subprocess.DEVNULL,
            )
        if not Path(there).is_file():
            raise GroundError(f"there is no {name}, and scripts/servers could not build it")
        found[name] = Path(there)
    return found


def alias_of(store: str) -> str:
    """What MinIO's client calls a store."""
    return store.removeprefix("minio-")


class Ground:
    """Servers that run during the whole benchmark."""

    def __init__(self, folder: Path, tools: dict[str, Path]) -> None:
        self.folder = folder
        self.tools = tools
        self._children: dict[str, Child] = {}
        free = random.sample(_PORTS_LOW, len(_PORTS_LOW))
        low = dict(zip(STORES, filter(is_free, free), strict=False))
        self.ports = {**low, **choose_ports(["broker", "controller"], {}, {})}
        self.stores = {
            name: S3Server(self.ports[name], secrets.token_hex(8), secrets.token_hex(16))
            for name in STORES
        }
        self.source, self.target = self.stores[SOURCE], self.stores[TARGET]

    @property
    def bootstrap(self) -> str:
        """Where Kafka listens."""
        return f"127.0.0.1:{self.ports['broker']}"

    def start(self) -> None:
        """Start all and wait until they answer."""
        for name in (SOURCE, TARGET):
            self.start_store(name)
        kafka = KafkaServer(
            self.folder / KAFKA,
            cache_folder(os.environ),
            self.ports["broker"],
            self.ports["controller"],
        )
        fetch_all(kafka.jars(), lambda _: None)
        kafka.prepare()
        self.await_true(self.spawn(KAFKA, kafka.command(), {}), self._is_kafka_there)

    def stop(self) -> None:
        """End all, the stores first and Kafka last."""
        for name in list(self._children):
            self.end(name)

    def pids(self, *names: str) -> dict[str, int]:
        """Process ids by name."""
        return {name: self._children[name].pid for name in names}

    def spawn(self, name: str, command: list[str], more: dict[str, str]) -> Child:
        """Start a process whose log is named after it."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, "PYTHONUNBUFFERED": "1", **more}
        child = Child(name, command, logs / f"{name}.log", environ, self.folder)
        self._children[name] = child
        return child

    def end(self, *names: str) -> None:
        """End processes that were spawned, side by side; harmless when there are none."""
        children = [child for name in names if (child := self._children.pop(name, None))]
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGCONT)  # one that stands still would not end
            child.ask_to_end()
        for child in children:
            child.wait_ended()

    def kill(self, name: str) -> None:
        """SIGKILL a process and wait until it is gone."""
        child = self._children.pop(name)
        os.kill(child.pid, signal.SIGKILL)
        child.wait_ended()

    def freeze(self, name: str) -> None:
        """Let a process stand still."""
        os.kill(self._children[name].pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        os.kill(self._children[name].pid, signal.SIGCONT)

    def mend(self) -> None:
        """After a load that failed half way: the two stores run again, the third one does not."""
        self.end(SECOND)
        for name in (SOURCE, TARGET):
            if name in self._children and self._children[name].exit_code() is None:
                self.thaw(name)
            else:
                self.end(name)
                self.start_store(name)

    def log_size(self, name: str) -> int:
        """How long a process' log is now; 0 when it never ran."""
        log = self.folder / "logs" / f"{name}.log"
        return log.stat().st_size if log.exists() else 0

    def await_line(self, name: str, words: str, since: int, pause_seconds: float) -> float:
        """The moment when a log has these words beyond an offset; raises GroundError."""
        child, deadline = self._children[name], time.monotonic() + READY_SECONDS_MAX
        while True:
            with child.log.open("rb") as opened:
                opened.seek(since)
                if words.encode() in opened.read():
                    return time.monotonic()
            if child.exit_code() is not None or time.monotonic() > deadline:
                raise GroundError(f"{name} does not say {words!r}:\n{child.last_words()}")
            time.sleep(pause_seconds)

    def await_true(
        self,
        child: Child,
        is_there: Callable[[], bool],
        seconds_max: float = READY_SECONDS_MAX,
    ) -> None:
        """Wait for a process; raises GroundError with its last words."""
        deadline = time.monotonic() + seconds_max
        while not is_there():
            if child.exit_code() is not None or time.monotonic() > deadline:
                raise GroundError(f"{child.name} is not ready:\n{child.last_words()}")
            time.sleep(0.05)

    def check_alive(self) -> None:
        """Raise GroundError when a process has ended."""
        for name, child in self._children.items():
            if child.exit_code() is not None:
                raise GroundError(f"{name} ended ({child.exit_code()}):\n{child.last_words()}")

    def mc(self, *words: str) -> None:
        """Run MinIO's own client; alias_of() names the stores."""
        hosts = {
            f"MC_HOST_{alias_of(name)}": f"http://{server.key_id}:{server.secret}"
            f"@127.0.0.1:{server.port}"
            for name, server in self.stores.items()
        }
        environ = {**os.environ, "MC_CONFIG_DIR": str(self.folder / "mc"), **hosts}
        done = subprocess.run(
            [self.tools["mc"], "--quiet", "--no-color", *words],
            env=environ,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS_MAX,
            check=False,
        )
        if done.returncode:
            raise GroundError(f"mc {words[0]} {words[1]}: {done.stdout}{done.stderr}")

    def _is_kafka_there(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.ports["broker"]), timeout=1):
                return True
        except OSError:
            return False

    def remove_bucket(self, store: str, bucket: str, *, has_rules: bool = False) -> None:
        """Remove a bucket with all that is in it; what stays costs disk and nothing else."""
        if store not in self._children:
            return
        with contextlib.suppress(GroundError, subprocess.TimeoutExpired):
            place = f"{alias_of(store)}/{bucket}"
            if has_rules:
                self.mc("replicate", "rm", "--all", "--force", place)
            self.mc("rb", "--force", place)

    def remove_topics(self, prefix: str) -> None:
        """Remove the topics of a store that has ended; what stays costs disk and nothing else."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        with contextlib.suppress(KafkaException):
            known = admin.list_topics(timeout=_TOPICS_SECONDS_MAX).topics
            names = [name for name in known if name.startswith(prefix)]
            for future in admin.delete_topics(names).values() if names else ():
                future.result(_TOPICS_SECONDS_MAX)

    def start_store(self, name: str) -> None:
        """Start a MinIO, on what it had before."""
        server = self.stores[name]
        data = self.folder / name
        data.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{server.port}"
        child = self.spawn(
            name,
            [str(self.tools["minio"]), "server", "--quiet", "--address", address, str(data)],
            {
                "MINIO_ROOT_USER": server.key_id,
                "MINIO_ROOT_PASSWORD": server.secret,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
        )
        self.await_true(child, lambda: is_ready(f"http://{address}/minio/health/ready"))
