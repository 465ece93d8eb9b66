"""The ground that both sides stand on: two MinIO servers, and a Kafka for ours, all on loopback.

The servers and mc are built by scripts/servers (AGPL: for measuring beside us, never shipped). All
data lies in one temporary folder; every process is ended by its pid.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.wire import S3Server
from tidestore.local.download import fetch_all
from tidestore.local.kafka_server import KafkaServer
from tidestore.local.layout import cache_folder
from tidestore.local.ports import choose_ports
from tidestore.local.processes import Child
from tidestore.local.servers import is_ready

ROOT: Final = Path(__file__).resolve().parent.parent
READY_SECONDS_MAX: Final = 90.0
_BUILD_SECONDS_MAX: Final = 3_600
_COMMAND_SECONDS_MAX: Final = 60
_PORTS: Final = ["source", "target", "broker", "controller"]
SOURCE: Final = "minio-source"
TARGET: Final = "minio-target"
KAFKA: Final = "kafka"


class GroundError(Exception):
    """The benchmark cannot be set up; the text says why."""


def find_tools() -> dict[str, Path]:
    """MinIO and mc: on the PATH, or built into the cache, or built now (minutes, needs Go)."""
    built = cache_folder(os.environ) / "bin"
    found: dict[str, Path] = {}
    for name in ("minio", "mc"):
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


class Ground:
    """Servers that run during the whole benchmark."""

    def __init__(self, folder: Path, tools: dict[str, Path]) -> None:
        self.folder = folder
        self._tools = tools
        self._children: dict[str, Child] = {}
        self.ports = choose_ports(_PORTS, {}, {})
        self.source = S3Server(self.ports["source"], secrets.token_hex(8), secrets.token_hex(16))
        self.target = S3Server(self.ports["target"], secrets.token_hex(8), secrets.token_hex(16))

    @property
    def bootstrap(self) -> str:
        """Where Kafka listens."""
        return f"127.0.0.1:{self.ports['broker']}"

    def start(self) -> None:
        """Start all and wait until they answer."""
        for name, server in ((SOURCE, self.source), (TARGET, self.target)):
            self._start_minio(name, server)
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

    def end(self, name: str) -> None:
        """End a process that was spawned; harmless when there is none."""
        child = self._children.pop(name, None)
        if child is not None:
            child.ask_to_end()
            child.wait_ended()

    def await_true(self, child: Child, is_there: Callable[[], bool]) -> None:
        """Wait for a process; raises GroundError with its last words."""
        deadline = time.monotonic() + READY_SECONDS_MAX
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
        """Run MinIO's own client; `source` and `target` are its aliases."""
        environ = {
            **os.environ,
            "MC_CONFIG_DIR": str(self.folder / "mc"),
            "MC_HOST_source": self._alias(self.source),
            "MC_HOST_target": self._alias(self.target),
        }
        done = subprocess.run(
            [self._tools["mc"], "--quiet", "--no-color", *words],
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

    def _alias(self, server: S3Server) -> str:
        return f"http://{server.key_id}:{server.secret}@127.0.0.1:{server.port}"

    def _start_minio(self, name: str, server: S3Server) -> None:
        data = self.folder / name
        data.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{server.port}"
        child = self.spawn(
            name,
            [str(self._tools["minio"]), "server", "--quiet", "--address", address, str(data)],
            {
                "MINIO_ROOT_USER": server.key_id,
                "MINIO_ROOT_PASSWORD": server.secret,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
        )
        self.await_true(child, lambda: is_ready(f"http://{address}/minio/health/ready"))
