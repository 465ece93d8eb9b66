"""Store servers for one machine: which ones there are, how they run, and what they cannot do.

Best first: a MinIO or fake-gcs-server that is on the PATH; else the ones that PyPI has. Which one a
stack began with is kept, because its data lies in that server's own format.

    minio                   lacks nothing
    localbucket             checksums, credentials, content types, conditional replace
    fake-gcs-server         credentials, signed links
    gcp-storage-emulator    preconditions, checksums, credentials, signed links

What a server lacks is declared as a capability gap. All four keep their data over a restart.
"""

from __future__ import annotations

import secrets
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tidestore.local.layout import write_whole

S3_SERVERS: Final = ("minio", "localbucket")
GCS_SERVERS: Final = ("fake-gcs-server", "gcp-storage-emulator")


@dataclass(frozen=True, slots=True)
class StoreServer:
    """A server to start, and the replica URL that leads to it."""

    kind: str
    command: list[str]
    ready_url: str
    url: str
    # Names of credentials and the references that tidestore.toml has for them.
    credentials: dict[str, str]
    environ: dict[str, str] = field(default_factory=dict)
    note: str = ""


def choose(names: tuple[str, ...], before: str | None, environ: Mapping[str, str]) -> str:
    """The server to use: last time's, else the first that is there.

    Raises RuntimeError when last time's is gone.
    """
    path = environ.get("PATH")
    if before is not None:
        if before in names[:-1] and shutil.which(before, path=path) is None:
            raise RuntimeError(
                f"this stack's data was written by {before}, which is not on the PATH now;"
                " put it back, or begin with another --data folder"
            )
        return before
    for name in names[:-1]:
        if shutil.which(name, path=path) is not None:
            return name
    return names[-1]


def s3_server(kind: str, folder: Path, secrets_folder: Path, port: int, bucket: str) -> StoreServer:
    """An S3 API on a port."""
    folder.mkdir(parents=True, exist_ok=True)
    base = f"http://127.0.0.1:{port}"
    url = f"s3://{bucket}?endpoint={base}&create=1"
    if kind == "minio":
        key_id = _kept_secret(secrets_folder / "s3_access_key_id", 10)
        secret = _kept_secret(secrets_folder / "s3_secret_access_key", 20)
        return StoreServer(
            kind=kind,
            command=["minio", "server", "--quiet", "--address", f"127.0.0.1:{port}", str(folder)],
            ready_url=f"{base}/minio/health/ready",
            url=url,
            credentials={
                "access_key_id": "file:secrets/s3_access_key_id",
                "secret_access_key": "file:secrets/s3_secret_access_key",
            },
            environ={
                "MINIO_ROOT_USER": key_id,
                "MINIO_ROOT_PASSWORD": secret,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
        )
    return StoreServer(
        kind=kind,
        command=[
            sys.executable,
            "-m",
            "tidestore.local.s3_server",
            str(folder),
            "--port",
            str(port),
        ],
        ready_url=base,
        url=f"{url}&capabilities=localbucket",
        credentials={"access_key_id": "plain:local", "secret_access_key": "plain:local"},
        note="localbucket checks neither credentials nor checksums (install minio for that)",
    )


def gcs_server(kind: str, folder: Path, port: int, bucket: str) -> StoreServer:
    """A GCS API on a port."""
    folder.mkdir(parents=True, exist_ok=True)
    base = f"http://127.0.0.1:{port}"
    url = f"gs://{bucket}?endpoint={base}&create=1&capabilities={kind}"
    if kind == "fake-gcs-server":
        command = [
            "fake-gcs-server", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port),
            "-backend", "filesystem", "-filesystem-root", str(folder),
            "-public-host", f"127.0.0.1:{port}", "-external-url", base, "-log-level", "error",
        ]  # fmt: skip
        note = "fake-gcs-server knows no credentials and signs no links: reads stream through us"
    else:
        command = [
            sys.executable, "-m", "tidestore.local.gcs_server",
            "--folder", str(folder), "--port", str(port),
        ]  # fmt: skip
        note = (
            "gcp-storage-emulator checks no preconditions, checksums or credentials and signs no"
            " links (install fake-gcs-server for the first two)"
        )
    return StoreServer(
        kind=kind,
        command=command,
        ready_url=f"{base}/storage/v1/b?project=local",
        url=url,
        credentials={"anonymous": "plain:1"},
        note=note,
    )


def is_ready(url: str) -> bool:
    """Whether a server answers, with whatever."""
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310  loopback, made above
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def _kept_secret(path: Path, length_bytes: int) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, secrets.token_hex(length_bytes), mode=0o600)
    return path.read_text("utf-8").strip()
