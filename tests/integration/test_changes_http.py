"""GET /v1/changes and /v1/objects: the feed and the stored objects by HTTP alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.http_calls import Answer, Calls, sha256_of
from tests.integration.redacting import REASON, redact
from tests.world import PARTITIONS, random_body
from tidestore.schemas.manifests import read_file_manifest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]

# Written, present on each of three replicas, present everywhere.
SEQUENCES = [1, 2, 3, 4, 5]


async def latest(calls: Calls, **more: Any) -> str:
    """The cursor of what comes from now on."""
    answer = await calls.get("/v1/changes", after="latest", **more)
    assert answer.status == 200, answer.body
    return str(answer.json["next"])


async def follow(
    calls: Calls, cursor: str, keys: list[str], **more: Any
) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """Read on until all was said of some keys; what was said, and the cursor behind it."""
    said: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}

    async def is_said() -> bool:
        nonlocal cursor
        page = (await calls.get("/v1/changes", after=cursor, limit=7, wait=2, **more)).json
        cursor = page["next"]
        for change in page["changes"]:
            if change["data"]["key"] in said:
                said[change["data"]["key"]].append(change)
        return all(found and found[-1]["data"]["is_everywhere"] for found in said.values())

    await calls.world.until(is_said, 60)
    return said, cursor


async def test_small_pages_tell_all_in_the_order_of_each_key(calls: Calls) -> None:
    """Goal: R9 by HTTP. Method: writes, then pages of seven records from any of two gateways.

    A page that is read again, as after a death, tells the same.
    """
    start = await latest(calls)
    bodies = [random_body(50) for _ in range(4)]
    for body in bodies:
        assert (await calls.put_blob(body)).status == 201
    keys = [f"public/blobs/{sha256_of(body)}" for body in bodies]
    said, end = await follow(calls, start, keys, gateway="1")
    for key, body in zip(keys, bodies, strict=True):
        told = {change["data"]["sequence"]: change["data"] for change in said[key]}
        assert list(told) == SEQUENCES, told
        assert told[5]["sha256"] == sha256_of(body)
        assert {copy["state"] for copy in told[5]["copies"]} == {"present"}
    once = await calls.get("/v1/changes", after=start, limit=5)
    again = await calls.get("/v1/changes", after=start, limit=5)
    assert once.status == 200
    assert once.headers["Cache-Control"] == "no-store"
    assert once.json["next"] != start
    assert {change["data"]["id"] for change in again.json["changes"]}
    assert end != start


async def test_a_wait_at_the_end_is_woken_and_bounded(calls: Calls) -> None:
    """Goal: no polling, no waiting for ever. Method: a wait of a second; one that a write ends."""
    cursor = await latest(calls)
    begun = time.monotonic()
    quiet = await calls.get("/v1/changes", after=cursor, wait=1)
    assert quiet.status == 200
    assert time.monotonic() - begun > 0.9 or quiet.json["changes"], "others may write here"
    waiting = asyncio.ensure_future(
        calls.get("/v1/changes", after=quiet.json["next"], wait=30, gateway="1")
    )
    body = random_body(40)
    assert (await calls.put_blob(body)).status == 201
    begun = time.monotonic()
    answer = await waiting
    assert answer.json["changes"], "it was woken before its time was over"
    assert time.monotonic() - begun < 25


async def test_a_redaction_is_told_and_what_it_covers_is_not(calls: Calls) -> None:
    """Goal: whoever keeps a copy learns what has to go, and what comes back.

    Method: a file redacted with its blob, read from a cursor before it was written; then lifted.
    """
    start = await latest(calls)
    body = random_body(60)
    uuid, version = await calls.put_new_file(body)
    key, target = f"public/files/{uuid}.{version}", f"public/files/{uuid}"
    blob = f"public/blobs/{sha256_of(body)}"
    await follow(calls, start, [key, blob])
    answer = await redact(calls, f"/v1/files/{uuid}", version=version)
    assert answer.status in (200, 202), answer.body
    told: dict[str, dict[str, Any]] = {}
    cursor, changed = start, set[str]()

    async def is_told() -> bool:
        nonlocal cursor
        page = (await calls.get("/v1/changes", after=cursor, wait=1)).json
        cursor = page["next"]
        told.update((item["target"], item) for item in page["redactions"])
        changed.update(change["data"]["key"] for change in page["changes"])
        return {key, blob} <= told.keys()

    await calls.world.until(is_told)
    assert not told[key]["is_lifted"]
    assert told[key]["reason"] == REASON
    assert {key, blob, target}.isdisjoint(changed), "hidden"
    for gone in (key, blob):
        (await calls.get("/v1/objects", key=gone)).problem(410, "redacted")

    document = {"target": key, "reason": "the wrong one"}
    lifted = await calls("POST", "/v1/redactions/lifts", document=document, token="admin-token")
    assert lifted.status in (200, 202), lifted.body

    async def is_lifted() -> bool:
        nonlocal cursor
        page = (await calls.get("/v1/changes", after=cursor, wait=1)).json
        cursor = page["next"]
        told.update((item["target"], item) for item in page["redactions"])
        return all(told[name]["is_lifted"] for name in (key, blob))

    await calls.world.until(is_lifted)
    assert (told[key]["keys"], told[blob]["keys"]) == ([key], [blob])


async def test_a_place_that_is_not_there_is_said_clearly(calls: Calls) -> None:
    """Goal: nobody reads on from nowhere. Method: cursors of other logs, behind the end, broken."""
    cursor = await latest(calls)
    generation, identity, redactions, places = cursor.split(".")
    far = "_".join(["900000000-0"] * PARTITIONS)
    gone = [
        f"{int(generation) + 1}.{identity}.{redactions}.{places}",
        f"{generation}.{'0' * 8}.{redactions}.{places}",
        f"{generation}.{identity}.{redactions}.{places.split('_')[0]}",
        f"{generation}.{identity}.{redactions}.{far}",
    ]
    for text in gone:
        problem = (await calls.get("/v1/changes", after=text)).problem(410, "cursor_gone")
        assert "without `after`" in problem["hint"]
    for text in ("x", cursor + "x", "1.2.3"):
        (await calls.get("/v1/changes", after=text)).problem(400, "malformed")
    for more in ({"limit": 0}, {"limit": 1001}, {"wait": 31}, {"wait": "x"}):
        (await calls.get("/v1/changes", **more)).problem(400, "malformed")
    (await calls.get("/v1/changes", dataset="nowhere")).problem(404, "unknown_dataset")
    (await calls.get("/v1/changes", dataset="lab")).problem(401, "unauthorized")
    assert (await calls("GET", "/v1/changes", dataset="lab")).status == 200


async def test_objects_are_read_by_key_as_they_are_stored(calls: Calls) -> None:
    """Goal: a replica can be made of them. Method: a file's manifest and blob, whole and hashed."""
    body = random_body(70)
    uuid, version = await calls.put_new_file(body)
    key = f"public/files/{uuid}.{version}"

    async def stored(name: str, **more: Any) -> Answer:
        return await calls.get("/v1/objects", key=name, delivery="stream", **more)

    found = await stored(key)
    assert found.status == 200, found.body
    manifest = read_file_manifest(found.body)
    assert (manifest.uuid, manifest.checksums.sha256) == (uuid, sha256_of(body))
    assert found.headers["ETag"] == f'"{sha256_of(found.body)}"'
    assert (await stored(f"public/blobs/{sha256_of(body)}")).body == body
    head = await calls("HEAD", "/v1/objects", key=key, token=None)
    assert (head.status, int(head.headers["Content-Length"])) == (200, len(found.body))
    (await stored("public/blobs/" + "0" * 64)).problem(404, "not_found")
    (await stored("lab/blobs/" + "0" * 64)).problem(401, "unauthorized")
    (await stored("nowhere/blobs/" + "0" * 64)).problem(404, "not_found")
    for name in ("", "x", ".tidestore/replica.json", "public/blobs/../x", key.upper()):
        (await stored(name)).problem(400, "malformed")
