"""Producers: what each write is answered with, for all four kinds, and what is on the log then."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from tests.http_calls import Answer, Calls, raw, sha256_of
from tests.native_reads import open_uploads, read_one
from tests.world import World, new_uuid, new_version, random_body
from tidestore.schemas.events import ObjectWritten

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def events(world: World, key: str) -> list[ObjectWritten]:
    """All events of a key on the log, read with a plain consumer."""
    found = [record.event for record in world.records("log") if record.key == key]
    return [event for event in found if isinstance(event, ObjectWritten)]


async def in_chunks(body: bytes, size: int = 7_001) -> AsyncIterator[bytes]:
    """A body without an announced length: sent chunked."""
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, 300_000])
async def test_a_blob_is_201_then_200_and_one_event(calls: Calls, size: int) -> None:
    """Goal: R1 and R2 for a blob; the answer has all four checksums and the event's position.

    Method: the same bytes twice, then once more through the other gateway; read the log.
    """
    body = random_body(size) if size else b""
    first = await calls.put_blob(body)
    # The empty blob is one object for all tests.
    assert first.status == 201 or (size == 0 and first.status == 200)
    document = first.json
    assert document["size"] == size
    assert document["sha1"] == hashlib.sha1(body).hexdigest()
    assert document["md5"] == hashlib.md5(body).hexdigest()
    for gateway in ("0", "1"):
        again = await calls.put_blob(body, gateway=gateway)
        assert again.status == 200
        assert again.json == document
        assert again.position == first.position
    (event,) = events(calls.world, document["key"])
    assert (event.size, event.sha256, event.crc32c) == (size, sha256_of(body), document["crc32c"])
    assert event.data == (body if size <= 32 * 1024 else None)


@pytest.mark.parametrize("size", [100, 200_000, 9 * 1024 * 1024])
async def test_a_chunked_body_is_the_same_write(calls: Calls, size: int) -> None:
    """Goal: a length need not be announced. Method: chunked first, then with Content-Length."""
    body = random_body(size)
    path = f"/v1/blobs/{sha256_of(body)}"
    first = await calls("PUT", path, body=in_chunks(body, 100_003))
    assert (first.status, first.json["size"]) == (201, size)
    again = await calls("PUT", path, body=io.BytesIO(body))
    assert (again.status, again.position) == (200, first.position)


@pytest.mark.parametrize("name", ["Repr-Digest", "Digest"])
async def test_an_announced_digest_is_compared(calls: Calls, name: str) -> None:
    """Goal: a right digest is taken, a wrong one is 422, an unreadable one 400; others passed over.

    Method: each of them in each header; a refused one leaves no object.
    """
    body = random_body(200)
    encoded = base64.b64encode(hashlib.sha256(body).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    form = "sha-256=:{}:" if name == "Repr-Digest" else "SHA-256={}"
    refused = await calls.put_blob(body, headers={name: form.format(wrong)})
    refused.problem(422, "checksum_mismatch")
    broken = await calls.put_blob(body, headers={name: form.format("!!!")})
    assert broken.problem(400, "malformed")["field"] == name
    (await calls.get(f"/v1/blobs/{sha256_of(body)}")).problem(404, "not_found")
    headers = {name: f"md5=:AAAA:, {form.format(encoded)}"}
    assert (await calls.put_blob(body, headers=headers)).status == 201


async def test_files_bundles_and_collections_are_201_200_409(calls: Calls) -> None:
    """Goal: R2 for manifests.

    Method: write each kind, the same again in another order of members and through the other
    gateway, then other content under the same version; one event each.
    """
    body = random_body(100)
    uuid, version = await calls.put_new_file(body, name="reads/a.fastq")
    other_uuid, other_version = await calls.put_new_file(random_body(10), name="b.txt")
    entries = [
        {"uuid": uuid, "version": version},
        {"uuid": other_uuid, "version": other_version, "name": "renamed.txt"},
    ]
    contents: list[dict[str, str]] = [
        {"kind": "file", "uuid": uuid, "version": version},
        {"kind": "blob", "sha256": sha256_of(body)},
    ]
    cases: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
        (
            "files",
            {"blob": sha256_of(body), "name": "x"},
            {"name": "x", "blob": sha256_of(body)},
            {"blob": sha256_of(body), "name": "y"},
        ),
        ("bundles", {"files": entries}, {"files": entries[::-1]}, {"files": entries[:1]}),
        (
            "collections",
            {"contents": contents, "details": {"a": 1, "b": [2]}},
            {"details": {"b": [2], "a": 1}, "contents": contents[::-1]},
            {"contents": contents, "details": {"a": 2, "b": [2]}},
        ),
    ]
    keys = []
    for kind, document, same, other in cases:
        path, chosen = f"/v1/{kind}/{new_uuid()}", new_version()
        first = await calls("PUT", path, document=document, version=chosen)
        assert first.status == 201, first.body
        again = await calls("PUT", path, document=same, version=chosen, gateway="1")
        assert (again.status, again.position) == (200, first.position)
        conflict = await calls("PUT", path, document=other, version=chosen)
        assert conflict.problem(409, "conflict")["hint"]
        keys.append(first.json["key"])
    logged = [record.key for record in calls.world.records("log") if record.key in keys]
    assert sorted(logged) == sorted(keys)


async def test_a_file_carries_the_checksums_of_its_blob(calls: Calls) -> None:
    """Goal: the manifest on every replica is enough to check the file. Method: read it as bytes."""
    body = random_body(77)
    blob = (await calls.put_blob(body)).json
    uuid, version = await calls.put_new_file(body, name="データ.txt", content_type="x/y; dcp=1")
    (event,) = events(calls.world, f"public/files/{uuid}.{version}")
    manifest = json.loads(event.data or b"")
    for name in ("size", "sha256", "sha1", "crc32c", "md5"):
        assert manifest[name] == blob[name]
    assert (manifest["name"], manifest["content_type"]) == ("データ.txt", "x/y; dcp=1")
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert event.data == canonical.encode()


async def test_a_commit_finds_what_another_gateway_has_just_taken(calls: Calls) -> None:
    """Goal: design point 8: no false "no such file". Method: write through one gateway and commit
    at once through the other, in turns, many times, up to the bundle.
    """  # noqa: D205
    for number in range(12):
        first, second = ("0", "1") if number % 2 else ("1", "0")
        body = random_body(60)
        assert (await calls.put_blob(body, gateway=first)).status == 201
        uuid, version = new_uuid(), new_version()
        document: dict[str, Any] = {"blob": sha256_of(body), "name": "n"}
        path = f"/v1/files/{uuid}"
        answer = await calls("PUT", path, document=document, version=version, gateway=second)
        assert answer.status == 201, answer.body
        document = {"files": [{"uuid": uuid, "version": version}]}
        path = f"/v1/bundles/{new_uuid()}"
        answer = await calls("PUT", path, document=document, version=version, gateway=first)
        assert answer.status == 201, answer.body


async def test_a_position_makes_any_gateway_wait(calls: Calls) -> None:
    """Goal: `?at=` reads what was written elsewhere.

    Method: write at one, read at the other at once; a position that is not there yet is 503 after
    the limit, another generation 400.
    """
    for _ in range(10):
        body = random_body(40)
        written = await calls.put_blob(body, gateway="0")
        path = f"/v1/blobs/{sha256_of(body)}/copies"
        found = await calls.get(path, gateway="1", at=written.position)
        assert found.status == 200
        assert found.json["position"] == written.position
    written = await calls.put_blob(random_body(40))
    path = f"/v1/blobs/{written.json['sha256']}/copies"
    generation, partition, offset = written.position.split(".")
    ahead = await calls.get(path, at=f"{generation}.{partition}.{int(offset) + 10_000}")
    ahead.problem(503, "log_unavailable")
    assert int(ahead.headers["Retry-After"]) > 0
    (await calls.get(path, at=f"9.{partition}.{offset}")).problem(400, "malformed")
    (await calls.get(path, at="1.2")).problem(400, "malformed")


@pytest.mark.parametrize("way", ["prefer", "replicas"])
async def test_a_write_answers_when_enough_replicas_have_it(calls: Calls, way: str) -> None:
    """Goal: `Prefer: wait` means all, `?replicas=n` n of them.

    Method: write so and read the copies at once with the clouds' own clients' view: the index,
    after the answer's own word.
    """
    body = random_body(5_000)
    more: dict[str, Any] = (
        {"headers": {"Prefer": "wait=60"}} if way == "prefer" else {"replicas": 3}
    )
    answer = await calls.put_blob(body, **more)
    assert answer.status == 201
    assert answer.headers["Preference-Applied"] == "wait"
    assert answer.json["present_on"] == ["aws", "gcp", "onprem"]
    folder = calls.world.folder / "onprem" / answer.json["key"]
    assert folder.read_bytes() == body
    async with calls.world.client("1") as client:
        await calls.world.until_everywhere(client, [answer.json["key"]])
    # Once a gateway knows that they have it, the same write there answers with all of them.
    again = await calls.put_blob(body, replicas=2, gateway="1")
    assert (again.status, again.json["present_on"]) == (200, ["aws", "gcp", "onprem"])


async def test_a_wait_that_is_not_fulfilled_is_202_and_the_object_is_there(
    calls: Calls, http_world: World
) -> None:
    """Goal: running out of time is no failure. Method: freeze a worker, ask for all of them."""
    http_world.processes["worker-gcp-0"].freeze()
    try:
        body = random_body(100)
        answer = await calls.put_blob(body, headers={"Prefer": "wait=1"})
        assert answer.status == 202
        assert answer.json["waiting_for"] == 3
        assert "gcp" not in answer.json["present_on"]
        read = await calls.get(f"/v1/blobs/{sha256_of(body)}", delivery="stream")
        assert read.body == body
    finally:
        http_world.processes["worker-gcp-0"].thaw()


async def test_replica_chooses_where_to_wait_and_never_where_to_write(
    calls: Calls, http_world: World
) -> None:
    """Goal: `?replica=` on a write waits for that one (design point 2).

    Method: with one worker frozen, wait for a replica that is well, then for the frozen one, then
    for that one again once it runs; each object's event names the same origin.
    """
    frozen = http_world.processes["worker-gcp-0"]
    frozen.freeze()
    try:
        body = random_body(5_000)
        well = await calls.put_blob(body, replica="onprem", headers={"Prefer": "wait=60"})
        assert well.status == 201
        assert {"aws", "onprem"} <= set(well.json["present_on"])
        assert (calls.world.folder / "onprem" / well.json["key"]).read_bytes() == body
        other = random_body(5_000)
        late = await calls.put_blob(other, replica="gcp", headers={"Prefer": "wait=1"})
        assert (late.status, late.json["waiting_for"]) == (202, "gcp")
    finally:
        frozen.thaw()
    again = await calls.put_blob(other, replica="gcp", headers={"Prefer": "wait=60"})
    assert again.status == 200
    assert "gcp" in again.json["present_on"]
    keys = {well.json["key"], again.json["key"]}
    events = [r.event for r in http_world.records("log") if r.key in keys]
    assert {e.origin for e in events if isinstance(e, ObjectWritten)} == {"aws"}


@pytest.mark.parametrize("announced", ["length", "chunked"])
async def test_a_client_that_disconnects_half_way_leaves_nothing(
    calls: Calls, announced: str
) -> None:
    """Goal: R4: nothing visible, nothing on the log.

    Method: send half of the body and hang up, small and large (streamed in parts); then the whole
    body is new.
    """
    world = calls.world
    for size in (200_000, 20 * 1024 * 1024):
        body = random_body(size)
        half = body[: size // 2]
        head = f"PUT /v1/blobs/{sha256_of(body)} HTTP/1.1\r\nHost: x\r\n"
        head += "Authorization: Bearer test-token\r\n"
        if announced == "length":
            sent = f"{head}Content-Length: {size}\r\n\r\n".encode() + half
        else:
            sent = f"{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode() + half
        answer = await raw(world, sent)
        assert b" 20" not in answer.split(b"\r\n", 1)[0]
        key = f"public/blobs/{sha256_of(body)}"
        assert events(world, key) == []
        (await calls.get(f"/v1/blobs/{sha256_of(body)}")).problem(404, "not_found")
        assert await asyncio.to_thread(read_one, world, "aws", key) is None
        # The connection may be closed before the upload is given up.
        await world.until(lambda: _has_no_upload(world))
        if size < 1_000_000:
            assert (await calls.put_blob(body)).status == 201


async def _has_no_upload(world: World) -> bool:
    return await asyncio.to_thread(open_uploads, world, "aws") == []


async def test_every_answer_can_be_asked_for_again(calls: Calls) -> None:
    """Goal: a retry gives the same status and changes nothing, until the cause is gone.

    Method: 422, 409, 400 each twice; then mend the cause of the 422 and send it again.
    """
    body, uuid, version = random_body(30), new_uuid(), new_version()
    path = f"/v1/files/{uuid}"
    document = {"blob": sha256_of(body), "name": "late"}

    async def put(**more: Any) -> Answer:
        return await calls("PUT", path, document={**document, **more}, version=version)

    for _ in range(2):
        missing = (await put()).problem(422, "reference_missing")
        assert missing["missing"] == [f"public/blobs/{sha256_of(body)}"]
    await calls.put_blob(body)
    answers = [await put() for _ in range(3)]
    assert [answer.status for answer in answers] == [201, 200, 200]
    for _ in range(2):
        (await put(name="other")).problem(409, "conflict")
        (await put(name="../x")).problem(400, "malformed")
    positions = {answer.position for answer in (*answers, await put())}
    assert len(positions) == 1


async def test_positions_of_one_partition_grow(calls: Calls) -> None:
    """Goal: a position is the event's place. Method: write in turn; compare with the log itself."""
    answers = [await calls.put_blob(random_body(20)) for _ in range(8)]
    places = {
        record.key: f"1.{record.partition}.{record.offset}" for record in calls.world.records("log")
    }
    for answer in answers:
        assert places[answer.json["key"]] == answer.position
    by_partition: dict[str, list[int]] = {}
    for answer in answers:
        _, partition, offset = answer.position.split(".")
        by_partition.setdefault(partition, []).append(int(offset))
    assert all(a < b for offsets in by_partition.values() for a, b in pairwise(offsets))
