"""Store servers for tests: real ones where Go is there, PyPI's always.

Each server has credentials of its own; each test asks for buckets of its own. So no two replicas of
a test share a bucket name, a key or a byte (the ancestor's worst defects hid behind equal names).
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.processes import Process, free_port
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.local.layout import cache_folder
from tidestore.local.servers import is_ready


def find_binary(name: str) -> str | None:
    """A program on the PATH, or one that scripts/servers built into the cache."""
    found = shutil.which(name)
    if found:
        return found
    built = cache_folder(os.environ) / "bin" / name
    return str(built) if built.is_file() else None


@dataclass(slots=True)
class StoreServer:
    """A running server, and how to make replicas on it."""

    kind: str
    scheme: str
    endpoint: str
    process: Process
    credentials: dict[str, str]
    capabilities: str = ""
    _count: int = field(default=0)

    def new_url(self, word: str = "bucket", prefix: str = "") -> str:
        """A replica URL with a bucket that nobody else has."""
        bucket = f"{word}-{secrets.token_hex(5)}"
        tail = f"/{prefix}" if prefix else ""
        more = f"&capabilities={self.capabilities}" if self.capabilities else ""
        return f"{self.scheme}://{bucket}{tail}?endpoint={self.endpoint}&create=1{more}"

    def address(self, url: str) -> StoreAddress:
        """The address of a replica on this server."""
        secret = {name: Secret(text) for name, text in self.credentials.items()}
        return StoreAddress.parse(url, secret)


def start_minio(folder: Path, binary: str) -> StoreServer:
    """MinIO with credentials of its own."""
    port, key_id, secret = free_port(), secrets.token_hex(8), secrets.token_hex(16)
    endpoint = f"http://127.0.0.1:{port}"
    process = Process(
        "minio",
        [binary, "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder / "data")],
        folder / "minio.log",
        environ={
            "MINIO_ROOT_USER": key_id,
            "MINIO_ROOT_PASSWORD": secret,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
        is_ready=lambda: is_ready(f"{endpoint}/minio/health/ready"),
    )
    process.start()
    credentials = {"access_key_id": key_id, "secret_access_key": secret}
    return StoreServer("minio", "s3", endpoint, process, credentials)


def start_localbucket(folder: Path) -> StoreServer:
    """The S3 API that PyPI has."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    process = Process(
        "localbucket",
        [sys.executable, "-m", "tidestore.local.s3_server", str(data), "--port", str(port)],
        folder / "localbucket.log",
        is_ready=lambda: is_ready(endpoint),
    )
    process.start()
    credentials = {"access_key_id": "local", "secret_access_key": "local"}
    return StoreServer("localbucket", "s3", endpoint, process, credentials, "localbucket")


def start_fake_gcs(folder: Path, binary: str) -> StoreServer:
    """fake-gcs-server, keeping its data on disk."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        binary, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
        "-backend", "filesystem", "-filesystem-root", str(folder / "data"),
        "-public-host", f"127.0.0.1:{port}", "-external-url", endpoint, "-log-level", "error",
    ]  # fmt: skip
    (folder / "data").mkdir(parents=True, exist_ok=True)
    ready = f"{endpoint}/storage/v1/b?project=local"
    process = Process("fake-gcs", command, folder / "gcs.log", is_ready=lambda: is_ready(ready))
    process.start()
    return StoreServer(
        "fake-gcs-server", "gs", endpoint, process, {"anonymous": "1"}, "fake-gcs-server"
    )


def start_azurite(folder: Path, binary: str) -> StoreServer:
    """Azurite's Blob service, with an account and a key of its own."""
    port, account = free_port(), f"account{secrets.token_hex(4)}"
    key = b64encode(secrets.token_bytes(64)).decode()
    endpoint = f"http://127.0.0.1:{port}/{account}"
    process = Process(
        "azurite",
        [
            binary, "--blobHost", "127.0.0.1", "--blobPort", str(port),
            "--location", str(folder / "data"), "--silent", "--disableTelemetry",
            # It refuses versions of the API that are newer than itself, which pinned clients speak.
            "--skipApiVersionCheck",
        ],
        folder / "azurite.log",
        environ={"AZURITE_ACCOUNTS": f"{account}:{key}"},
        is_ready=lambda: is_ready(f"{endpoint}?comp=list"),
    )  # fmt: skip
    process.start()
    return StoreServer("azurite", "az", endpoint, process, {"account_key": key}, "azurite")


def start_gcs_emulator(folder: Path) -> StoreServer:
    """The GCS API that PyPI has, as the product runs it."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "tidestore.local.gcs_server",
        "--folder", str(folder / "data"), "--port", str(port),
    ]  # fmt: skip
    ready = f"{endpoint}/storage/v1/b?project=local"
    process = Process("gcs", command, folder / "gcs.log", is_ready=lambda: is_ready(ready))
    process.start()
    return StoreServer(
        "gcp-storage-emulator", "gs", endpoint, process, {"anonymous": "1"}, "gcp-storage-emulator"
    )
