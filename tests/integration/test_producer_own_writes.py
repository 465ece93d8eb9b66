"""A read right after a write through the same gateway: never a miss, never an older one."""

from __future__ import annotations

import pytest

from tests.http_calls import Calls, sha256_of
from tests.world import new_uuid, new_version, random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

WRITES = 40


async def test_a_read_right_after_a_write_finds_it(calls: Calls) -> None:
    """Goal: no 404 for what this gateway has just acknowledged.

    Method: read at once, many times; the index folds an append milliseconds after the answer.
    """
    for _ in range(WRITES):
        body = random_body(50)
        assert (await calls.put_blob(body)).status == 201
        answer = await calls.get(f"/v1/blobs/{sha256_of(body)}/copies")
        assert answer.status == 200, answer.body
        assert answer.json["sha256"] == sha256_of(body)


async def test_latest_right_after_a_write_is_the_new_version(calls: Calls) -> None:
    """Goal: `latest` never gives an older version than the one just written here.

    Method: many versions of one uuid, each read at once as latest and in the list of versions.
    """
    body = random_body(30)
    await calls.put_blob(body)
    uuid = new_uuid()
    for number in range(WRITES):
        version = new_version()
        document = {"blob": sha256_of(body), "name": f"{number}.txt"}
        answer = await calls("PUT", f"/v1/files/{uuid}", document=document, version=version)
        assert answer.status == 201, answer.body
        head = await calls("HEAD", f"/v1/files/{uuid}", token=None)
        assert head.headers["Tidestore-Version"] == version
        versions = (await calls.get(f"/v1/files/{uuid}/versions")).json["versions"]
        assert len(versions) == number + 1
        assert versions[0]["version"] == version
