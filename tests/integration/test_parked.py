"""What is parked is listed, explained, and tried again when somebody asks: once, whoever dies."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Servers, shared_world
from tests.integration.commands import check_refusal, environ, lines, run
from tests.servers.kafka import TestKafka
from tests.world import World, new_uuid, new_version, random_body
from tidestore.client import Client, ClientError
from tidestore.schemas.events import CopyChanged, CopyState, RetryAsked

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def store(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A folder as origin and a worker for `aws`; each test leaves nothing parked."""
    started: dict[str, Any] = {"feeds": 0, "only": ("aws",)}
    yield from shared_world(kafka, servers, tmp_path_factory, origin="onprem", **started)


async def park_family(world: World, client: Client) -> tuple[list[str], Path, bytes]:
    """A blob whose only source is damaged, a file and a bundle of it, parked on aws.

    Their keys, where the damage lies, and what should lie there.
    """
    worker = world.processes["worker-aws-0"]
    worker.freeze()  # so that the damage is there before the source is read
    body = random_body(50_000)
    uuid, version = await world.put_file(client, body)
    bundle, bundle_version = new_uuid(), new_version()
    document: dict[str, Any] = {"files": [{"uuid": uuid, "version": version, "name": "a.txt"}]}
    await client.put(f"/v1/bundles/{bundle}", document=document, version=bundle_version)
    blob = f"public/blobs/{hashlib.sha256(body).hexdigest()}"
    keys = [blob, f"public/files/{uuid}.{version}", f"public/bundles/{bundle}.{bundle_version}"]
    place = world.folder / "onprem" / blob
    place.chmod(0o644)
    place.write_bytes(bytes([body[0] ^ 1]) + body[1:])
    worker.thaw()

    async def is_parked() -> bool:
        copies = [(await world.copies(client, key))["aws"] for key in keys]
        return all(copy["state"] == "parked" for copy in copies)

    await world.until(is_parked, seconds=90)
    return keys, place, body


async def test_a_mended_cause_is_tried_again_by_its_class_and_all_of_its_family_follows(
    store: World, tmp_path: Path
) -> None:
    """Goal: parked, explained, mended, retried, present. Method: the commands, as a person.

    Only the class of the root cause is asked for: file and bundle wake with their blob.
    """
    world, env = store, environ(store, tmp_path)

    async def command(*words: str) -> Any:
        return await asyncio.to_thread(run, tmp_path, env, *words)

    async with world.client() as client:
        keys, place, body = await park_family(world, client)
        blob, file, bundle = keys
        listed = lines(await command("parked", "--json", "--replica", "aws"))
        assert {item["key"]: item["error_class"] for item in listed} == {
            blob: "checksum", file: "child", bundle: "child"
        }  # fmt: skip
        assert lines(await command("parked", "--json", "--older-than", "1d")) == []
        assert lines(await command("parked", "--json", "--replica", "gcp")) == []
        (only,) = (await command("parked", "--class", "checksum")).stdout.splitlines()
        assert blob in only
        assert "sha256" in only

        (story,) = lines(await command("explain", bundle, "--json"))
        check_story(world, story, keys)
        told = (await command("explain", bundle)).stdout
        assert story["event"]["position"] in told
        assert f"tidestore retry {blob}" in told

        place.write_bytes(body)
        done = await command("retry", "--class", "checksum", "--reason", "mended", "--json")
        assert lines(done) == [{"asked": 1, "not_parked": []}]
        await world.until_present(client, keys, "aws", seconds=60)
        assert (await command("parked")).stdout == "nothing is parked\n"
        text = check_refusal(await command("retry", blob))
        assert "no parked copy" in text
        assert "tidestore explain" in text
    check_mended(world, keys, body)


def check_story(world: World, story: dict[str, Any], keys: list[str]) -> None:
    """The bundle's story leads from its copy over the file to the blob, and names its event."""
    blob, file, bundle = keys
    copies = {copy["replica"]: copy for copy in story["copies"]}
    assert [step["key"] for step in copies["aws"]["because"]] == [file, blob]
    root = copies["aws"]["because"][-1]
    assert (root["error_class"], root["attempts"]) == ("checksum", 6)
    assert copies["gcp"]["state"] == "pending"
    assert story["readable_on"] == ["onprem"]
    assert story["event"]["written_by"] == "tester"
    record = next(record for record in world.records("log") if record.key == bundle)
    assert story["event"]["position"] == f"1.{record.partition}.{record.offset}"


def check_mended(world: World, keys: list[str], body: bytes) -> None:
    """The family is there, with the right bytes, and one request did it."""
    found = world.contents("aws")
    assert found.keys() >= set(keys)
    assert found[keys[0]][1] == hashlib.sha256(body).hexdigest()
    asked = [r.event for r in world.records("retries") if isinstance(r.event, RetryAsked)]
    assert [(event.key, event.asked_by, event.reason) for event in asked if event.key in keys] == [
        (keys[0], "tester", "mended")
    ]


async def test_a_retry_asked_twice_of_a_worker_that_is_killed_is_done_once_when_it_is_back(
    store: World,
) -> None:
    """Goal: nothing between ask and act is lost or doubled. Method: freeze, ask twice, SIGKILL.

    The frozen worker cannot have seen the requests. What it does after its restart is counted in
    the copies topic, behind another object's copy as a fence.
    """
    world = store
    async with world.client() as client:
        keys, place, body = await park_family(world, client)
        worker = world.processes["worker-aws-0"]
        worker.freeze()
        place.write_bytes(body)
        for _ in range(2):
            answer = await client.post("/v1/parked/retries", {"keys": [keys[0]]})
            assert answer == {"asked": 1, "more": False, "not_parked": []}
        assert (await world.copies(client, keys[0]))["aws"]["state"] == "parked"
        worker.kill()
        world.restart("worker-aws-0")
        await world.until_present(client, keys, "aws", seconds=60)
        fence = await world.put_blob(client, random_body(100))
        await world.until_present(client, [fence], "aws")
    states = Counter(
        event.state
        for record in world.records("copies.aws.1")
        if isinstance(event := record.event, CopyChanged) and event.key == keys[0]
    )
    assert states[CopyState.PARKED] == 1
    assert states[CopyState.PRESENT] == 1


async def test_a_retry_that_fails_counts_from_one_again_and_says_so(store: World) -> None:
    """Goal: a retry is a full one, not the last try once more. Method: retry with the damage there.

    The copy gets a next try and a small count instead of being parked again at once.
    """
    world = store
    async with world.client() as client:
        keys, place, body = await park_family(world, client)
        await client.post("/v1/parked/retries", {"replica": "aws", "error_class": "checksum"})

        async def is_tried() -> bool:
            copy = (await world.copies(client, keys[0]))["aws"]
            return bool(copy["state"] == "pending" and 1 <= copy["attempts"] < 6)

        await world.until(is_tried)
        place.write_bytes(body)
        await world.until_present(client, keys, "aws")


async def test_what_is_parked_is_for_those_with_a_token_and_wrong_words_are_refused(
    store: World, tmp_path: Path
) -> None:
    """Goal: errors may show what is inside. Method: no token, wrong values, unknown keys."""
    world = store
    async with world.client(token="") as nobody:
        for work in (
            nobody.get("/v1/parked"),
            nobody.get("/v1/explanations", key="public/blobs/" + "0" * 64),
            nobody.post("/v1/parked/retries", {}),
        ):
            with pytest.raises(ClientError) as refused:
                await work
            assert refused.value.status == 401
    async with world.client() as client:
        wrong: list[dict[str, Any]] = [
            {"keys": []}, {"keys": [1]}, {"older_than_seconds": -1}, {"replica": "mars"},
            {"error_class": "No Class"}, {"what": 1}, {"cursor": "?"},
            {"keys": ["a"], "cursor": ""},
        ]  # fmt: skip
        for document in wrong:
            with pytest.raises(ClientError) as refused:
                await client.post("/v1/parked/retries", document)
            assert refused.value.status == 400, document
        answer = await client.post("/v1/parked/retries", {})
        assert answer == {"asked": 0, "more": False}
    env = environ(world, tmp_path)
    text = check_refusal(run(tmp_path, env, "retry"))
    assert "--all" in text
    text = check_refusal(run(tmp_path, env, "explain", "public/blobs/" + "0" * 64))
    assert "no such key" in text
    check_refusal(run(tmp_path, env, "parked", "--replica", "mars"))
