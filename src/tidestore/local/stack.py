"""One machine's stack: started in order, watched, and ended in the opposite order.

    start:  stores, Kafka --> gateway, one worker per replica, feeds
    end:    gateway --> feeds, workers --> stores --> Kafka, last, cleanly

What dies is started again a few times, with its last words shown; Kafka's death stops the others
first, because they must read again what a broker without a clean shutdown may have lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

from tidestore.local.kafka_server import KafkaServer
from tidestore.local.layout import Layout, write_whole
from tidestore.local.ports import choose_ports
from tidestore.local.processes import Child, PidList
from tidestore.local.servers import (
    GCS_SERVERS,
    S3_SERVERS,
    StoreServer,
    choose,
    gcs_server,
    is_ready,
    s3_server,
)

_PORTS: Final = ["gateway", "broker", "controller", "s3", "gcs"]
_READY_SECONDS_MAX: Final = 60.0
# A child that dies more often than this within a minute has a reason that a restart does not mend.
_RESTARTS_MAX: Final = 5
_RESTARTS_SECONDS: Final = 60.0
# Kafka needs some room to start at all; below this nothing of a try would work.
_DISK_BYTES_MIN: Final = 512 * 1024 * 1024
_POLL_SECONDS: Final = 0.1
# Of a log, when what died is started again anyway.
_WORDS_SHOWN: Final = 3
PARTITIONS: Final = 6
REPLICAS: Final = ("aws", "gcp", "onprem")

Say = Callable[[str], None]


class StackError(Exception):
    """The stack cannot start or go on; the text says why and what to do."""


@dataclass(slots=True)
class StackOptions:
    """What a person may choose."""

    ports: dict[str, int] = field(default_factory=dict)
    workers_per_replica: int = 1
    s3: str | None = None
    gcs: str | None = None


class Stack:
    """The processes of one stack. Belongs to the main thread: children end with it."""

    def __init__(
        self, layout: Layout, environ: Mapping[str, str], options: StackOptions, say: Say
    ) -> None:
        self.layout = layout
        self._environ = environ
        self._options = options
        self._say = say
        self._children: dict[str, Child] = {}
        self._deaths: list[float] = []
        self._lock: TextIO | None = None
        # Ports of the last run that somebody else has now, by name.
        self._moved: dict[str, int] = {}
        self._pids = PidList(layout.data / "pids.json")
        self.state: dict[str, Any] = {}
        self.is_first_start = False

    def start(self, progress: Callable[[KafkaServer], None]) -> None:
        """Start everything; raises StackError, DownloadError, PortError."""
        self._check_place()
        leftovers = self._pids.end_leftovers()
        if leftovers:
            self._say(f"ended what an earlier run left behind: {', '.join(leftovers)}")
        before = self.layout.read_state()
        self.is_first_start = not before
        ports = choose_ports(_PORTS, before.get("ports", {}), self._options.ports)
        self._moved = {
            name: port
            for name, port in before.get("ports", {}).items()
            if name in ("gateway", "broker", "s3", "gcs") and ports[name] != port
        }
        try:
            s3 = choose(S3_SERVERS, before.get("s3") or self._options.s3, self._environ)
            gcs = choose(GCS_SERVERS, before.get("gcs") or self._options.gcs, self._environ)
        except RuntimeError as error:
            raise StackError(str(error)) from None
        mark = before.get("mark") or secrets.token_hex(3)
        self.state = {
            "mark": mark,
            "ports": ports,
            "s3": s3,
            "gcs": gcs,
            "unclean_stops": before.get("unclean_stops", 0),
            "url": f"http://127.0.0.1:{ports['gateway']}",
            "pid": os.getpid(),
        }
        data = self.layout.data
        self._stores = [
            s3_server(s3, data / "s3", data / "secrets", ports["s3"], f"tide-aws-{mark}"),
            gcs_server(gcs, data / "gcs", ports["gcs"], f"tide-gcp-{mark}"),
        ]
        self._kafka = KafkaServer(
            data / "kafka", self.layout.cache, ports["broker"], ports["controller"]
        )
        progress(self._kafka)
        for server in self._stores:
            self._spawn(server.kind, server.command, server.environ)
        self._start_kafka()
        for server in self._stores:
            self._await(server.kind, lambda server=server: is_ready(server.ready_url))  # type: ignore[misc]
        self._start_ours()

    def services(self) -> list[tuple[str, list[str]]]:
        """Our own processes: name and command."""
        python = [sys.executable, "-m", "tidestore"]
        config = ["--config", str(self.layout.config)]
        found = [("gateway", [*python, "gateway", *config])]
        for name in REPLICAS:
            for number in range(self._options.workers_per_replica):
                command = [*python, "worker", name, "--id", str(number), *config]
                found.append((f"worker-{name}-{number}", command))
        found.append(("feeds", [*python, "feeds", *config]))
        return found

    @property
    def stores(self) -> list[StoreServer]:
        """The store servers of this run."""
        return self._stores

    def notes(self) -> list[str]:
        """What a person should know of this stack, a line each."""
        found = [server.note for server in self._stores if server.note]
        found.append("hooks may call this machine (loopback), which a real store refuses")
        for name, port in self._moved.items():
            found.append(f"port {port} is in use now: {name} is at {self.state['ports'][name]}")
        return found

    def pid_of(self, name: str) -> int:
        """The process id of a child."""
        return self._children[name].pid

    def watch(self) -> None:
        """Look once whether everything lives; start again what died. Raises StackError."""
        for name, child in list(self._children.items()):
            code = child.exit_code()
            # What a restart has replaced meanwhile (Kafka's takes all of ours along) did not die.
            if code is None or self._children.get(name) is not child:
                continue
            self._say(f"{name} ended unexpectedly (exit code {code}); starting it again\n"
                      + child.last_words(_WORDS_SHOWN))  # fmt: skip
            now = time.monotonic()
            self._deaths = [t for t in self._deaths if now - t < _RESTARTS_SECONDS] + [now]
            if len(self._deaths) > _RESTARTS_MAX:
                raise StackError(
                    f"{name} keeps ending; the reason is in {child.log}\n{child.last_words()}"
                )
            self._restart(name)

    def restart_gateway(self) -> None:
        """End and start the gateway; for tests of what survives."""
        self._restart("gateway")

    def stop(self) -> None:
        """End everything, in order."""
        ours = [name for name, _ in self.services()]
        waves = [["gateway"], ours, [server.kind for server in getattr(self, "_stores", [])]]
        for wave in [*waves, ["kafka"]]:
            self._end([name for name in wave if name in self._children])
        if self._lock is not None:
            # Whoever has not got the lock has started nothing, and the list is another stack's.
            self._pids.write([])
            self._lock.close()

    def _restart(self, name: str) -> None:
        child = self._children.pop(name)
        child.ask_to_end()
        child.wait_ended()
        if name == "kafka":
            ours = [other for other, _ in self.services() if other in self._children]
            self._end(ours)
            self._start_kafka()
            self._start_ours()
            return
        self._spawn(name, child.command, self._environ_of(name))

    def _environ_of(self, name: str) -> dict[str, str]:
        return next((s.environ for s in self._stores if s.kind == name), {})

    def _end(self, names: list[str]) -> None:
        children = [self._children.pop(name) for name in names]
        for child in children:
            child.ask_to_end()
        for child in children:
            child.wait_ended()

    def _check_place(self) -> None:
        try:
            self.layout.make()
            lock = (self.layout.data / "lock").open("w")
            write_whole(self.layout.data / "writable", "")
            (self.layout.data / "writable").unlink()
        except OSError as error:
            raise StackError(
                f"cannot write to {self.layout.data}: {error.strerror};"
                " choose another --data folder"
            ) from None
        try:
            self.layout.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            lock.close()
            raise StackError(
                f"cannot write to the cache folder {self.layout.cache}: {error.strerror};"
                " choose another with TIDESTORE_CACHE"
            ) from None
        try:
            # Ends with this process however that ends, so it never outlives the stack.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            other = self.layout.read_state().get("pid", "just starting")
            raise StackError(
                f"a stack (pid {other}) already runs on {self.layout.data}; end it with Ctrl-C"
                " there, or choose another --data folder"
            ) from None
        self._lock = lock
        free = shutil.disk_usage(self.layout.data).free
        if free < _DISK_BYTES_MIN:
            raise StackError(
                f"only {free >> 20} MiB are free under {self.layout.data}, Kafka and three replicas"
                f" need at least {_DISK_BYTES_MIN >> 20};"
                " free some, or choose another --data folder"
            )

    def _start_kafka(self) -> None:
        try:
            is_unclean = self._kafka.prepare()
            self._spawn("kafka", self._kafka.command(), {})
        except (OSError, RuntimeError, ImportError) as error:
            raise StackError(f"Kafka cannot start: {error}") from None
        if is_unclean:
            self.state["unclean_stops"] += 1
            self._say(
                "Kafka was not stopped cleanly last time: everything is read again, to be sure"
            )
        port = self.state["ports"]["broker"]
        self._await("kafka", lambda: _answers(port))

    def _start_ours(self) -> None:
        self._write_config()
        self.layout.write_state(self.state)
        for name, command in self.services():
            self._spawn(name, command, {})
        ready = f"{self.state['url']}/readyz"
        self._await("gateway", lambda: is_ready(ready))

    def _spawn(self, name: str, command: list[str], more: Mapping[str, str]) -> None:
        log = self.layout.logs / f"{name}.log"
        # localbucket and others keep a console's habit of buffering; logs must be there at a death.
        environ = {**self._environ, "PYTHONUNBUFFERED": "1", **more}
        try:
            child = Child(name, command, log, environ, self.layout.data)
        except OSError as error:
            raise StackError(f"{name} cannot start: {error}") from None
        self._children[name] = child
        self._pids.write(list(self._children.values()))

    def _await(self, name: str, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _READY_SECONDS_MAX
        child = self._children[name]
        while not is_there():
            code = child.exit_code()
            if code is not None:
                raise StackError(
                    f"{name} ended while starting (exit code {code}):\n{child.last_words()}\n"
                    f"  the whole log is {child.log}"
                )
            if time.monotonic() > deadline:
                raise StackError(
                    f"{name} is not ready after {_READY_SECONDS_MAX:.0f} s:\n{child.last_words()}"
                )
            time.sleep(_POLL_SECONDS)

    def _write_config(self) -> None:
        """Write tidestore.toml; a file that a person changed would be lost, so it says so."""
        data, ports = self.layout.data, self.state["ports"]
        token = self._token()
        digest = hashlib.sha256(token.encode()).hexdigest()
        for name in ("seal_key", "signing_key"):
            key = data / "secrets" / name
            if not key.exists():
                key.parent.mkdir(parents=True, exist_ok=True)
                write_whole(key, secrets.token_hex(32), mode=0o600)
        onprem = (data / "onprem").absolute().as_uri()
        replicas = [
            ("aws", self._stores[0].url, self._stores[0].credentials),
            ("gcp", self._stores[1].url, self._stores[1].credentials),
            ("onprem", onprem, {}),
        ]
        lines = [
            "# Written by `tidestore run` at each start; changes here are lost.",
            'local = true\norigin = "aws"\ndata_folder = "views"',
            f'[kafka]\nbootstrap = "127.0.0.1:{ports["broker"]}"\npartitions = {PARTITIONS}',
            f"replication = 1\nunclean_stops = {self.state['unclean_stops']}",
            f'[gateway]\nport = {ports["gateway"]}\ntokens = {{ local = "{digest}" }}',
            'admins = ["local"]',
            '[hooks]\nseal_key = "file:secrets/seal_key"\nnetworks = ["127.0.0.0/8", "::1/128"]',
            '[scrub]\nsigning_key = "file:secrets/signing_key"',
        ]
        for name, url, credentials in replicas:
            pairs = ", ".join(f'{key} = "{value}"' for key, value in credentials.items())
            lines.append(
                f'[[replicas]]\nname = "{name}"\nurl = "{url}"\ncredentials = {{ {pairs} }}'
            )
        staging = (data / "staging").absolute()
        staging.mkdir(exist_ok=True)
        lines.append(f'[[staging]]\nname = "folder"\nurl = "{staging.as_uri()}"')
        write_whole(self.layout.config, "\n".join(lines) + "\n", mode=0o600)

    def _token(self) -> str:
        if not self.layout.token.exists():
            write_whole(self.layout.token, "tide_" + secrets.token_urlsafe(24), mode=0o600)
        return self.layout.token.read_text("utf-8").strip()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
