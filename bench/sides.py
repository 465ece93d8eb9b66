"""The two sides: how each is set up for a round, and how an object is given to it.

Ours is what a user starts: a gateway, a worker for each replica, feeds; new processes, topics and
buckets each round. The peer is MinIO's bucket replication between versioned buckets. Both get the
same bytes under the same keys, and both are judged by the targets' own listings.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bench.ground import KAFKA, READY_SECONDS_MAX, SOURCE, TARGET, Ground, GroundError, alias_of
from bench.wire import Answer, Connection, S3Server, WireError
from tidestore.local.ports import choose_ports
from tidestore.local.servers import is_ready

KEY_PREFIX: Final = "public/blobs/"
PARTITIONS: Final = 6
_READY: Final = ": ready"
_LINE_SECONDS: Final = 0.005
_RESTARTS_MAX: Final = 3
_TOML: Final = """\
origin = "source"
data_folder = "views"
[kafka]
bootstrap = "{bootstrap}"
topic_prefix = "{mark}."
partitions = {partitions}
replication = 1
[gateway]
port = {port}
tokens = {{ bench = "{digest}" }}
[hooks]
seal_key = "plain:seal"
"""
_REPLICA: Final = """\
[[replicas]]
name = "{name}"
url = "s3://{mark}-{name}?endpoint=http://127.0.0.1:{port}&create=1"
[replicas.credentials]
access_key_id = "plain:{server.key_id}"
secret_access_key = "plain:{server.secret}"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket in which copies are expected."""

    server: S3Server
    bucket: str


class Side(Protocol):
    """One of the two, in a round of its own."""

    name: str
    # Where objects are PUT, and where they are expected first.
    port: int
    target: S3Server
    target_bucket: str

    def start(self, number: int) -> None:
        """Set up for a round."""
        ...

    def stop(self) -> None:
        """End what the round started."""
        ...

    def forget(self) -> None:
        """Give back what a round that is over takes of the disk."""
        ...

    def pids(self) -> dict[str, int]:
        """Every process that works in the round."""
        ...

    def places(self) -> list[Place]:
        """Every bucket in which copies are expected."""
        ...

    def put_head(self, sha256: str, size: int) -> bytes:
        """The head of the request that writes an object."""
        ...


class Ours:
    """The product's processes, as a user starts them.

    `targets` are replicas and the servers they lie on; `idle` names processes that a load starts
    later, or never. `source_port` leads to the origin's server by another way than straight.
    """

    name = "ours"

    def __init__(
        self,
        ground: Ground,
        mark: str = "ours",
        targets: Sequence[tuple[str, str]] = (("target", TARGET),),
        *,
        idle: Collection[str] = (),
        extra_toml: str = "",
        source_port: int | None = None,
    ) -> None:
        self._ground = ground
        self._word = mark
        self._targets = targets
        self._idle = idle
        self._extra_toml = extra_toml
        self._source_port = source_port or ground.source.port
        self._token = secrets.token_urlsafe(24)
        self.port = choose_ports(["gateway"], {}, {})["gateway"]
        self.target = ground.stores[targets[0][1]]
        self.target_bucket = self.mark = ""
        self._names: list[str] = []

    def start(self, number: int) -> None:
        """Start gateway, workers and feeds on topics and buckets of their own."""
        self.mark = f"{self._word}-{number}"
        self.target_bucket = f"{self.mark}-{self._targets[0][0]}"
        self.folder = self._ground.folder / self.mark
        self.folder.mkdir()
        text = _TOML.format(
            bootstrap=self._ground.bootstrap,
            mark=self.mark,
            partitions=PARTITIONS,
            port=self.port,
            digest=hashlib.sha256(self._token.encode()).hexdigest(),
        )
        replicas = [("source", self._ground.source, self._source_port)]
        replicas += [
            (name, server := self._ground.stores[store], server.port)
            for name, store in self._targets
        ]
        for name, server, port in replicas:
            text += _REPLICA.format(name=name, mark=self.mark, server=server, port=port)
        (self.folder / "tidestore.toml").write_text(text + self._extra_toml, "utf-8")
        workers = [f"worker-{name}" for name, _ in self._targets]
        for name in ("gateway", *workers, "worker-source", "feeds"):
            if name not in self._idle:
                self.begin(name)

    def begin(self, name: str, seconds_max: float = READY_SECONDS_MAX) -> None:
        """Start one process; gateway and workers of targets are waited for."""
        kind, _, replica = name.partition("-")
        command = [sys.executable, "-m", "tidestore", kind, *([replica] if replica else [])]
        command += ["--config", str(self.folder / "tidestore.toml")]
        child = self._ground.spawn(name, command, {})
        self._names.append(name)
        if name == "gateway":  # it makes the topics
            for _ in range(_RESTARTS_MAX):
                with contextlib.suppress(GroundError):
                    self._ground.await_true(child, self.is_ready, seconds_max)
                    return
                if child.exit_code() is None:
                    break
                # It gives up when a busy broker has no leader yet for its new topics: a supervisor
                # starts it again, and so do we.
                sys.stderr.write(
                    f"the gateway ended and is started again:\n{child.last_words(2)}\n"
                )
                child = self._ground.spawn(name, command, {})
            self._ground.await_true(child, self.is_ready, seconds_max)
        elif replica and replica != "source":  # it makes the bucket
            bucket = f"{self.mark}-{replica}"
            server = self._ground.stores[dict(self._targets)[replica]]
            self._ground.await_true(child, lambda: server.ask("HEAD", f"/{bucket}").status == 200)

    def end(self, name: str) -> None:
        """End one process."""
        self._ground.end(name)
        self._names.remove(name)

    def kill(self, name: str) -> None:
        """SIGKILL one process."""
        self._ground.kill(name)
        self._names.remove(name)

    def await_line(self, name: str, words: str, since: int) -> float:
        """The moment when a process' log says something beyond an offset; raises GroundError."""
        return self._ground.await_line(name, words, since, _LINE_SECONDS)

    def await_worker(self, name: str, since: int) -> float:
        """The moment when a worker says that it is ready."""
        return self.await_line(name, _READY, since)

    def is_ready(self) -> bool:
        """Whether the gateway knows the log."""
        return is_ready(f"http://127.0.0.1:{self.port}/readyz")

    def stop(self) -> None:
        """End the round's processes."""
        self._ground.end(*self._names)
        self._names.clear()

    def forget(self) -> None:
        """Remove buckets and topics."""
        if self.mark:
            for name, store in (("source", SOURCE), *self._targets):
                self._ground.remove_bucket(store, f"{self.mark}-{name}")
            self._ground.remove_topics(f"{self.mark}.")

    def pids(self) -> dict[str, int]:
        """Ours, Kafka and the stores."""
        stores = dict.fromkeys((SOURCE, *(store for _, store in self._targets)))
        return self._ground.pids(*self._names, KAFKA, *stores)

    def places(self) -> list[Place]:
        """The targets' buckets."""
        return [
            Place(self._ground.stores[store], f"{self.mark}-{name}")
            for name, store in self._targets
        ]

    def put_head(self, sha256: str, size: int) -> bytes:
        """A PUT to the gateway."""
        return self.head("PUT", f"/v1/blobs/{sha256}", size)

    def head(self, method: str, path: str, size: int = 0) -> bytes:
        """The head of any request to the gateway."""
        return (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Length: {size}\r\n\r\n"
        ).encode()

    def ask(self, connection: Connection, method: str, path: str, body: bytes = b"") -> Answer:
        """A request to the gateway; raises WireError when it is refused."""
        answer = connection.ask(self.head(method, path, len(body)), body)
        if answer.status >= 300:
            raise WireError(f"{method} {path[:80]}: {answer.status} {answer.body[:300]!r}")
        return answer

    def read(self, connection: Connection, path: str) -> Any:
        """What the gateway answers, as JSON."""
        return json.loads(self.ask(connection, "GET", path).body)

    def await_read(self, path: str, is_it: Any, seconds_max: float) -> None:
        """Wait until the gateway's answer is as wanted; raises GroundError."""
        deadline = time.monotonic() + seconds_max
        with contextlib.closing(Connection(self.port)) as connection:
            while True:
                with contextlib.suppress(WireError):
                    if is_it(self.read(connection, path)):
                        return
                if time.monotonic() > deadline:
                    raise GroundError(f"GET {path} does not become what it should be")
                time.sleep(_LINE_SECONDS)


class Peer:
    """MinIO's bucket replication, to one target or more."""

    name = "peer"

    def __init__(
        self, ground: Ground, mark: str = "peer", targets: Sequence[str] = (TARGET,)
    ) -> None:
        self._ground = ground
        self._word = mark
        self._targets = targets
        self.port = ground.source.port
        self.target = ground.stores[targets[0]]
        self.target_bucket = ""

    def start(self, number: int) -> None:
        """Make versioned buckets, and a rule for each target."""
        bucket = self.target_bucket = f"{self._word}-{number}"
        for store in (SOURCE, *self._targets):
            self._ground.mc("mb", "--with-versioning", f"{alias_of(store)}/{bucket}")
        for priority, store in enumerate(self._targets, 1):
            target = self._ground.stores[store]
            remote = f"http://{target.key_id}:{target.secret}@127.0.0.1:{target.port}/{bucket}"
            words = ("--priority", str(priority), "--remote-bucket", remote)
            self._ground.mc("replicate", "add", f"{alias_of(SOURCE)}/{bucket}", *words)

    def stop(self) -> None:
        """Nothing was started."""

    def forget(self) -> None:
        """Remove rules and buckets."""
        if self.target_bucket:
            self._ground.remove_bucket(SOURCE, self.target_bucket, has_rules=True)
            for store in self._targets:
                self._ground.remove_bucket(store, self.target_bucket)

    def pids(self) -> dict[str, int]:
        """All stores."""
        return self._ground.pids(SOURCE, *self._targets)

    def places(self) -> list[Place]:
        """The targets' buckets."""
        return [Place(self._ground.stores[store], self.target_bucket) for store in self._targets]

    def put_head(self, sha256: str, size: int) -> bytes:
        """A PUT to the source bucket."""
        path = f"/{self.target_bucket}/{KEY_PREFIX}{sha256}"
        return self._ground.source.head_of("PUT", path, length=size)
