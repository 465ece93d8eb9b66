"""A store of containers on the host's network: the images of scripts/images, one container each.

The settings are those of docker-compose.yml: no root, no capabilities, a read-only file system.
Ports are free ones, volumes are fresh ones; both are gone after `stop`. testcontainers' own janitor
is off, because its image would have to come from a registry; what a killed session left behind is
removed by the next one.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import os
import secrets
import tarfile
import time
import tomllib
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

from tests.servers.processes import free_port
from tidestore.client import Client
from tidestore.local.readback import Contents, ReplicaPlace, read_replica

ROOT = Path(__file__).parents[2]
TOKEN = "container-test-token"
ARRIVAL_SECONDS = 60.0
# Health is asked every 5 to 10 s, a frozen worker's session lasts 10 s; the rest is a slow machine.
HEALTH_SECONDS = 120.0
_LABEL = "tidestore.test.pid"
_SECURE: dict[str, Any] = {
    "network_mode": "host",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "mem_limit": "1g",
    "pids_limit": 512,
}
_OUR_TMPFS = {"/run/tidestore": "uid=10001,gid=10001,mode=0700,size=4m", "/tmp": "mode=1777"}

testcontainers_config.ryuk_disabled = True


def image(name: str) -> str:
    """An image of this version, as scripts/images names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return f"{name}:{project['version']}"


IMAGES = [
    image(name)
    for name in ("tidestore", "tidestore-kafka", "tidestore-minio", "tidestore-fake-gcs-server")
]


# Docker's SDK, taken from testcontainers: `import docker` is our folder docker/ to a type checker.
Engine = Any
errors: Any = import_module("docker.errors")


def find_engine() -> Engine | None:
    """A client of the engine, if one answers."""
    # Docker's SDK 7.2 leaves the socket of a refused connection to the garbage collector, which
    # would blame the next test for it. Collected here, it is nobody's failure.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            engine: Engine = DockerClient().client
            engine.ping()
        except errors.DockerException:
            engine = None
        gc.collect()
    return engine


class ContainerStack:
    """Kafka, MinIO, fake-gcs-server, a gateway, one worker a replica, and feeds."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mark = f"tidestore-test-{secrets.token_hex(4)}"
        self._containers: dict[str, DockerContainer] = {}
        self._volumes: set[str] = set()
        self._ports = {
            name: free_port() for name in ("kafka", "controller", "minio", "gcs", "gateway")
        }
        self._minio = {"id": secrets.token_hex(8), "secret": secrets.token_hex(16)}

    def start(self) -> None:
        """Start everything, servers first, and wait until each container is healthy."""
        self._remove_leftovers()
        self._start_servers()
        self._await_healthy("kafka", "minio", "gcs")
        self._start_ours("gateway", "gateway")
        self._await_healthy("gateway")
        for replica in ("aws", "gcp", "onprem"):
            self._start_ours(f"worker-{replica}", "worker", replica)
        self._start_ours("feeds", "feeds")
        self._await_healthy("worker-aws", "worker-gcp", "worker-onprem", "feeds")

    def stop(self) -> None:
        """Remove all containers and volumes."""
        for name in reversed(list(self._containers)):
            self._containers.pop(name).stop()
        for volume in self._volumes:
            with contextlib.suppress(errors.NotFound):
                self._engine.volumes.get(volume).remove()

    @property
    def names(self) -> list[str]:
        """All containers."""
        return list(self._containers)

    def container(self, name: str) -> Any:
        """A container as the engine sees it now."""
        wrapped: Any = self._containers[name].get_wrapped_container()
        wrapped.reload()
        return wrapped

    def health(self, name: str) -> str:
        """What the image's HEALTHCHECK found last."""
        return str(self.container(name).attrs["State"]["Health"]["Status"])

    def is_working(self, name: str) -> bool:
        """Run the image's health check now, rather than wait for the engine to do so."""
        found = self.container(name)
        command = self._engine.images.get(found.attrs["Image"]).attrs["Config"]["Healthcheck"]
        return bool(found.exec_run(command["Test"][1:]).exit_code == 0)

    def client(self) -> Client:
        """A client of the gateway."""
        return Client(f"http://127.0.0.1:{self._ports['gateway']}", TOKEN)

    def contents(self, replica: str) -> Contents:
        """What a replica holds: read with the cloud's own client, or out of the folder's volume."""
        if replica == "onprem":
            return self._folder_contents()
        credentials = {
            "access_key_id": self._minio["id"],
            "secret_access_key": self._minio["secret"],
        }
        place = {
            "aws": ReplicaPlace("aws", f"s3://tide-aws?endpoint={self._url('minio')}", credentials),
            "gcp": ReplicaPlace(
                "gcp", f"gs://tide-gcp?endpoint={self._url('gcs')}", {"anonymous": "1"}
            ),
        }[replica]
        return read_replica(place, lambda _: None)

    def last_words(self) -> str:
        """The ends of all logs, for a failure's message."""
        return "\n".join(
            f"== {name} ({self.container(name).status})\n"
            + self.container(name).logs(tail=20).decode("utf-8", "replace")
            for name in self._containers
        )

    def _folder_contents(self) -> Contents:
        chunks, _ = self.container("worker-onprem").get_archive("/var/lib/onprem/public")
        found: Contents = {}
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            for member in archive:
                body = archive.extractfile(member) if member.isfile() else None
                if body is not None:
                    data = body.read()
                    found[member.name] = (len(data), hashlib.sha256(data).hexdigest())
        return found

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def _start_servers(self) -> None:
        kafka, minio, gcs = self._ports["kafka"], self._url("minio"), self._url("gcs")
        self._run(
            "kafka",
            image("tidestore-kafka"),
            None,
            {
                "KAFKA_LISTEN": "127.0.0.1",
                "KAFKA_ADVERTISED": "127.0.0.1",
                "KAFKA_PORT": str(kafka),
                "KAFKA_CONTROLLER_PORT": str(self._ports["controller"]),
            },
            {"kafka": "/var/lib/kafka", "broker": "/var/lib/broker"},
            tmpfs={"/tmp": "exec,mode=1777"},
        )
        self._run(
            "minio",
            image("tidestore-minio"),
            ["server", "--quiet", "--address", minio.removeprefix("http://"), "/var/lib/minio"],
            {
                "MINIO_ROOT_USER": self._minio["id"],
                "MINIO_ROOT_PASSWORD": self._minio["secret"],
                "HEALTH_URL": f"{minio}/minio/health/ready",
            },
            {"minio": "/var/lib/minio"},
        )
        self._run(
            "gcs",
            image("tidestore-fake-gcs-server"),
            ["-scheme", "http", "-host", "127.0.0.1", "-port", str(self._ports["gcs"]),
             "-backend", "filesystem", "-filesystem-root", "/var/lib/gcs", "-log-level", "error"],
            {"HEALTH_URL": f"{gcs}/storage/v1/b?project=local"},
            {"gcs": "/var/lib/gcs"},
        )  # fmt: skip

    def _start_ours(self, name: str, *command: str) -> None:
        environ = {
            "KAFKA_BOOTSTRAP": f"127.0.0.1:{self._ports['kafka']}",
            "KAFKA_UNCLEAN_FILE": "/var/lib/broker/unclean_stops",
            "MINIO_URL": self._url("minio"),
            "MINIO_PUBLIC_URL": self._url("minio"),
            "FAKE_GCS_URL": self._url("gcs"),
            "TIDESTORE_HOST": "127.0.0.1",
            "TIDESTORE_LISTEN_PORT": str(self._ports["gateway"]),
            "TIDESTORE_TOKEN_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
            "TIDESTORE_SEAL_KEY": "seal",
            "TIDESTORE_HOOK_NETWORKS": "[]",
            "MINIO_ROOT_USER": self._minio["id"],
            "MINIO_ROOT_PASSWORD": self._minio["secret"],
        }
        volumes = {
            "views": "/var/lib/tidestore",
            "onprem": "/var/lib/onprem",
            "broker": "/var/lib/broker",
        }
        self._run(name, image("tidestore"), list(command), environ, volumes, tmpfs=_OUR_TMPFS)

    def _run(
        self,
        name: str,
        image_name: str,
        command: list[str] | None,
        environ: dict[str, str],
        volumes: dict[str, str],
        *,
        tmpfs: dict[str, str] | None = None,
    ) -> None:
        made = DockerContainer(image_name).with_name(f"{self._mark}-{name}").with_envs(**environ)
        if command is not None:
            made.with_command(command)
        for volume, place in volumes.items():
            made.with_volume_mapping(f"{self._mark}-{volume}", place, "rw")
            self._volumes.add(f"{self._mark}-{volume}")
        if image_name == image("tidestore"):
            template = ROOT / "docker" / "tidestore.toml"
            made.with_volume_mapping(template, "/etc/tidestore/tidestore.toml", "ro")
        for place, options in (tmpfs or {"/tmp": "mode=1777"}).items():
            made.with_tmpfs_mount(place, options)
        made.with_kwargs(**_SECURE, labels={_LABEL: str(os.getpid())})
        self._containers[name] = made
        made.start()

    def _await_healthy(self, *names: str) -> None:
        for name in names:
            self.until(lambda name=name: self.health(name) == "healthy", f"{name} is healthy")  # type: ignore[misc]

    def until(
        self, condition: Callable[[], bool], claim: str, seconds: float = HEALTH_SECONDS
    ) -> None:
        """Wait for a condition; raises AssertionError with all last words."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {seconds:.0f} s: {claim}\n{self.last_words()}")
            time.sleep(0.3)

    def _remove_leftovers(self) -> None:
        for found in self._engine.containers.list(all=True, filters={"label": _LABEL}):
            if not Path(f"/proc/{found.labels[_LABEL]}").exists():
                found.remove(force=True)
