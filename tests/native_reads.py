"""One object, or all keys, of a replica by the cloud's own client: quick looks for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from google.api_core.exceptions import NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.world import World


@contextlib.contextmanager
def s3_client(world: World, replica: str) -> Iterator[tuple[Any, str]]:
    """boto3 with the replica's own credentials, and its bucket."""
    url, credentials = world.replicas[replica]
    parts = urlsplit(url)
    client: Any = boto3.client(
        "s3",
        endpoint_url=_endpoint(parts),
        region_name="us-east-1",
        aws_access_key_id=credentials["access_key_id"],
        aws_secret_access_key=credentials["secret_access_key"],
        config=Config(s3={"addressing_style": "path"}),
    )
    try:
        yield client, parts.netloc
    finally:
        client.close()


@contextlib.contextmanager
def gcs_bucket(world: World, replica: str) -> Iterator[Any]:
    """google-cloud-storage without credentials, at the replica's bucket."""
    parts = urlsplit(world.replicas[replica][0])
    client = storage.Client(
        project="local",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": _endpoint(parts)},
    )
    try:
        yield client.bucket(parts.netloc)
    finally:
        client.close()


def read_one(world: World, replica: str, key: str) -> bytes | None:
    """The bytes under a key; None when there is nothing."""
    parts = urlsplit(world.replicas[replica][0])
    if parts.scheme == "s3":
        with s3_client(world, replica) as (client, bucket):
            try:
                return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
                    return None
                raise
    if parts.scheme == "gs":
        with gcs_bucket(world, replica) as bucket:
            try:
                return bytes(bucket.blob(key).download_as_bytes())
            except NotFound:
                return None
    path = Path(unquote(parts.path)) / key
    return path.read_bytes() if path.is_file() else None


def all_keys(world: World, replica: str) -> set[str]:
    """Every key of a replica's bucket or folder, ours or not."""
    parts = urlsplit(world.replicas[replica][0])
    if parts.scheme == "s3":
        with s3_client(world, replica) as (client, bucket):
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            return {item["Key"] for page in pages for item in page.get("Contents", [])}
    if parts.scheme == "gs":
        with gcs_bucket(world, replica) as bucket:
            return {blob.name for blob in bucket.list_blobs()}
    root = Path(unquote(parts.path))
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def open_uploads(world: World, replica: str) -> list[str]:
    """Keys of multipart uploads that were begun and neither completed nor aborted."""
    with s3_client(world, replica) as (client, bucket):
        return [
            item["Key"] for item in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        ]


def _endpoint(parts: SplitResult) -> str:
    return parse_qs(parts.query)["endpoint"][0]
