"""Read replicas with the clouds' own clients, not with ours: the independent half of a proof.

Nothing here goes through tidestore's stores, gateway or index. What is compared is what any other
program would find.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# What a replica holds: key -> (size, sha256).
Contents = dict[str, tuple[int, str]]
Progress = Callable[[str], None]
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReplicaPlace:
    """Where one replica lies, read from the stack's configuration."""

    name: str
    url: str
    credentials: dict[str, str]


def places_of(config: Path, environ: Mapping[str, str] | None = None) -> list[ReplicaPlace]:
    """The replicas in a tidestore.toml, with their credentials in clear."""
    document = tomllib.loads(config.read_text("utf-8"))
    found = []
    for item in document["replicas"]:
        credentials = {
            name: _secret(config.parent, str(reference), environ or {})
            for name, reference in item.get("credentials", {}).items()
        }
        found.append(ReplicaPlace(item["name"], item["url"], credentials))
    return found


def read_replica(place: ReplicaPlace, progress: Progress, prefix: str = "public/") -> Contents:
    """Every object below a prefix, read whole and hashed here."""
    scheme = urlsplit(place.url).scheme
    readers = {"s3": _read_s3, "gs": _read_gcs, "az": _read_azure, "file": _read_folder}
    found: Contents = {}
    for key, size, digest in readers[scheme](place, prefix):
        found[key] = (size, digest)
        progress(key)
    return found


def s3_client(place: ReplicaPlace) -> Any:
    """Amazon's own client for a replica."""
    import boto3  # noqa: PLC0415  slow to import, and not needed by every command
    from botocore.config import Config  # noqa: PLC0415

    options = parse_qs(urlsplit(place.url).query)
    addressing: Any = options.get("addressing", ["path"])[0]
    return boto3.client(
        "s3",
        endpoint_url=options.get("endpoint", [None])[0],
        region_name=options.get("region", ["us-east-1"])[0],
        aws_access_key_id=place.credentials.get("access_key_id"),
        aws_secret_access_key=place.credentials.get("secret_access_key"),
        aws_session_token=place.credentials.get("session_token"),
        verify=options.get("ca", [None])[0],
        config=Config(s3={"addressing_style": addressing}, max_pool_connections=4),
    )


def gcs_client(place: ReplicaPlace) -> Any:
    """Google's own client for a replica."""
    from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415
    from google.cloud import storage  # noqa: PLC0415

    options = parse_qs(urlsplit(place.url).query)
    endpoint, project = options.get("endpoint", [None])[0], options.get("project", [None])[0]
    more: dict[str, Any] = {"client_options": {"api_endpoint": endpoint}} if endpoint else {}
    if place.credentials.get("anonymous") == "1":
        return storage.Client(
            project=project or "local", credentials=AnonymousCredentials(), **more
        )
    account = place.credentials.get("service_account")
    if account:
        given = json.loads(account)
        return storage.Client.from_service_account_info(
            given, project=project or given.get("project_id"), **more
        )
    return storage.Client(project=project, **more)  # what the machine offers


def azure_client(place: ReplicaPlace) -> Any:
    """Azure's own client for a replica's container."""
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential  # noqa: PLC0415
    from azure.storage.blob import ContainerClient  # noqa: PLC0415

    options, credentials = parse_qs(urlsplit(place.url).query), place.credentials
    endpoint = options.get("endpoint", [""])[0].rstrip("/")
    account = options.get("account", [urlsplit(endpoint).path.strip("/")])[0]
    credential: Any = None
    if credentials.get("account_key"):
        credential = AzureNamedKeyCredential(account, credentials["account_key"])
    elif credentials.get("sas_token"):
        credential = AzureSasCredential(credentials["sas_token"].lstrip("?"))
    elif credentials.get("anonymous") != "1":
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415

        credential = DefaultAzureCredential()  # what the machine offers
    return ContainerClient(
        endpoint or f"https://{account}.blob.core.windows.net",
        urlsplit(place.url).netloc,
        credential=credential,
    )


def _read_s3(place: ReplicaPlace, prefix: str) -> Iterator[tuple[str, int, str]]:
    client, bucket, root = s3_client(place), urlsplit(place.url).netloc, _root_of(place)
    for page in client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=root + prefix
    ):
        for item in page.get("Contents", []):
            sink = _Hashing()
            body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"]
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                sink.write(chunk)
            yield item["Key"].removeprefix(root), sink.size, sink.hexdigest()


def _read_gcs(place: ReplicaPlace, prefix: str) -> Iterator[tuple[str, int, str]]:
    client, root = gcs_client(place), _root_of(place)
    for blob in client.list_blobs(urlsplit(place.url).netloc, prefix=root + prefix):
        sink = _Hashing()
        blob.download_to_file(sink)
        yield blob.name.removeprefix(root), sink.size, sink.hexdigest()


def _read_azure(place: ReplicaPlace, prefix: str) -> Iterator[tuple[str, int, str]]:
    root = _root_of(place)
    with azure_client(place) as client:
        for blob in client.list_blobs(name_starts_with=root + prefix):
            sink = _Hashing()
            for chunk in client.download_blob(blob.name).chunks():
                sink.write(chunk)
            yield blob.name.removeprefix(root), sink.size, sink.hexdigest()


def _read_folder(place: ReplicaPlace, prefix: str) -> Iterator[tuple[str, int, str]]:
    root = Path(unquote(urlsplit(place.url).path))
    for path in sorted((root / prefix).rglob("*")):
        if path.is_file():
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            yield path.relative_to(root).as_posix(), path.stat().st_size, digest


def _root_of(place: ReplicaPlace) -> str:
    """What the keys of a replica have before them in its bucket."""
    path = urlsplit(place.url).path.strip("/")
    return f"{path}/" if path else ""


class _Hashing:
    """Takes an object as a file would, and keeps its size and hash alone: objects may be large."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> int:
        self.size += len(chunk)
        self._digest.update(chunk)
        return len(chunk)

    def tell(self) -> int:
        return self.size

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _secret(folder: Path, reference: str, environ: Mapping[str, str]) -> str:
    kind, _, rest = reference.partition(":")
    if kind == "env":
        return environ.get(rest, "")
    return (folder / rest).read_text("utf-8").strip() if kind == "file" else rest
