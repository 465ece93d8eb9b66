"""Consumers: bytes and manifests, by version and latest, whole and in part, from each replica."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import Any

import aiohttp
import pytest

from tests.http_calls import Answer, Calls, sha256_of
from tests.native_reads import gcs_bucket, s3_client
from tests.world import World, new_uuid, new_version, random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

BODY = b"0123456789" * 500


def etag_of(body: bytes) -> str:
    return f'"{sha256_of(body)}"'


def repr_digest_of(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def file_name_of(answer: Answer) -> str | None:
    """The name that a browser would save it under (RFC 6266, filename* before filename)."""
    kind, parameters = aiohttp.parse_content_disposition(answer.headers["Content-Disposition"])
    assert kind == "attachment"
    return aiohttp.content_disposition_filename(parameters)


async def everywhere(calls: Calls, *keys: str) -> None:
    async with calls.world.client() as client:
        await calls.world.until_everywhere(client, list(keys))


@pytest.fixture
async def four(calls: Calls) -> dict[str, tuple[str, dict[str, Any], bytes]]:
    """One object of each kind: path, parameters, and the bytes that GET must give."""
    await calls.put_blob(BODY)
    uuid, version = await calls.put_new_file(BODY, name="run 1/レ.txt", content_type="text/x-a")
    entry = {"uuid": uuid, "version": version}
    bundle, collection = new_uuid(), new_uuid()
    documents = {
        f"/v1/bundles/{bundle}": {"files": [entry]},
        f"/v1/collections/{collection}": {"contents": [{"kind": "file", **entry}], "name": "c"},
    }
    found: dict[str, tuple[str, dict[str, Any], bytes]] = {
        "blob": (f"/v1/blobs/{sha256_of(BODY)}", {}, BODY),
        "file": (f"/v1/files/{uuid}", {"version": version}, BODY),
    }
    for path, document in documents.items():
        answer = await calls("PUT", path, document=document, version=version)
        assert answer.status == 201, answer.body
        key = answer.json["key"]
        await everywhere(calls, key)
        body = (calls.world.folder / "onprem" / key).read_bytes()
        found[path.split("/")[2][:-1]] = (path, {"version": version}, body)
    return found


async def test_all_four_kinds_are_read_by_version_and_latest(
    calls: Calls, four: dict[str, tuple[str, dict[str, Any], bytes]]
) -> None:
    """Goal: blob and file give bytes, bundle and collection their manifest.

    Method: GET and HEAD of each, with and without a version, through both gateways.
    """
    types = {"blob": "application/octet-stream", "file": "text/x-a"}
    names = {"blob": sha256_of(BODY), "file": "レ.txt"}
    for kind, (path, pinned, body) in four.items():
        for parameters in (pinned, {}):
            for gateway in ("0", "1"):
                asked = {"gateway": gateway, **parameters}
                if gateway == "1":
                    position = (await calls.get(path + "/copies", **parameters)).json["position"]
                    asked["at"] = position
                answer = await calls.get(path, delivery="stream", **asked)
                assert (answer.status, answer.body) == (200, body), (kind, answer.status)
                head = await calls("HEAD", path, token=None, **asked)
                assert (head.status, head.body) == (200, b"")
                for reply in (answer, head):
                    assert reply.headers["Content-Length"] == str(len(body))
                    assert reply.headers["ETag"] == etag_of(body)
                    assert reply.headers["Repr-Digest"] == repr_digest_of(body)
                    assert reply.headers["Content-Type"] == types.get(kind, "application/json")
                    assert reply.headers["Accept-Ranges"] == "bytes"
                    if kind in names:
                        assert file_name_of(reply) == names[kind]
                    is_pinned = bool(parameters) or kind == "blob"
                    assert ("immutable" in reply.headers["Cache-Control"]) is is_pinned
    bundle = json.loads(four["bundle"][2])
    assert bundle["files"][0]["sha256"] == sha256_of(BODY)
    assert bundle["files"][0]["name"] == "run 1/レ.txt"


async def test_versions_lists_all_newest_first_and_latest_is_the_greatest(calls: Calls) -> None:
    """Goal: `latest` is the greatest version, whatever came last.

    Method: write three versions, the greatest first; read latest, each one, and the list.
    """
    await calls.put_blob(BODY)
    uuid = new_uuid()
    versions = [f"2026-01-0{day}T000000.000000Z" for day in (3, 1, 2)]
    for version in versions:
        document = {"blob": sha256_of(BODY), "name": version}
        answer = await calls("PUT", f"/v1/files/{uuid}", document=document, version=version)
        assert answer.status == 201
    listed = (await calls.get(f"/v1/files/{uuid}/versions")).json
    assert [item["version"] for item in listed["versions"]] == sorted(versions, reverse=True)
    latest = await calls("HEAD", f"/v1/files/{uuid}", token=None)
    assert latest.headers["Tidestore-Version"] == max(versions)
    for version in versions:
        one = await calls("HEAD", f"/v1/files/{uuid}", token=None, version=version)
        assert file_name_of(one) == version
    (await calls.get(f"/v1/files/{new_uuid()}/versions")).problem(404, "not_found")
    other = await calls.get(f"/v1/files/{uuid}", version=new_version())
    other.problem(404, "not_found")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=4990-", 4990, 4999),
        ("bytes=4990-99999", 4990, 4999),
        ("bytes=-7", 4993, 4999),
        ("bytes=-99999", 0, 4999),
    ],
)
async def test_a_range_is_the_part_that_was_asked_for(
    calls: Calls, asked: str, first: int, last: int
) -> None:
    """Goal: single and suffix ranges (RFC 9110, 14). Method: compare with a slice."""
    await calls.put_blob(BODY)
    path = f"/v1/blobs/{sha256_of(BODY)}"
    answer = await calls.get(path, delivery="stream", headers={"Range": asked})
    assert answer.status == 206
    assert answer.body == BODY[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(BODY)}"
    assert answer.headers["ETag"] == etag_of(BODY)


async def test_ranges_that_cannot_be_given(calls: Calls) -> None:
    """Goal: unsatisfiable is 416 with the size; what is no single range is the whole.

    Method: each of them; If-Range of another content; any range of nothing.
    """
    await calls.put_blob(BODY)
    path = f"/v1/blobs/{sha256_of(BODY)}"
    for asked in ("bytes=5000-", "bytes=9999-10000", "bytes=-0"):
        answer = await calls.get(path, delivery="stream", headers={"Range": asked})
        answer.problem(416, "range_not_satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{len(BODY)}"
    for asked in ("bytes=0-1,4-5", "lines=1-2", "bytes=9-5", "bytes=x"):
        answer = await calls.get(path, delivery="stream", headers={"Range": asked})
        assert (answer.status, answer.body) == (200, BODY), asked
    stale = {"Range": "bytes=0-1", "If-Range": '"other"'}
    answer = await calls.get(path, delivery="stream", headers=stale)
    assert (answer.status, answer.body) == (200, BODY)
    await calls.put_blob(b"")
    empty = f"/v1/blobs/{sha256_of(b'')}"
    answer = await calls.get(empty, delivery="stream", headers={"Range": "bytes=0-"})
    answer.problem(416, "range_not_satisfiable")
    whole = await calls.get(empty, delivery="stream")
    assert (whole.status, whole.body) == (200, b"")


async def test_conditions_spare_what_the_client_has(calls: Calls) -> None:
    """Goal: If-None-Match 304, If-Match 412. Method: own, other, weak, list and star."""
    await calls.put_blob(BODY)
    path, etag = f"/v1/blobs/{sha256_of(BODY)}", etag_of(BODY)
    for value in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        for method in ("GET", "HEAD"):
            answer = await calls(method, path, token=None, headers={"If-None-Match": value})
            assert (answer.status, answer.body) == (304, b""), value
            assert answer.headers["ETag"] == etag
    for value in ('"other"', etag.strip('"')):
        answer = await calls.get(path, headers={"If-None-Match": value})
        assert answer.status == 307
    answer = await calls.get(path, headers={"If-Match": '"other"'})
    answer.problem(412, "precondition_failed")
    assert (await calls.get(path, headers={"If-Match": etag})).status == 307


async def test_the_redirect_is_a_signed_link_with_the_files_own_type_and_name(
    calls: Calls,
) -> None:
    """Goal: by default a presigned URL of the replica, with type and disposition overridden.

    Method: follow it with a plain client, without our token, whole and in part.
    """
    name = "folder/données ü.fastq"
    uuid, version = await calls.put_new_file(BODY, name=name, content_type="text/x-fastq")
    answer = await calls.get(f"/v1/files/{uuid}", version=version, replica="aws")
    assert (answer.status, answer.body) == (307, b"")
    link = answer.headers["Location"]
    assert link.startswith(calls.world.replicas["aws"][0].split("endpoint=")[1].split("&")[0])
    assert answer.headers["Tidestore-Replica"] == "aws"
    assert answer.headers["ETag"] == etag_of(BODY)
    assert "no-store" in answer.headers["Cache-Control"]
    followed = await calls.get(link)
    assert (followed.status, followed.body) == (200, BODY)
    assert followed.headers["Content-Type"] == "text/x-fastq"
    assert file_name_of(followed) == "données ü.fastq"
    part = await calls.get(link, headers={"Range": "bytes=3-5"})
    assert (part.status, part.body) == (206, BODY[3:6])
    # Another object is not opened by this link.
    other = link.replace(sha256_of(BODY), sha256_of(b""))
    assert (await calls.get(other)).status == 403


async def test_every_replica_gives_the_same_bytes(calls: Calls) -> None:
    """Goal: `replica=` reads there; a folder has no links and is streamed through the gateway.

    Method: each replica, by default and streamed; the answer says which one it was.
    """
    body = random_body(50_000)
    uuid, version = await calls.put_new_file(body)
    await everywhere(calls, f"public/blobs/{sha256_of(body)}", f"public/files/{uuid}.{version}")
    for name in calls.world.replicas:
        streamed = await calls.get(f"/v1/files/{uuid}", replica=name, delivery="stream")
        assert (streamed.status, streamed.body) == (200, body)
        assert streamed.headers["Tidestore-Replica"] == name
        answer = await calls.get(f"/v1/files/{uuid}", replica=name)
        assert answer.headers["Tidestore-Replica"] == name
        if answer.status == 307:
            answer = await calls.get(answer.headers["Location"])
        assert (answer.status, answer.body) == (200, body)
    folder = await calls.get(f"/v1/files/{uuid}", replica="onprem")
    assert (folder.status, folder.body) == (200, body)
    foreign = await calls.get(f"/v1/files/{uuid}", replica="nowhere")
    assert "aws" in foreign.problem(400, "unknown_replica")["hint"]


async def test_what_is_not_there_yet_is_told_so_and_never_an_older_version(
    calls: Calls, http_world: World
) -> None:
    """Goal: 404 `not_yet_here` with Retry-After, for the new version; it comes when it is there.

    Method: freeze the worker between two versions; read latest and pinned from its replica.
    """
    old, new = random_body(100), random_body(200)
    uuid, first = await calls.put_new_file(old)
    await everywhere(calls, f"public/files/{uuid}.{first}", f"public/blobs/{sha256_of(old)}")
    worker = http_world.processes["worker-onprem-0"]
    worker.freeze()
    try:
        second = new_version()
        await calls.put_blob(new)
        document = {"blob": sha256_of(new), "name": "a.txt"}
        answer = await calls("PUT", f"/v1/files/{uuid}", document=document, version=second)
        assert answer.status == 201
        for version in (None, second):
            for method in ("GET", "HEAD"):
                asked = await calls(
                    method, f"/v1/files/{uuid}", token=None, version=version, replica="onprem"
                )
                assert asked.status == 404
                assert int(asked.headers["Retry-After"]) > 0
                if method == "GET":
                    asked.problem(404, "not_yet_here")
        elsewhere = await calls.get(f"/v1/files/{uuid}", replica="aws", delivery="stream")
        assert elsewhere.body == new
        older = await calls.get(f"/v1/files/{uuid}", version=first, replica="onprem")
        assert older.body == old
    finally:
        worker.thaw()

    async def is_there() -> bool:
        reply = await calls.get(f"/v1/files/{uuid}", replica="onprem")
        assert reply.status in (200, 404)
        assert reply.status == 404 or reply.body == new
        return reply.status == 200

    await http_world.until(is_there)


async def test_damaged_bytes_never_look_complete(calls: Calls, http_world: World) -> None:
    """Goal: what is streamed is hashed on its way, and wrong bytes end in a broken connection.

    Method: change the last bit of a folder's copy, which is known only when all bytes were read.
    """
    body = random_body(3 * 1024 * 1024)
    key = (await calls.put_blob(body)).json["key"]
    await everywhere(calls, key)
    path = http_world.folder / "onprem" / key
    path.chmod(0o644)
    await asyncio.to_thread(path.write_bytes, body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(aiohttp.ClientError):
        await calls.get(f"/v1/blobs/{sha256_of(body)}", replica="onprem")
    # The others are as good as before.
    good = await calls.get(f"/v1/blobs/{sha256_of(body)}", replica="aws", delivery="stream")
    assert good.body == body


async def test_what_the_best_copy_has_lost_is_read_from_another(
    calls: Calls, http_world: World
) -> None:
    """Goal: one of several present copies is enough to read, and none is told as such.

    Method: behind our back, one copy after the other gets another length; at last all have.
    """
    body = random_body(70_000)
    key = (await calls.put_blob(body)).json["key"]
    await everywhere(calls, key)
    path = f"/v1/blobs/{sha256_of(body)}"

    async def served_by() -> str:
        answer = await calls.get(path, delivery="stream")
        assert (answer.status, answer.body) == (200, body)
        return answer.headers["Tidestore-Replica"]

    assert await served_by() == "aws"
    with s3_client(http_world, "aws") as (s3, bucket):
        await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=key, Body=b"short")
    assert await served_by() == "gcp"
    with gcs_bucket(http_world, "gcp") as bucket:
        await asyncio.to_thread(bucket.blob(key).upload_from_string, b"short")
    assert await served_by() == "onprem"
    place = http_world.folder / "onprem" / key
    place.chmod(0o644)
    place.write_bytes(b"short")
    (await calls.get(path, delivery="stream")).problem(502, "copy_damaged")
