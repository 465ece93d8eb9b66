"""Listings against a ledger: what existed when one began is listed exactly once.

The ancestor of this store lost 5.9 % of its bundles in listings while writes went on.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.http_calls import Calls, sha256_of
from tests.integration.shares import living_keys
from tests.world import World, gathering, new_uuid, new_version, random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

FILES_BEFORE = 60
# Few others write into this one, so that a page of one file each does not take minutes.
DATASET = "lab"


async def walk(calls: Calls, limit: int, gateways: list[str]) -> list[str]:
    """All keys of a listing of files, each page from the next of some gateways."""
    keys: list[str] = []
    cursor: str | None = None
    for number in range(10_000):
        gateway = gateways[number % len(gateways)]
        asked: dict[str, Any] = {"limit": limit, "cursor": cursor, "dataset": DATASET}
        page = await calls("GET", "/v1/files", gateway=gateway, **asked)
        assert page.status == 200, page.body
        assert len(page.json["items"]) <= limit
        keys += [item["key"] for item in page.json["items"]]
        cursor = page.json.get("next")
        assert ("Link" in page.headers) is (cursor is not None)
        if cursor is None:
            return keys
    raise AssertionError("the listing does not end")


async def write_files(calls: Calls, blob: str, ledger: list[str], count: int, seed: int) -> None:
    """Write files with random uuids, so that they fall between those that are there."""
    dice = random.Random(seed)
    for _ in range(count):
        uuid, version = new_uuid(), new_version()
        gateway = dice.choice("01")
        document = {"blob": blob, "name": "n"}
        path = f"/v1/files/{uuid}"
        asked: dict[str, Any] = {"version": version, "dataset": DATASET}
        answer = await calls("PUT", path, document=document, gateway=gateway, **asked)
        assert answer.status == 201, answer.body
        ledger.append(answer.json["key"])


# Not shrunk when it fails: the writers' timing is no part of the example.
@settings(max_examples=6, phases=[Phase.explicit, Phase.generate])
@given(limit=st.integers(1, 40), seed=st.integers(0, 2**16), both=st.booleans())
def test_a_listing_is_exact_while_writes_go_on(
    http_world: World, limit: int, seed: int, *, both: bool
) -> None:
    """Goal: no loss, no double, in order; whichever gateway gives a page.

    Method: walk with random page sizes over both gateways while four writers write; compare with
    the writers' own ledger: all acknowledged before the first page must be in it, once.
    """

    async def story() -> None:
        async with Calls(http_world) as calls:
            body = b"listed"
            await calls.put_blob(body, dataset=DATASET)
            ledger: list[str] = []
            missing = FILES_BEFORE - len(await walk(calls, 1_000, ["0"]))
            await write_files(calls, sha256_of(body), ledger, max(5, missing), seed)
            before = set(ledger)
            writers = [
                write_files(calls, sha256_of(body), ledger, 10_000, seed + number)
                for number in range(4)
            ]
            async with gathering(*writers) as tasks:
                listed = await walk(calls, limit, ["0", "1"] if both else ["1"])
                # A walk may be over before the first write is: then another one is looked at.
                while len(ledger) == len(before):
                    listed = await walk(calls, limit, ["0", "1"] if both else ["1"])
                assert not any(task.done() for task in tasks), "the writers stopped"
            during = set(ledger)
            assert [key for key, times in Counter(listed).items() if times > 1] == []
            assert listed == sorted(listed)
            assert before <= set(listed), "an object that existed was lost"
            assert len(during) > len(before), "nothing was written meanwhile"

    asyncio.run(story())


async def test_a_listing_has_what_another_gateway_has_just_taken(calls: Calls) -> None:
    """Goal: the first page's cut: nothing acknowledged before is missed, at any gateway.

    Method: write through one gateway and list at once through the other, many times.
    """
    body = b"listed"
    await calls.put_blob(body, dataset=DATASET)
    for _ in range(20):
        uuid, version = new_uuid(), new_version()
        asked: dict[str, Any] = {"version": version, "dataset": DATASET}
        document = {"blob": sha256_of(body), "name": "n"}
        answer = await calls("PUT", f"/v1/files/{uuid}", document=document, gateway="1", **asked)
        assert answer.status == 201, answer.body
        assert answer.json["key"] in await walk(calls, 1_000, ["0"])


async def test_a_listing_has_only_what_was_written(calls: Calls) -> None:
    """Goal: exact when nothing is written. Method: compare with the log itself, for each kind."""
    body = random_body(25)
    await calls.put_blob(body)
    uuid, version = await calls.put_new_file(body)
    entry = {"uuid": uuid, "version": version}
    bundle = {"files": [entry]}
    await calls("PUT", f"/v1/bundles/{new_uuid()}", document=bundle, version=version)
    links = {"contents": [{"kind": "file", **entry}]}
    await calls("PUT", f"/v1/collections/{new_uuid()}", document=links, version=version)
    logged = await asyncio.to_thread(living_keys, calls.world)
    for kind in ("blobs", "files", "bundles", "collections"):
        cursor, found = None, []
        while True:
            page = (await calls.get(f"/v1/{kind}", limit=7, cursor=cursor)).json
            found += [item["key"] for item in page["items"]]
            cursor = page.get("next")
            if cursor is None:
                break
        assert found == sorted(key for key in logged if key.startswith(f"public/{kind}/"))


async def test_an_item_tells_what_a_reader_needs(calls: Calls) -> None:
    """Goal: size, hash, name, type, position and replicas. Method: find a new file by its key."""
    body = random_body(123)
    uuid, version = await calls.put_new_file(body, name="x/y.bin", content_type="a/b")
    key = f"public/files/{uuid}.{version}"
    async with calls.world.client() as client:
        await calls.world.until_everywhere(client, [key])
        (item,) = [item async for item in client.pages("/v1/files") if item["key"] == key]
    assert (item["uuid"], item["version"]) == (uuid, version)
    assert (item["name"], item["content_type"]) == ("x/y.bin", "a/b")
    assert (item["size"], item["sha256"]) == (len(body), sha256_of(body))
    assert item["present_on"] == ["aws", "gcp", "onprem"]


async def test_a_cursor_is_checked(calls: Calls) -> None:
    """Goal: a cursor opens its own listing only. Method: another kind, another log, garbage."""
    await calls.put_new_file(b"one")
    await calls.put_new_file(b"two")
    cursor = (await calls.get("/v1/files", limit=1)).json["next"]
    (await calls.get("/v1/blobs", cursor=cursor)).problem(400, "malformed")
    for broken in ("x", "!!", cursor[:-6], "A" * 5_000, "W10", "WzEsMiwzLDRd"):
        (await calls.get("/v1/files", cursor=broken)).problem(400, "malformed")
    for limit in ("0", "1001", "-1", "x", "1e2", "٣"):
        (await calls.get("/v1/files", limit=limit)).problem(400, "malformed")
