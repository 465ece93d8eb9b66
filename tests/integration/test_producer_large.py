"""Producers: any size in bounded memory, many references in one commit, damage and its repair."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import psutil
import pytest

from tests.conftest import WorldMaker
from tests.http_calls import Calls, sha256_of
from tests.native_reads import all_keys, open_uploads, read_one, s3_client
from tests.unit.made import written
from tests.world import PARTITIONS, World, new_uuid, new_version, random_body
from tidestore.connectors.log import LogWriter
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import ObjectWritten
from tidestore.schemas.manifests import MANIFEST_CONTENT_TYPE, FileManifest, file_manifest_bytes
from tidestore.schemas.objects import PUBLIC, Kind, ObjectUuid, Version, versioned_key
from tidestore.schemas.topics import partition_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

MIB = 1024 * 1024
FILES = 10_000
# Parts in flight (5 x 16 MiB) and what the libraries hold; far below the object's own size.
GROWTH_BYTES_MAX = 150 * MIB


class Large:
    """A body that is made while it is sent: pieces of noise, each with its number."""

    def __init__(self, mebibytes: int) -> None:
        self._noise = random_body(MIB - 8)
        self._count = mebibytes
        self.size = mebibytes * MIB
        digest = hashlib.sha256()
        for number in range(mebibytes):
            digest.update(number.to_bytes(8) + self._noise)
        self.sha256 = digest.hexdigest()

    async def pieces(self) -> AsyncIterator[bytes]:
        for number in range(self._count):
            yield number.to_bytes(8) + self._noise


@pytest.mark.parametrize(("announced", "mebibytes"), [("length", 200), ("chunked", 80)])
async def test_a_large_blob_passes_in_bounded_memory(
    calls: Calls, http_world: World, announced: str, mebibytes: int
) -> None:
    """Goal: 200 MiB through the gateway to all replicas, memory bounded, in both ways of sending.

    Method: watch the gateway's resident memory meanwhile; read it back streamed, hash it; on GCS
    and in the folder with their own clients. Both are parts on MinIO and fake-gcs-server.
    """
    body = Large(mebibytes)
    process = psutil.Process(http_world.processes["gateway-0"].pid)
    before = peak = process.memory_info().rss
    headers = {"Content-Length": str(body.size)} if announced == "length" else {}
    path = f"/v1/blobs/{body.sha256}"
    sending = asyncio.create_task(calls("PUT", path, body=body.pieces(), headers=headers))
    while not sending.done():
        peak = max(peak, process.memory_info().rss)
        await asyncio.sleep(0.02)
    answer = sending.result()
    assert (answer.status, answer.json["size"]) == (201, body.size)
    assert peak - before < GROWTH_BYTES_MAX, f"memory grew by {(peak - before) / MIB:.0f} MiB"
    async with http_world.client() as client:
        await http_world.until_everywhere(client, [answer.json["key"]], seconds=90)
        for replica in http_world.replicas:
            digest = hashlib.sha256()
            async for chunk in client.read(path, replica=replica, delivery="stream"):
                digest.update(chunk)
            assert digest.hexdigest() == body.sha256
    if "localbucket" not in http_world.replicas["aws"][0]:
        assert await asyncio.to_thread(open_uploads, http_world, "aws") == []


async def test_a_large_body_that_is_wrong_leaves_nothing(calls: Calls) -> None:
    """Goal: R4 for parts: nothing visible, no upload left open. Method: a wrong last byte."""
    body = Large(70)
    address = sha256_of(body.sha256.encode())  # of something else
    headers = {"Content-Length": str(body.size)}
    path = f"/v1/blobs/{address}"
    answer = await calls("PUT", path, body=body.pieces(), headers=headers)
    assert answer.problem(422, "checksum_mismatch")["hint"]
    keys = await asyncio.to_thread(all_keys, calls.world, "aws")
    assert not any(address in key or body.sha256 in key for key in keys)
    if "localbucket" not in calls.world.replicas["aws"][0]:
        assert await asyncio.to_thread(open_uploads, calls.world, "aws") == []


async def take_files(world: World, body: bytes, uuids: list[str], version: Version) -> None:
    """Append the events of files of one blob, as another gateway does that has taken them."""
    sums = checksums_of(body)
    writer = LogWriter(world.kafka_settings)
    await writer.start()

    async def take(uuid: ObjectUuid) -> None:
        manifest = file_manifest_bytes(FileManifest(uuid, version, f"{uuid}.txt", "a/b", sums))
        key = versioned_key(PUBLIC, Kind.FILE, uuid, version)
        event = written(manifest, key=key, content_type=MANIFEST_CONTENT_TYPE)
        await writer.append(world.prefix + "log", partition_of(key, PARTITIONS), key, event)

    await asyncio.gather(*(take(ObjectUuid(uuid)) for uuid in uuids))
    await writer.stop()


async def test_a_bundle_of_ten_thousand_files_costs_no_store_call_per_file(
    make_world: WorldMaker,
) -> None:
    """Goal: the index answers for all references.

    Method: count the store calls and seconds of a bundle of 10,000 files, committed at a gateway
    that took none of them; the origin cannot be asked, for it has not one of them. Read its
    manifest there. A world without workers: their copies are not the question.
    """
    world = make_world()
    world.start(feeds=0, only=())
    body, version = random_body(10), new_version()
    uuids = [new_uuid() for _ in range(FILES)]
    async with Calls(world) as calls:
        await calls.put_blob(body)
        await take_files(world, body, uuids, version)
        entries = [{"uuid": uuid, "version": version} for uuid in uuids]
        calls_before = await calls.metric("tidestore_store_call_seconds_count")
        begun = time.monotonic()
        path, document = f"/v1/bundles/{new_uuid()}", {"files": entries}
        answer = await calls("PUT", path, document=document, version=version)
        seconds = time.monotonic() - begun
        assert answer.status == 201, answer.body
        assert (answer.json["files"], answer.json["bytes"]) == (FILES, FILES * len(body))
        calls_made = await calls.metric("tidestore_store_call_seconds_count") - calls_before
        assert calls_made <= 3, "store calls for one bundle"
        assert seconds < 10, f"{seconds:.1f} s"
        manifest = await calls.get(path, delivery="stream", at=answer.position)
        assert [entry["uuid"] for entry in manifest.json["files"]] == sorted(uuids)
        stored = await asyncio.to_thread(read_one, world, "aws", answer.json["key"])
        assert stored == manifest.body


@pytest.mark.parametrize("size", [3_000, 9 * MIB])
async def test_damage_at_the_origin_is_repaired_and_no_conflict(
    calls: Calls, http_world: World, size: int
) -> None:
    """Goal: "exists, but not the bytes that the log has" is damage (design points 1 and 11).

    Method: overwrite the origin's object behind our back; send the blob again: 200, the right
    bytes are back, the bad ones are kept aside. A small one comes from the writer, a large one,
    whose bytes streamed by, from a replica.
    """
    body = random_body(size)
    first = await calls.put_blob(body)
    key = first.json["key"]
    async with http_world.client() as client:
        await http_world.until_everywhere(client, [key])
    bad = b"x" * 100
    with s3_client(http_world, "aws") as (s3, bucket):
        await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=key, Body=bad)
    again = await calls.put_blob(body)
    assert again.status == 200, again.body
    assert again.position == first.position
    assert await asyncio.to_thread(read_one, http_world, "aws", key) == body
    aside = [
        name
        for name in await asyncio.to_thread(all_keys, http_world, "aws")
        if name.startswith(f".tidestore/damaged/{key}")
    ]
    assert len(aside) == 1
    assert await asyncio.to_thread(read_one, http_world, "aws", aside[0]) == bad


async def test_what_the_log_never_heard_of_gets_its_event(calls: Calls, http_world: World) -> None:
    """Goal: design point 1: a put whose append was lost is finished by the same write again.

    Method: put the right bytes at the origin behind our back, as a killed gateway leaves them, then
    other bytes under another hash: damage, repaired from the writer's bytes.
    """
    body, other = random_body(100), random_body(100)
    keys = {f"public/blobs/{sha256_of(item)}": item for item in (body, other)}
    with s3_client(http_world, "aws") as (s3, bucket):
        for key, item in keys.items():
            stored = item if item is body else b"not it"
            await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=key, Body=stored)
    for key, item in keys.items():
        (await calls.get(f"/v1/blobs/{sha256_of(item)}")).problem(404, "not_found")
        # 201 is for whoever created the bytes that are there.
        assert (await calls.put_blob(item)).status == (200 if item is body else 201)
        assert (await calls.put_blob(item, gateway="1")).status == 200
        assert await asyncio.to_thread(read_one, http_world, "aws", key) == item
    logged = [record for record in http_world.records("log") if record.key in keys]
    assert sorted(record.key for record in logged) == sorted(keys)
    assert all(isinstance(record.event, ObjectWritten) for record in logged)
    async with http_world.client() as client:
        await http_world.until_everywhere(client, list(keys))
