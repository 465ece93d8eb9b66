"""Files from a staging store: at once or by a task that outlives its request and its gateway."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from tests.http_calls import Answer, Calls, sha256_of
from tests.native_reads import read_one
from tests.servers.throttle import Throttle
from tests.world import World, new_uuid, new_version, random_body
from tidestore.connectors.log import LogWriter
from tidestore.schemas.events import TaskChanged, TaskState

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

MIB = 1024 * 1024


@pytest.fixture
async def stage(throttle: Throttle) -> Any:
    """A function that puts bytes into the staging store, and returns their URL."""
    base = throttle.staging_url.split("?")[0]
    credentials = throttle.server.credentials
    client: Any = boto3.client(
        "s3",
        endpoint_url=throttle.server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=credentials["access_key_id"],
        aws_secret_access_key=credentials["secret_access_key"],
        config=Config(s3={"addressing_style": "path"}),
    )
    bucket = urlsplit(base).netloc
    throttle.open()

    def put(name: str, body: bytes) -> str:
        found = {item["Name"] for item in client.list_buckets()["Buckets"]}
        if bucket not in found:
            client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=name, Body=body)
        return f"{base}/{name}"

    async def stage(name: str, body: bytes) -> str:
        return await asyncio.to_thread(put, name, body)

    yield stage
    throttle.open()
    client.close()


async def put_staged(calls: Calls, url: str, uuid: str, version: str, **more: Any) -> Answer:
    headers, gateway = more.pop("headers", None), more.pop("gateway", "0")
    document = {"source_url": url, "name": "s.bin", "content_type": "a/b", **more}
    path = f"/v1/files/{uuid}"
    return await calls(
        "PUT", path, document=document, version=version, headers=headers, gateway=gateway
    )


async def finished(calls: Calls, task_id: str, gateway: str = "0") -> dict[str, Any]:
    """The task when it is over, as a gateway tells it."""
    found: dict[str, Any] = {}

    async def is_over() -> bool:
        answer = await calls.get(f"/v1/tasks/{task_id}", gateway=gateway)
        assert answer.status == 200, answer.body
        found.update(answer.json)
        is_final = found["state"] in ("succeeded", "failed")
        assert ("Retry-After" in answer.headers) is not is_final
        return is_final

    await calls.world.until(is_over, seconds=60)
    return found


async def test_a_small_staged_file_is_written_at_once(calls: Calls, stage: Any) -> None:
    """Goal: 201 with the file; the same again 200; other content under the version 409.

    Method: with and without the sha256 that it should have; the bytes are on the origin then.
    """
    body = random_body(5_000)
    url = await stage("small/a.bin", body)
    for more in ({}, {"sha256": sha256_of(body)}):
        uuid, version = new_uuid(), new_version()
        first = await put_staged(calls, url, uuid, version, **more)
        assert first.status == 201, first.body
        assert (first.json["sha256"], first.json["size"]) == (sha256_of(body), len(body))
        assert first.json["key"] == f"public/files/{uuid}.{version}"
        again = await put_staged(calls, url, uuid, version, gateway="1", **more)
        assert (again.status, again.position) == (200, first.position)
        read = await calls.get(f"/v1/files/{uuid}", delivery="stream")
        assert (read.body, read.headers["Content-Type"]) == (body, "a/b")
    other, uuid, version = await stage("small/b.bin", b"other"), new_uuid(), new_version()
    assert (await put_staged(calls, url, uuid, version)).status == 201
    (await put_staged(calls, other, uuid, version)).problem(409, "conflict")
    stored = await asyncio.to_thread(
        read_one, calls.world, "aws", f"public/blobs/{sha256_of(body)}"
    )
    assert stored == body


async def test_what_takes_longer_is_202_and_a_task_on_any_gateway(calls: Calls, stage: Any) -> None:
    """Goal: state, progress and result, the same at both gateways; the request again, its task.

    Method: 3 MiB, and a small one that asks for it with `Prefer: respond-async`.
    """
    for size, headers in ((3 * MIB, None), (100, {"Prefer": "respond-async"})):
        body = random_body(size)
        url, uuid, version = await stage(f"t/{size}", body), new_uuid(), new_version()
        answer = await put_staged(calls, url, uuid, version, headers=headers)
        assert answer.status == 202, answer.body
        task_id = answer.json["task_id"]
        assert answer.headers["Location"] == f"/v1/tasks/{task_id}"
        assert answer.json["bytes_total"] == size
        again = await put_staged(calls, url, uuid, version, headers=headers, gateway="1")
        assert (again.status, again.json["task_id"]) == (202, task_id)
        for gateway in "01":
            task = await finished(calls, task_id, gateway)
            assert task["state"] == "succeeded", task
            assert task["bytes_done"] == task["bytes_total"] == size
            assert task["result"]["sha256"] == sha256_of(body)
            position = task["result"]["position"]
            read = await calls.get(f"/v1/files/{uuid}", gateway=gateway, at=position)
            assert read.headers["ETag"] == f'"{sha256_of(body)}"'


async def test_progress_is_told_while_it_goes_on(
    calls: Calls, stage: Any, throttle: Throttle
) -> None:
    """Goal: bytes done grow. Method: let the staging store answer slowly, and look at both."""
    body = random_body(4 * MIB)
    url = await stage("slow.bin", body)
    throttle.bytes_per_second = 0.4 * MIB  # until it was seen to grow
    answer = await put_staged(calls, url, new_uuid(), new_version(), sha256=sha256_of(body))
    task_id, seen = answer.json["task_id"], set()

    async def has_grown() -> bool:
        task = (await calls.get(f"/v1/tasks/{task_id}", gateway="1")).json
        if task["state"] == "running" and 0 < task["bytes_done"] < len(body):
            seen.add(task["bytes_done"])
        return len(seen) >= 2

    await calls.world.until(has_grown)
    throttle.open()
    assert (await finished(calls, task_id))["state"] == "succeeded"


async def test_a_task_is_taken_over_from_a_killed_gateway(
    calls: Calls, stage: Any, throttle: Throttle, http_world: World
) -> None:
    """Goal: any gateway answers for a task after a SIGKILL of the first, and takes it over.

    Method: shut the staging store's gate so that the copy hangs, kill its gateway, open the gate;
    ask the other one, which finishes it.
    """
    body = random_body(2 * MIB)
    url, uuid, version = await stage("orphan.bin", body), new_uuid(), new_version()
    throttle.bytes_per_second = 0.2 * MIB
    answer = await put_staged(calls, url, uuid, version, gateway="0")
    assert answer.status == 202, answer.body
    task_id = answer.json["task_id"]
    throttle.shut()
    first = http_world.processes["gateway-0"]
    await asyncio.to_thread(first.kill)
    throttle.open()
    try:
        task = (await calls.get(f"/v1/tasks/{task_id}", gateway="1")).json
        assert task["state"] in ("queued", "running")
        task = await finished(calls, task_id, "1")
        assert task["state"] == "succeeded", task
        read = await calls.get(f"/v1/files/{uuid}", gateway="1", delivery="stream")
        assert read.body == body
    finally:
        # Not in a thread: what a thread starts is ended with it (PR_SET_PDEATHSIG).
        http_world.restart("gateway-0")
    # Its own gateway knows it too, when it is back.
    assert (await finished(calls, task_id, "0"))["state"] == "succeeded"


async def test_a_failure_has_its_cause_and_can_be_mended(calls: Calls, stage: Any) -> None:
    """Goal: `failed` with a cause for the client; the same request starts it again.

    Method: announce a wrong hash for a large object; then stage the bytes that have it.
    """
    right, wrong = random_body(2 * MIB), random_body(2 * MIB)
    url, uuid, version = await stage("mended.bin", wrong), new_uuid(), new_version()
    answer = await put_staged(calls, url, uuid, version, sha256=sha256_of(right))
    task = await finished(calls, answer.json["task_id"])
    assert task["state"] == "failed"
    assert sha256_of(wrong) in task["cause"]
    (await calls.get(f"/v1/files/{uuid}")).problem(404, "not_found")
    await stage("mended.bin", right)
    again = await put_staged(calls, url, uuid, version, sha256=sha256_of(right), gateway="1")
    assert (again.status, again.json["task_id"]) == (202, task["task_id"])
    assert (await finished(calls, task["task_id"], "1"))["state"] == "succeeded"


async def test_a_frozen_gateways_late_word_of_a_task_is_not_the_last(
    calls: Calls, stage: Any, http_world: World
) -> None:
    """Goal: compaction keeps the right record of a task that is over (design point 4).

    Method: append what a gateway would that lost the task, slept, and wakes after its end.
    """
    url, headers = await stage("late.bin", random_body(100)), {"Prefer": "respond-async"}
    answer = await put_staged(calls, url, new_uuid(), new_version(), headers=headers)
    task_id = answer.json["task_id"]
    assert (await finished(calls, task_id))["state"] == "succeeded"

    def newest() -> TaskChanged:
        found = [one.event for one in http_world.records("tasks") if one.key == task_id]
        assert isinstance(found[-1], TaskChanged)
        return found[-1]

    right = await asyncio.to_thread(newest)
    late = replace(right, lease=right.lease - 1, owner="slept", state=TaskState.FAILED, cause="?")
    writer = LogWriter(http_world.kafka_settings)
    await writer.start()
    await writer.append(f"{http_world.prefix}tasks", 0, task_id, late)
    await writer.stop()

    async def is_right() -> bool:
        return await asyncio.to_thread(newest) == right

    await http_world.until(is_right)
    for gateway in "01":
        assert (await finished(calls, task_id, gateway))["state"] == "succeeded"


async def test_only_registered_staging_stores_are_read(
    calls: Calls, stage: Any, http_world: World
) -> None:
    """Goal: nobody reads with our credentials what lies elsewhere. Method: a table of URLs."""
    url = await stage("known.bin", b"x")
    base = url.rsplit("/", 1)[0]
    origin = http_world.replicas["aws"][0].split("?")[0]
    cases = [
        (f"{origin}/public/blobs/{sha256_of(b'')}", 403, "staging_not_registered"),
        ("file:///etc/passwd", 403, "staging_not_registered"),
        ("http://127.0.0.1:1/x", 403, "staging_not_registered"),
        (f"{base}x/known.bin", 403, "staging_not_registered"),
        ("", 403, "staging_not_registered"),
        (f"{base}/", 400, "malformed"),
        (f"{base}/../{urlsplit(origin).netloc}/x", 400, "malformed"),
        (f"{base}/a//b", 400, "malformed"),
        (f"{base}/a\nb", 400, "malformed"),
        (f"{base}/{'n' * 3_000}", 400, "malformed"),
        (f"{base}/missing.bin", 422, "source_missing"),
    ]
    for source, status, code in cases:
        answer = await put_staged(calls, source, new_uuid(), new_version())
        assert answer.problem(status, code)["hint"], source
    for document in (
        {"source_url": url, "blob": sha256_of(b"x"), "name": "n"},
        {"name": "n"},
        {"source_url": 7, "name": "n"},
        {"source_url": url, "sha256": "x", "name": "n"},
        {"blob": sha256_of(b""), "sha256": sha256_of(b""), "name": "n"},
    ):
        path = f"/v1/files/{new_uuid()}"
        answer = await calls("PUT", path, document=document, version=new_version())
        assert answer.problem(400, "malformed")["hint"]
    for task_id in ("x", "0" * 32, "é" * 32):
        (await calls.get(f"/v1/tasks/{task_id}")).problem(404, "not_found")
