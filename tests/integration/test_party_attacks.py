"""What a third party, or whoever has its token, may not do: refused, and nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.http_calls import Calls, sha256_of
from tests.world import ADMIN_TOKEN, TOKEN, World, new_uuid, new_version, random_body
from tidestore.api.receipts import BATCH_BYTES_MAX, RECEIPTS_MAX
from tidestore.schemas.parties import PartySaved, ReceiptClaimed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]


async def invite(calls: Calls, *datasets: str) -> tuple[str, str]:
    """Invite somebody; name and token."""
    name = f"party-{new_uuid()[:8]}"
    document = {"name": name, "datasets": list(datasets)}
    answer = await calls("POST", "/v1/parties", document=document, token=ADMIN_TOKEN)
    assert answer.status == 201, answer.body
    # The other gateway answers an administrator only once it has read of it, a stranger at once.
    seen = await calls("GET", f"/v1/parties/{name}", token=ADMIN_TOKEN, gateway="1")
    assert seen.status == 200, seen.body
    return name, answer.json["token"]


@pytest.fixture
async def party(calls: Calls) -> AsyncIterator[tuple[str, str]]:
    """A party that was invited to the public dataset alone."""
    name, token = await invite(calls, "public")
    yield name, token
    await calls("DELETE", f"/v1/parties/{name}", token=ADMIN_TOKEN)


async def written(calls: Calls, dataset: str = "public") -> dict[str, Any]:
    """An object's right receipt."""
    body = random_body(30)
    assert (await calls.put_blob(body, dataset=dataset)).status == 201
    digest = sha256_of(body)
    key = f"{dataset}/blobs/{digest}"
    return {"key": key, "state": "stored", "size": len(body), "sha256": digest}


def receipts_of(world: World, *names: str) -> list[str]:
    """The keys of all receipts on the topic that these names have given."""
    return [
        record.event.key
        for record in world.records("receipts")
        if isinstance(record.event, ReceiptClaimed) and record.event.party in names
    ]


async def test_a_receipt_is_written_once_as_a_claim_and_counts_for_nothing(
    calls: Calls, party: tuple[str, str]
) -> None:
    """Goal: design point 12. Method: said twice, read back; the copies and a wait for `all`."""
    (name, token), receipt = party, await written(calls)
    path = f"/v1/replicas/{name}/receipts"
    document = {"receipts": [receipt]}
    once = await calls("POST", path, document=document, token=token, gateway="1")
    assert (once.status, once.json) == (200, {"recorded": 1, "unchanged": 0}), once.body
    again = await calls("POST", path, document=document, token=token, gateway="1")
    assert again.json == {"recorded": 0, "unchanged": 1}
    listed = await calls("GET", path, token=token, gateway="1")
    (item,) = listed.json["items"]
    assert item == receipt | {"verdict": "claimed", "claimed_at_ms": item["claimed_at_ms"],
                              "judged_at_ms": None, "detail": ""}  # fmt: skip
    assert receipts_of(calls.world, name) == [receipt["key"]]
    read = await calls.get(f"/v1/blobs/{receipt['sha256']}", replica=name)
    read.problem(400, "unknown_replica")
    copies = await calls.get(f"/v1/blobs/{receipt['sha256']}/copies")
    assert {copy["replica"] for copy in copies.json["copies"]} == {"aws", "gcp", "onprem"}
    one = await calls("GET", f"/v1/parties/{name}", token=token, gateway="1")
    counted = {"state": "stored", "verdict": "claimed", "objects": 1, "bytes": receipt["size"]}
    assert one.json["receipts"] == [counted]
    assert token not in one.body.decode()


async def test_forged_receipts_are_refused_whole(calls: Calls, party: tuple[str, str]) -> None:
    """Goal: no word but about what the log has. Method: one wrong receipt behind a right one."""
    (name, token), right = party, await written(calls)
    lab = await written(calls, "lab")
    missing = {**right, "key": "public/blobs/" + "0" * 64, "sha256": "0" * 64}
    path = f"/v1/replicas/{name}/receipts"
    wrong: list[tuple[Any, int, str]] = [
        (missing, 422, "receipt_mismatch"),
        ({**right, "key": missing["key"]}, 422, "receipt_mismatch"),
        ({**right, "key": f"public/files/{new_uuid()}.{new_version()}"}, 422, "receipt_mismatch"),
        (lab, 403, "not_allowed"),
        ({**right, "key": "nowhere/blobs/" + "0" * 64}, 403, "not_allowed"),
        (right, 400, "malformed"),
        ({**missing, "key": ".tidestore/replica.json"}, 400, "malformed"),
        ({**missing, "key": "public/blobs/../../x"}, 400, "malformed"),
        ({**missing, "state": "present"}, 400, "malformed"),
        ({**missing, "state": ["stored"]}, 400, "malformed"),
        ({**missing, "size": True}, 400, "malformed"),
        ({**missing, "size": -1}, 400, "malformed"),
        ({**missing, "sha256": "A" * 64}, 400, "malformed"),
        ({**missing, "verdict": "proved"}, 400, "malformed"),
        ({**missing, "party": "other"}, 400, "malformed"),
        ("x", 400, "malformed"),
    ]
    for receipt, status, code in wrong:
        document = {"receipts": [right, receipt]}
        (await calls("POST", path, document=document, token=token)).problem(status, code)
    for size in (right["size"] + 1, 0):
        document = {"receipts": [{**right, "size": size}]}
        refused = await calls("POST", path, document=document, token=token)
        refused.problem(422, "receipt_mismatch")
    shapes: list[Any] = [{}, {"receipts": []}, {"receipts": "x"}, {"receipts": [right], "more": 1}]
    for shape in shapes:
        (await calls("POST", path, document=shape, token=token)).problem(400, "malformed")
    assert receipts_of(calls.world, name) == []


async def test_a_huge_batch_is_refused_before_it_is_read(
    calls: Calls, party: tuple[str, str]
) -> None:
    """Goal: one request cannot flood a topic. Method: one receipt too many, a byte too many."""
    (name, token), right = party, await written(calls)
    path = f"/v1/replicas/{name}/receipts"
    many = {"receipts": [right] * (RECEIPTS_MAX + 1)}
    (await calls("POST", path, document=many, token=token)).problem(413, "too_many")
    body = b" " * (BATCH_BYTES_MAX + 1)
    (await calls("POST", path, body=body, token=token)).problem(413, "too_large")
    assert receipts_of(calls.world, name) == []


async def test_nobody_speaks_for_another_replica(calls: Calls, party: tuple[str, str]) -> None:
    """Goal: a token is for one name. Method: another party's, ours, an admin's, none, a wrong one.

    And the names of our own replicas belong to nobody else.
    """
    (name, token), right = party, await written(calls)
    other, other_token = await invite(calls, "public")
    document = {"receipts": [right]}
    for victim, used, status, code in (
        (other, token, 403, "not_allowed"),
        (name, other_token, 403, "not_allowed"),
        ("aws", token, 403, "not_allowed"),
        ("nobody", token, 403, "not_allowed"),
        (name, TOKEN, 403, "not_allowed"),
        (name, ADMIN_TOKEN, 403, "not_allowed"),
        (name, token[:-1] + ("A" if token[-1] != "A" else "B"), 401, "unauthorized"),
        (name, None, 401, "unauthorized"),
    ):
        path = f"/v1/replicas/{victim}/receipts"
        refused = await calls("POST", path, document=document, token=used)
        refused.problem(status, code)
    listed = await calls("GET", f"/v1/replicas/{other}/receipts", token=token)
    listed.problem(403, "not_allowed")
    (await calls("GET", f"/v1/parties/{other}", token=token)).problem(403, "not_allowed")
    (await calls("DELETE", f"/v1/parties/{other}", token=token)).problem(403, "not_allowed")
    for taken in ("aws", name):
        asked = {"name": taken, "datasets": ["public"]}
        again = await calls("POST", "/v1/parties", document=asked, token=ADMIN_TOKEN)
        again.problem(409, "name_taken")
    assert receipts_of(calls.world, name, other, "aws", "nobody") == []
    assert (await calls("DELETE", f"/v1/parties/{other}", token=other_token)).status == 204


async def test_the_token_opens_nothing_else(calls: Calls, party: tuple[str, str]) -> None:
    """Goal: an invitation is no key to the store. Method: every other kind of request with it."""
    _, token = party
    sha256, uuid = "0" * 64, new_uuid()
    for method, path, document in (
        ("PUT", f"/v1/blobs/{sha256}", {}),
        ("PUT", f"/v1/files/{uuid}?version={new_version()}", {"blob": sha256, "name": "a"}),
        ("DELETE", f"/v1/blobs/{sha256}", {"reason": "r"}),
        ("GET", "/v1/blobs?dataset=lab", None),
        ("GET", "/v1/changes?dataset=lab", None),
        ("GET", f"/v1/objects?key=lab/blobs/{sha256}", None),
        ("POST", "/v1/hooks", {"config": {"url": "https://example.org/"}}),
        ("GET", "/v1/hooks", None),
        ("POST", "/v1/replicas", {"name": "x", "url": "file:///x"}),
        ("PATCH", "/v1/replicas/nobody", {"paused": True}),
        ("DELETE", "/v1/replicas/nobody", None),
        ("GET", "/v1/parked", None),
        ("POST", "/v1/parked/retries", {}),
        ("GET", f"/v1/explanations?key=public/blobs/{sha256}", None),
        ("POST", "/v1/redactions/lifts", {"target": f"public/blobs/{sha256}", "reason": "r"}),
        ("GET", "/v1/parties", None),
        ("POST", "/v1/parties", {"name": "y", "datasets": ["lab"]}),
    ):
        refused = await calls(method, path, document=document, token=token)
        refused.problem(403, "not_allowed")
    assert (await calls("GET", "/v1/changes", token=token)).status == 200


async def test_a_token_that_was_taken_away_opens_nothing_on_any_gateway(calls: Calls) -> None:
    """Goal: sending away works. Method: removed through one gateway, used on both; invited again.

    What was said in the earlier life is forgotten, and its token stays worthless.
    """
    name, token = await invite(calls, "public")
    path, right = f"/v1/replicas/{name}/receipts", await written(calls)
    document = {"receipts": [right]}
    assert (await calls("POST", path, document=document, token=token)).status == 200
    assert (await calls("DELETE", f"/v1/parties/{name}", token=ADMIN_TOKEN)).status == 204
    later = {"receipts": [await written(calls)]}
    for gateway in ("0", "1"):
        refused = await calls("POST", path, document=later, token=token, gateway=gateway)
        refused.problem(401, "unauthorized")
    asked = {"name": name, "datasets": ["public"]}
    again = await calls("POST", "/v1/parties", document=asked, token=ADMIN_TOKEN, gateway="1")
    assert (again.status, again.json["life"]) == (201, 2)
    assert again.json["receipts"] == []
    listed = await calls("GET", path, token=again.json["token"], gateway="1")
    assert listed.json["items"] == []
    (await calls("POST", path, document=later, token=token)).problem(401, "unauthorized")
    assert receipts_of(calls.world, name) == [right["key"]]
    saved = [
        record.event
        for record in calls.world.records("parties")
        if isinstance(record.event, PartySaved) and record.event.name == name
    ]
    assert [party.life for party in saved] == [1, 2]
    assert all(party.token_sha256 == sha256_of(used.encode()) for party, used in
               zip(saved, (token, again.json["token"]), strict=True)), "the hash alone"  # fmt: skip
    assert (await calls("DELETE", f"/v1/parties/{name}", token=ADMIN_TOKEN)).status == 204
