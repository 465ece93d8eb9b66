"""Who may do what: a token to write, none to read what is public, and a wrong one nowhere."""

from __future__ import annotations

import pytest

from tests.http_calls import Calls, sha256_of
from tests.world import TOKEN, new_uuid, random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

VERSION = "2026-01-01T000000.000000Z"
WRITES = [
    ("PUT", "/v1/blobs/{sha256}"),
    ("PUT", "/v1/files/{uuid}?version=" + VERSION),
    ("PUT", "/v1/bundles/{uuid}?version=" + VERSION),
    ("PUT", "/v1/collections/{uuid}?version=" + VERSION),
    ("POST", "/v1/hooks"),
    ("GET", "/v1/hooks"),
    ("GET", "/v1/hooks/1"),
    ("DELETE", "/v1/hooks/1"),
]
WRONG = {
    "none": {},
    "unknown": {"Authorization": "Bearer wrong"},
    "prefix": {"Authorization": f"Bearer {TOKEN[:-1]}"},
    "longer": {"Authorization": f"Bearer {TOKEN}x"},
    "empty": {"Authorization": "Bearer "},
    "bare": {"Authorization": TOKEN},
    "basic": {"Authorization": "Basic dGVzdDp0ZXN0"},
    "huge": {"Authorization": "Bearer " + "t" * 4_000},
    "not ascii": {"Authorization": "Bearer tökén"},
}


@pytest.mark.parametrize("case", WRONG)
async def test_no_or_a_wrong_token_writes_nothing(calls: Calls, case: str) -> None:
    """Goal: 401 with the scheme, before the body is looked at. Method: every write, each token."""
    body = random_body(10)
    for method, path in WRITES:
        url = path.format(sha256=sha256_of(body), uuid=new_uuid())
        answer = await calls(method, url, body=body, headers=WRONG[case], token=None)
        problem = answer.problem(401, "unauthorized")
        assert problem["hint"]
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN.encode() not in answer.body
    (await calls.get(f"/v1/blobs/{sha256_of(body)}")).problem(404, "not_found")


async def test_the_scheme_is_named_in_any_case(calls: Calls) -> None:
    """Goal: RFC 9110: schemes are case-insensitive. Method: three spellings of a right token."""
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        answer = await calls.put_blob(random_body(10), headers=headers, token=None)
        assert answer.status == 201


async def test_reading_what_is_public_needs_no_token(calls: Calls) -> None:
    """Goal: public is public; but a token that is sent must be right. Method: every read."""
    body = random_body(10)
    uuid, _ = await calls.put_new_file(body)
    paths = [
        f"/v1/blobs/{sha256_of(body)}",
        f"/v1/files/{uuid}",
        f"/v1/files/{uuid}/copies",
        f"/v1/files/{uuid}/versions",
        "/v1/files",
    ]
    for path in paths:
        assert (await calls.get(path)).status in (200, 307)
        assert (await calls.get(path, token=TOKEN)).status in (200, 307)
        (await calls.get(path, token="wrong")).problem(401, "unauthorized")


async def test_another_dataset_needs_a_token_to_read(calls: Calls) -> None:
    """Goal: a controlled dataset shows nothing to strangers, and shares no bytes with another.

    Method: write the same content into both; ask without and with a token, over every read.
    """
    body = random_body(10)
    assert (await calls.put_blob(body)).status == 201
    secret = await calls.put_blob(body, dataset="lab")
    assert (secret.status, secret.json["key"]) == (201, f"lab/blobs/{sha256_of(body)}")
    hidden = random_body(10)
    assert (await calls.put_blob(hidden, dataset="lab")).status == 201
    uuid = new_uuid()
    document = {"blob": sha256_of(hidden), "name": "n"}
    path = f"/v1/files/{uuid}"
    answer = await calls("PUT", path, document=document, version=VERSION, dataset="lab")
    assert answer.status == 201
    # References stay inside of a dataset.
    answer = await calls("PUT", path, document=document, version=VERSION)
    answer.problem(422, "reference_missing")
    for path in (
        f"/v1/blobs/{sha256_of(hidden)}",
        f"/v1/files/{uuid}",
        f"/v1/files/{uuid}/copies",
        f"/v1/files/{uuid}/versions",
        "/v1/files",
        f"/v1/files/{new_uuid()}",
    ):
        (await calls.get(path, dataset="lab")).problem(401, "unauthorized")
        found = await calls.get(path, dataset="lab", token=TOKEN)
        assert found.status in (200, 307, 404)
    (await calls.get(f"/v1/blobs/{sha256_of(hidden)}")).problem(404, "not_found")
    read = await calls.get(f"/v1/files/{uuid}", dataset="lab", token=TOKEN, delivery="stream")
    assert read.body == hidden
    assert "public" not in read.headers["Cache-Control"]
    listed = (await calls.get("/v1/files", dataset="lab", token=TOKEN, limit=1000)).json["items"]
    assert f"lab/files/{uuid}.{VERSION}" in [item["key"] for item in listed]
