"""Read replicas with the clouds' own clients, not with ours: the independent half of a proof.

Nothing here goes through tidestore's stores, gateway or index. What is compared is what any other
program would find.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# What a replica holds: key -> (size, sha256).
Contents = dict[str, tuple[int, str]]
Progress = Callable[[str], None]


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
    readers = {"s3": _read_s3, "gs": _read_gcs, "file": _read_folder}
    found: Contents = {}
    for key, size, digest in readers[scheme](place, prefix):
        found[key] = (size, digest)
        progress(key)
    return found


def _read_s3(place: ReplicaPlace, prefix: str) -> Iterator[tuple[str, int, str]]:
    import boto3  # noqa: PLC0415  slow to import, and not needed by every command
    from botocore.config import Config  # noqa: PLC0415

    parts = urlsplit(place.url)
    options = parse_qs(parts.query)
    client: Any = boto3.client(
        "s3",
        endpoint_url=options.get("endpoint", [None])[0],
        region_name=options.get("region", ["us-east-1"])[0],
        aws_access_key_id=place.credentials.get("access_key_id"),
        aws_secret_access_key=place.credentials.get("secret_access_key"),
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=4),
    )
    for page in client.get_paginator("list_objects_v2").paginate(
        Bucket=parts.netloc, Prefix=prefix
    ):
        for item in page.get("Contents", []):
            body = client.get_object(Bucket=parts.netloc, Key=item["Key"])["Body"]
            digest, size = hashlib.sha256(), 0
            for chunk in body.iter_chunks(1024 * 1024):
                digest.update(chunk)
                size += len(chunk)
            yield item["Key"], size, digest.hexdigest()


def _read_gcs(place: ReplicaPlace, prefix: str) -> Iterator[tuple[str, int, str]]:
    from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415
    from google.cloud import storage  # noqa: PLC0415

    parts = urlsplit(place.url)
    endpoint = parse_qs(parts.query).get("endpoint", [None])[0]
    client = storage.Client(
        project="local",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": endpoint} if endpoint else None,
    )
    for blob in client.list_blobs(parts.netloc, prefix=prefix):
        data = blob.download_as_bytes()
        yield blob.name, len(data), hashlib.sha256(data).hexdigest()


def _read_folder(place: ReplicaPlace, prefix: str) -> Iterator[tuple[str, int, str]]:
    root = Path(unquote(urlsplit(place.url).path))
    for path in sorted((root / prefix).rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            yield path.relative_to(root).as_posix(), len(data), hashlib.sha256(data).hexdigest()


def _secret(folder: Path, reference: str, environ: Mapping[str, str]) -> str:
    kind, _, rest = reference.partition(":")
    if kind == "env":
        return environ.get(rest, "")
    return (folder / rest).read_text("utf-8").strip() if kind == "file" else rest
