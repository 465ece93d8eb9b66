"""The two sides: how each is set up for a round, and how an object is given to it.

Ours is what a user starts: a gateway, a worker for each replica, feeds; new processes, topics and
buckets each round. The peer is MinIO's bucket replication between two versioned buckets. Both get
the same bytes under the same keys, and both are judged by the target's own listing.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
from typing import Final, Protocol

from bench.ground import KAFKA, SOURCE, TARGET, Ground
from bench.wire import S3Server
from tidestore.local.ports import choose_ports
from tidestore.local.servers import is_ready

KEY_PREFIX: Final = "public/blobs/"
_PARTITIONS: Final = 6
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
[[replicas]]
name = "source"
url = "s3://{mark}-source?endpoint=http://127.0.0.1:{source.port}&create=1"
[replicas.credentials]
access_key_id = "plain:{source.key_id}"
secret_access_key = "plain:{source.secret}"
[[replicas]]
name = "target"
url = "s3://{mark}-target?endpoint=http://127.0.0.1:{target.port}&create=1"
[replicas.credentials]
access_key_id = "plain:{target.key_id}"
secret_access_key = "plain:{target.secret}"
"""


class Side(Protocol):
    """One of the two, in a round of its own."""

    name: str
    # Where objects are PUT, and where they are expected.
    port: int
    target: S3Server
    target_bucket: str

    def start(self, number: int) -> None:
        """Set up for a round."""
        ...

    def stop(self) -> None:
        """End what the round started."""
        ...

    def pids(self) -> dict[str, int]:
        """Every process that works in the round."""
        ...

    def put_head(self, sha256: str, size: int) -> bytes:
        """The head of the request that writes an object."""
        ...


class Ours:
    """The product's processes, as a user starts them."""

    name = "ours"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._token = secrets.token_urlsafe(24)
        self.port = choose_ports(["gateway"], {}, {})["gateway"]
        self.target = ground.target
        self.target_bucket = ""
        self._names: list[str] = []

    def start(self, number: int) -> None:
        """Start gateway, workers and feeds on topics and buckets of their own."""
        mark = f"ours-{number}"
        self.target_bucket = f"{mark}-target"
        folder = self._ground.folder / mark
        folder.mkdir()
        config = folder / "tidestore.toml"
        document = _TOML.format(
            bootstrap=self._ground.bootstrap,
            mark=mark,
            partitions=_PARTITIONS,
            port=self.port,
            digest=hashlib.sha256(self._token.encode()).hexdigest(),
            source=self._ground.source,
            target=self._ground.target,
        )
        config.write_text(document, "utf-8")
        for name, words in (
            ("gateway", ["gateway"]),
            ("worker-target", ["worker", "target"]),
            ("worker-source", ["worker", "source"]),
            ("feeds", ["feeds"]),
        ):
            command = [sys.executable, "-m", "tidestore", *words, "--config", str(config)]
            child = self._ground.spawn(name, command, {})
            self._names.append(name)
            if name == "gateway":  # it makes the topics
                self._ground.await_true(child, self._is_ready)
            elif name == "worker-target":  # it makes the bucket
                self._ground.await_true(child, self._has_bucket)

    def _is_ready(self) -> bool:
        return is_ready(f"http://127.0.0.1:{self.port}/readyz")

    def _has_bucket(self) -> bool:
        return self.target.ask("HEAD", f"/{self.target_bucket}").status == 200

    def stop(self) -> None:
        """End the round's processes, the gateway first."""
        for name in self._names:
            self._ground.end(name)
        self._names.clear()

    def pids(self) -> dict[str, int]:
        """Ours, Kafka and both stores."""
        return self._ground.pids(*self._names, KAFKA, SOURCE, TARGET)

    def put_head(self, sha256: str, size: int) -> bytes:
        """A PUT to the gateway."""
        return (
            f"PUT /v1/blobs/{sha256} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Length: {size}\r\n\r\n"
        ).encode()


class Peer:
    """MinIO's bucket replication."""

    name = "peer"

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.port = ground.source.port
        self.target = ground.target
        self.target_bucket = ""

    def start(self, number: int) -> None:
        """Make two versioned buckets and the rule between them."""
        bucket = self.target_bucket = f"peer-{number}"
        for alias in ("source", "target"):
            self._ground.mc("mb", "--with-versioning", f"{alias}/{bucket}")
        target = self._ground.target
        remote = f"http://{target.key_id}:{target.secret}@127.0.0.1:{target.port}/{bucket}"
        words = ("--priority", "1", "--remote-bucket", remote)
        self._ground.mc("replicate", "add", f"source/{bucket}", *words)

    def stop(self) -> None:
        """Nothing was started."""

    def pids(self) -> dict[str, int]:
        """Both stores."""
        return self._ground.pids(SOURCE, TARGET)

    def put_head(self, sha256: str, size: int) -> bytes:
        """A PUT to the source bucket."""
        path = f"/{self.target_bucket}/{KEY_PREFIX}{sha256}"
        return self._ground.source.head_of("PUT", path, length=size)
