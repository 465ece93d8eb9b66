"""Large objects: a worker that dies in their middle, and uploads that nobody goes on with."""

from __future__ import annotations

import hashlib
import secrets
import time
import urllib.request
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Servers, WorldMaker
from tests.servers.processes import free_port
from tests.servers.wire import Wire
from tests.world import World, random_body
from tidestore.client import Client
from tidestore.connectors.conformance.made import key_of
from tidestore.connectors.gcs import GcsStore
from tidestore.connectors.gcs_upload import PARTS_PREFIX
from tidestore.connectors.parts import MIB, PART_BYTES_USUAL
from tidestore.connectors.s3 import S3Store
from tidestore.connectors.sweep import UPLOAD_LIFE_MS, sweep_uploads
from tidestore.schemas.objects import ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

# Six parts, of which four may be in flight.
SIZE = 5 * PART_BYTES_USUAL + 4321


# By replica: its server, and how large objects are written there.
SERVERS = {"aws": "minio", "gcp": "fake-gcs-server"}
Straight = S3Store | GcsStore


@pytest.fixture(params=sorted(SERVERS))
async def straight(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Straight]:
    """A bucket of its own, as the product's adapter of that cloud sees it."""
    server = servers.get(SERVERS[request.param])
    made = S3Store if server.scheme == "s3" else GcsStore
    store = made(request.param, server.address(server.new_url("large")))
    await store.open()
    yield store
    await store.close()


def bucket_of(store: Straight) -> str:
    return store.bucket if isinstance(store, S3Store) else str(store.bucket.name)


async def bytes_there(store: Straight, key: str) -> int:
    """What the server itself says it has of a key's only open upload."""
    if isinstance(store, GcsStore):
        folder = f"{PARTS_PREFIX}{key}/"
        return sum([int(blob.size or 0) async for blob in store.blobs("list", key, folder)])
    place: Any = {"Bucket": store.bucket, "Key": key}
    client: Any = store.client
    uploads = client.list_multipart_uploads(Bucket=store.bucket, Prefix=key).get("Uploads")
    if not uploads:
        return 0
    (upload,) = uploads
    parts = client.list_parts(**place, UploadId=upload["UploadId"]).get("Parts", [])
    return sum(int(part["Size"]) for part in parts)


def begin(store: Straight, key: str) -> str:
    """Begin an upload with the cloud's own client, and leave it; its token."""
    if isinstance(store, S3Store):
        place: Any = {"Bucket": store.bucket, "Key": key}
        return str(store.client.create_multipart_upload(**place)["UploadId"])
    token = secrets.token_hex(8)
    store.bucket.blob(f"{PARTS_PREFIX}{key}/{token}/00001").upload_from_string(b"a part")
    return token


async def test_a_worker_killed_in_a_large_object_goes_on_at_the_missing_part(
    make_world: WorldMaker, servers: Servers, straight: Straight
) -> None:
    """Goal: resumed after a SIGKILL, proved, and nothing left behind. Method: count on a wire.

    The wire to the server stops after so many bytes, the worker is killed there and started again,
    and stopped once more to look at its progress. What it sent then is what was not there.
    """
    name = straight.name
    server = servers.get(SERVERS[name])
    port = urlsplit(server.endpoint).port
    assert port is not None
    wire = Wire(port)
    world = make_world(origin="onprem")
    gaps = f"&capabilities={server.capabilities}" if server.capabilities else ""
    bucket = bucket_of(straight)
    url = f"{server.scheme}://{bucket}?endpoint=http://127.0.0.1:{wire.port}{gaps}"
    world.replicas[name] = (url, server.credentials)
    world.start(feeds=0, only=(name,))
    wire.request_bytes_max = 9 * PART_BYTES_USUAL // 2
    body = random_body(SIZE)
    try:
        async with world.client() as client:
            key = await world.put_blob(client, body)
            await world.until(lambda: _is(wire.is_held))
            # More is sent than can be in flight, so at least one part was taken.
            await world.until(lambda: _has_part(straight, key))
            world.processes[f"worker-{name}-0"].kill()
            there = await bytes_there(straight, key)
            assert there < SIZE
            wire.drop(request_bytes_max=MIB)
            world.restart(f"worker-{name}-0")
            await world.until(lambda: _is_under_way(world, client, name, key))
            already = wire.request_bytes
            wire.release()
            await world.until_present(client, [key], name, seconds=60)
            assert "bytes_done" not in (await world.copies(client, key))[name]
        sent_again = already + wire.request_bytes
        assert SIZE - there <= sent_again <= SIZE - there + MIB, f"{there} were there"
        assert world.contents(name) == {key: (SIZE, hashlib.sha256(body).hexdigest())}
        assert not [upload async for upload in straight.open_uploads()]
    finally:
        world.stop()
        wire.close()


async def _is(value: bool) -> bool:  # noqa: FBT001  a condition, already looked at
    return value


async def _has_part(store: Straight, key: str) -> bool:
    return await bytes_there(store, key) >= PART_BYTES_USUAL


async def _is_under_way(world: World, client: Client, name: str, key: str) -> bool:
    """Whether the copy's progress is told, by its own page and by the replica's."""
    copy = (await world.copies(client, key))[name]
    replicas = (await client.get("/v1/replicas"))["replicas"]
    (listed,) = (item["under_way"] for item in replicas if item["name"] == name)
    if not copy.get("bytes_done"):
        return False
    assert copy["state"] == "pending"
    assert "upload" not in copy, "how to write to the store is nobody's business"
    assert [(item["key"], item["size"]) for item in listed] == [(key, SIZE)]
    return bool(0 < listed[0]["bytes_done"] < SIZE)


async def test_only_old_uploads_that_no_copy_names_are_aborted(straight: Straight) -> None:
    """Goal: no upload that somebody needs is lost, none is kept for ever. Method: one of each kind.

    Old is made by the clock that the sweep is given.
    """
    names = {
        "abandoned": key_of(1),
        "named": key_of(2),
        "another worker's": key_of(3),
        "damaged bytes": ObjectKey(f".tidestore/damaged/{key_of(4)}@etag"),
        "a stranger's": ObjectKey("movies/holiday.mp4"),
    }
    tokens = {name: begin(straight, key) for name, key in names.items()}

    async def sweep(now_ms: int) -> tuple[int, set[str]]:
        swept = await sweep_uploads(
            straight,
            is_mine=lambda key: key != names["another worker's"],
            named={(names["named"], tokens["named"]), (names["abandoned"], "an earlier one")},
            now_ms=now_ms,
        )
        left = {upload.token async for upload in straight.open_uploads()}
        return swept.aborted, {name for name, token in tokens.items() if token in left}

    now_ms = int(time.time() * 1000)
    assert await sweep(now_ms + UPLOAD_LIFE_MS - 60_000) == (0, set(names))
    kept = set(names) - {"abandoned", "damaged bytes"}
    assert await sweep(now_ms + UPLOAD_LIFE_MS + 60_000) == (2, kept)
    assert await sweep(now_ms + UPLOAD_LIFE_MS + 60_000) == (0, kept)


async def test_between_two_buckets_of_one_server_no_byte_passes_the_worker(
    make_world: WorldMaker, servers: Servers
) -> None:
    """Goal: the provider copies, and it is our object. Method: what the worker says it has read.

    A blob of a MiB is streamed beside it, so that the figure is not nothing.
    """
    server = servers.get("minio")
    world = make_world(origin="aws")
    world.replicas = {
        "aws": (server.new_url("first"), server.credentials),
        "beside": (server.new_url("second", "and/a/prefix"), server.credentials),
    }
    port = free_port()
    world.start(feeds=0, only=())
    world.add("worker-beside", "0", ["worker", "beside", "--metrics-port", str(port)])
    small, large = random_body(MIB), random_body(SIZE)
    async with world.client() as client:
        keys = [await world.put_blob(client, body) for body in (small, large)]
        await world.until_present(client, keys, "beside", seconds=60)
    expected = {
        key: (len(body), hashlib.sha256(body).hexdigest())
        for key, body in zip(keys, (small, large), strict=True)
    }
    assert world.contents("beside") == expected
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    read = [line for line in lines if line.startswith("tidestore_source_bytes_total{")]
    assert sum(float(line.split()[-1]) for line in read) == len(small), read
