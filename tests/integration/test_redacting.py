"""An admin takes something away: hidden at once, everywhere, with the reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.http_calls import Calls, sha256_of
from tests.integration.redacting import REASON, append, ends_redacted, redact
from tests.world import World, new_uuid, new_version, random_body
from tidestore.schemas.audit import AuditRecorded
from tidestore.schemas.events import ObjectWritten, RedactionDecided

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


async def gone(calls: Calls, path: str, gateway: str, **more: Any) -> None:
    """The path answers 410 with the reason, by GET and HEAD."""
    answer = await calls.get(path, gateway=gateway, **more)
    assert answer.problem(410, "redacted")["reason"] == REASON, path
    head = await calls("HEAD", path, gateway=gateway, token=None, **more)
    assert head.status == 410, path


def decided(target: str) -> RedactionDecided:
    return RedactionDecided(target, 1, REASON, "admin", 1, 2**53)


async def log_of(world: World, key: str) -> list[object]:
    """The events of a key in the log, in order."""
    found = await asyncio.to_thread(lambda: [r for r in world.records("log") if r.key == key])
    return [record.event for record in found]


async def test_one_version_is_gone_on_every_read_path_of_every_gateway(calls: Calls) -> None:
    """Goal: hidden at once here, and elsewhere as soon as it is folded, with the reason.

    Method: two versions of a file; redact the older one, ask every path that could show it.
    """
    body = random_body(50)
    uuid, old = await calls.put_new_file(body)
    new = new_version()
    path, key = f"/v1/files/{uuid}", f"public/files/{uuid}.{old}"
    document = {"blob": sha256_of(body), "name": "b.txt"}
    assert (await calls("PUT", path, document=document, version=new)).status == 201
    answer = await redact(calls, path, version=old)
    assert answer.status == 202, answer.body
    assert answer.json["keys"] == [key]
    assert answer.json["takes_along"] == [], "the newer version names the blob"
    assert answer.json["keeps"][0]["named_by"] == [f"public/files/{uuid}.{new}"]
    (position,) = answer.json["positions"]
    await gone(calls, path, "0", version=old)
    for gateway in ("0", "1"):
        await gone(calls, path, gateway, version=old, at=position)
        await gone(calls, path, gateway, version=old, delivery="stream")
        problem = (await calls.get(f"{path}/copies", gateway=gateway, version=old)).problem(
            410, "redacted"
        )
        assert {receipt["replica"] for receipt in problem["receipts"]} == {"aws", "gcp", "onprem"}
        versions = (await calls.get(f"{path}/versions", gateway=gateway)).json["versions"]
        assert [item["version"] for item in versions] == [new]
        listed = await calls.get("/v1/files", gateway=gateway, limit=1000)
        assert key not in [item["key"] for item in listed.json["items"]]
    written = await calls("PUT", path, document=document, version=old)
    assert written.problem(410, "redacted")["reason"] == REASON
    assert (await calls.get(path)).headers["Tidestore-Version"] == new
    again = await redact(calls, path, version=old, document={"reason": "another"})
    assert (again.status, again.json["reason"], again.json["positions"]) == (200, REASON, [])


async def test_a_whole_uuid_goes_in_two_steps_and_covers_its_future(calls: Calls) -> None:
    """Goal: nobody takes a history away by a slip. Method: the two calls, and what lies between.

    The token is of one preview, one admin and one state: a new version makes it worthless. A file
    takes its blob along.
    """
    body = random_body(50)
    uuid, first = await calls.put_new_file(body)
    path, blob = f"/v1/files/{uuid}", f"public/blobs/{sha256_of(body)}"
    shown = await redact(calls, path)
    assert (shown.status, shown.json["keys_count"]) == (200, 1)
    assert shown.json["takes_along"] == [blob]
    assert (await calls.get(path)).status in (200, 307), "a preview changes nothing"
    document = {"reason": REASON, "token": shown.json["token"]}
    newer = {"blob": sha256_of(body), "name": "b.txt"}
    assert (await calls("PUT", path, document=newer, version=new_version())).status == 201
    for wrong in (document, {**document, "token": "1.2"}):
        (await redact(calls, path, document=wrong)).problem(409, "preview_changed")
    document["token"] = (await redact(calls, path)).json["token"]
    # On any gateway: it is not remembered anywhere.
    done = await redact(calls, path, document=document, gateway="1")
    assert (done.status, done.json["keys_count"], len(done.json["positions"])) == (202, 2, 3)
    assert done.json["beyond_our_hand"]

    async def is_known() -> bool:
        # The blob's decision is written after the file's.
        return (await calls.get(f"/v1/blobs/{sha256_of(body)}")).status == 410

    await calls.world.until(is_known)
    for gateway in ("0", "1"):
        await gone(calls, path, gateway)
        await gone(calls, path, gateway, version=first)
        await gone(calls, f"/v1/blobs/{sha256_of(body)}", gateway)
        (await calls.get(f"{path}/versions", gateway=gateway)).problem(410, "redacted")
    other = random_body(50)
    assert (await calls.put_blob(other)).status == 201
    newer["blob"] = sha256_of(other)
    later = await calls("PUT", path, document=newer, version=new_version())
    later.problem(410, "redacted")
    audits = await asyncio.to_thread(lambda: list(calls.world.records("audit")))
    told = [a.event for a in audits if isinstance(a.event, AuditRecorded)]
    assert [(a.actor, a.action, a.reason) for a in told if a.target.endswith(uuid)] == [
        ("admin", "redact", REASON)
    ]


async def test_only_an_admin_with_a_reason_may_redact(calls: Calls) -> None:
    """Goal: a normal user cannot cause it. Method: a writer's token, and wrong bodies."""
    uuid, version = await calls.put_new_file(random_body(20))
    path = f"/v1/files/{uuid}"
    told = await calls("DELETE", path, version=version, document={"reason": REASON})
    told.problem(403, "not_allowed")
    (await calls("DELETE", path, version=version, token=None)).problem(401, "unauthorized")
    for wrong in (
        {},
        {"reason": " "},
        {"reason": "r" * 501},
        {"reason": "r", "x": 1},
        {"reason": "r", "grace_seconds": -1},
        {"reason": "r", "grace_seconds": 10**9},
    ):
        answer = await redact(calls, path, version=version, document=wrong)  # fmt: skip
        assert answer.problem(400, "malformed")["hint"]
    shown = await redact(calls, path, version=version, document=None, preview="true")
    assert shown.status == 200
    (await redact(calls, f"/v1/files/{new_uuid()}", version=version)).problem(404, "not_found")
    assert (await calls.get(path)).status in (200, 307), "nothing was redacted"


async def test_what_a_dead_gateway_began_is_finished_by_any_other(calls: Calls) -> None:
    """Goal: SIGKILL between the decision and the log. Method: leave just what such a gateway does.

    A decision on a whole uuid, and nothing in the log: each version gets its record by itself.
    """
    body = random_body(50)
    uuid, version = await calls.put_new_file(body)
    key = f"public/files/{uuid}.{version}"
    await append(calls.world, decided(f"public/files/{uuid}"))
    await calls.world.until(lambda: ends_redacted(calls.world, key))

    async def is_known() -> bool:
        # Whichever gateway finished it, this one reads of it by itself.
        return (await calls.get(f"/v1/files/{uuid}")).status == 410

    await calls.world.until(is_known)
    await gone(calls, f"/v1/files/{uuid}", "0")
    # The admin, who had no answer, sends it again: the blob goes along now.
    shown = await redact(calls, f"/v1/files/{uuid}")
    assert shown.json["takes_along"] == [f"public/blobs/{sha256_of(body)}"]
    document = {"reason": REASON, "token": shown.json["token"]}
    assert (await redact(calls, f"/v1/files/{uuid}", document=document)).status == 202
    await gone(calls, f"/v1/blobs/{sha256_of(body)}", "0")


async def test_a_frozen_gateways_late_append_is_taken_away_again(calls: Calls) -> None:
    """Goal: redaction beats every write, in any order (design point 3).

    Method: a write's own event, appended once more after its redaction, as by a gateway that slept.
    """
    body = random_body(50)
    assert (await calls.put_blob(body)).status == 201
    key = f"public/blobs/{sha256_of(body)}"
    done = await redact(calls, f"/v1/blobs/{sha256_of(body)}")
    assert done.status == 202
    (position,) = done.json["positions"]
    written = (await log_of(calls.world, key))[0]
    assert isinstance(written, ObjectWritten)
    await append(calls.world, written)
    await calls.world.until(lambda: ends_redacted(calls.world, key, times=2))
    for gateway in ("0", "1"):
        await gone(calls, f"/v1/blobs/{sha256_of(body)}", gateway, at=position)


async def test_a_bundle_whose_file_is_gone_says_so(calls: Calls) -> None:
    """Goal: cascades are explicit. Method: preview a file of a bundle, then read that.

    Its bytes are what they were. A blob that a live collection names stays when its file goes.
    """
    body = random_body(50)
    uuid, version = await calls.put_new_file(body)
    key, blob = f"public/files/{uuid}.{version}", f"public/blobs/{sha256_of(body)}"
    bundle, collection, when = new_uuid(), new_uuid(), new_version()
    files = {"files": [{"uuid": uuid, "version": version, "name": "a.txt"}]}
    assert (await calls("PUT", f"/v1/bundles/{bundle}", document=files, version=when)).status == 201
    contents = {"contents": [{"kind": "blob", "sha256": sha256_of(body)}]}
    written = await calls("PUT", f"/v1/collections/{collection}", document=contents, version=when)
    assert written.status == 201, written.body
    path = f"/v1/bundles/{bundle}"
    before = await calls.get(path, delivery="stream")
    assert "Tidestore-Is-Incomplete" not in before.headers
    shown = await redact(calls, f"/v1/files/{uuid}", version=version, document=None, preview="1")
    assert shown.json["referred_by"] == [f"public/bundles/{bundle}.{when}"]
    assert shown.json["is_complete"] is True
    assert shown.json["takes_along"] == []
    stays = {"key": blob, "named_by": [f"public/collections/{collection}.{when}"]}
    assert shown.json["keeps"] == [stays]
    done = await redact(calls, f"/v1/files/{uuid}", version=version)
    assert done.status == 202
    (position,) = done.json["positions"]
    for gateway in ("0", "1"):
        for delivery in ("stream", "redirect"):
            answer = await calls.get(path, gateway=gateway, delivery=delivery, at=position)
            assert answer.headers["Tidestore-Is-Incomplete"] == "true", (gateway, delivery)
        head = await calls("HEAD", path, gateway=gateway, token=None, version=when)
        assert head.headers["Tidestore-Is-Incomplete"] == "true"
        assert head.headers["Cache-Control"] == "no-cache"
        copies = (await calls.get(f"{path}/copies", gateway=gateway)).json
        assert (copies["is_incomplete"], copies["gone"]) == (True, [key])
    assert (await calls.get(path, delivery="stream")).body == before.body
    assert (await calls.get(f"/v1/blobs/{sha256_of(body)}")).status in (200, 307)
