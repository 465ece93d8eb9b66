"""Scrub on real stores: damage done behind our back is found, told, and heals by itself."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import WorldMaker
from tests.integration.commands import environ, lines, run
from tests.world import World, random_body
from tidestore.client import Client
from tidestore.connectors.signing import canonical, is_signed
from tidestore.local.readback import gcs_client, places_of, s3_client

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SCRUB_TOML = '[scrub]\nsigning_key = "plain:sign"'


class Vandal:
    """Changes what lies on replicas, with the clouds' own clients."""

    def __init__(self, world: World) -> None:
        self._places = {place.name: place for place in places_of(world.config_path)}
        self._root = world.folder / "onprem"

    def _bucket(self, replica: str) -> str:
        return self._places[replica].url.split("//", 1)[1].split("?", 1)[0].split("/", 1)[0]

    def put(self, replica: str, key: str, body: bytes) -> None:
        if replica == "aws":
            client = s3_client(self._places["aws"])
            client.put_object(Bucket=self._bucket("aws"), Key=key, Body=body)
        elif replica == "gcp":
            client = gcs_client(self._places["gcp"])
            client.bucket(self._bucket("gcp")).blob(key).upload_from_string(body)
        else:
            path = self._root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(body)

    def delete(self, replica: str, key: str) -> None:
        if replica == "aws":
            s3_client(self._places["aws"]).delete_object(Bucket=self._bucket("aws"), Key=key)
        elif replica == "gcp":
            gcs_client(self._places["gcp"]).bucket(self._bucket("gcp")).blob(key).delete()
        else:
            (self._root / key).unlink()


class Person:
    """Runs commands against a world."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world, self._folder = world, folder
        self._env = environ(world, folder)

    async def scrub(self, replica: str, *words: str, code: int = 0) -> dict[str, Any]:
        config = ("--config", str(self._world.config_path))
        done = await asyncio.to_thread(
            run, self._folder, self._env, "scrub", replica, "--json", *words, *config
        )
        assert done.returncode == code, done.stdout + done.stderr
        done.returncode = 0
        return dict(lines(done)[0])


async def fill(world: World, client: Client, count: int) -> dict[str, bytes]:
    """Blobs on every replica: small, inline and not."""
    bodies = [random_body(200 if number % 2 else 50_000) for number in range(count)]
    keys = await asyncio.gather(*(world.put_blob(client, body) for body in bodies))
    await world.until_everywhere(client, list(keys))
    return dict(zip(keys, bodies, strict=True))


def digests(bodies: dict[str, bytes]) -> dict[str, str]:
    return {key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}


async def until_whole(world: World, replica: str, bodies: dict[str, bytes]) -> None:
    """Wait until the replica holds all bytes, read with the cloud's own client."""
    wanted = digests(bodies)

    async def check() -> bool:
        found = await asyncio.to_thread(world.contents, replica)
        return {key: found[key][1] for key in wanted if key in found} == wanted

    await world.until(check, seconds=60)


async def test_what_was_lost_or_altered_behind_our_back_heals_by_itself(
    make_world: WorldMaker, tmp_path: Path
) -> None:
    """Goal: delete and change objects on MinIO (the origin), fake GCS and the folder; all heal.

    Method: the clouds' own clients do the damage; `tidestore scrub` tells exactly what was done and
    the workers mend it; a dry run before changes nothing; one after it signs that all is equal. One
    object is damaged on two replicas, so that its first source is a bad one.
    """
    world = make_world()
    world.extra_toml = SCRUB_TOML
    world.start(feeds=0)
    vandal, person = Vandal(world), Person(world, tmp_path)
    async with world.client() as client:
        bodies = await fill(world, client, 24)
        lost, size, same_size, twice, *_ = sorted(bodies)
        for replica in ("aws", "gcp", "onprem"):
            vandal.delete(replica, lost) if replica != "onprem" else None
            vandal.put(replica, size, b"short")
        vandal.put("onprem", size, bodies[size])  # somebody has to have the right ones
        vandal.put("aws", same_size, bytes(len(bodies[same_size])))
        vandal.put("aws", twice, b"bad at the origin")
        vandal.put("gcp", twice, b"bad at the other one, too")
        dry = await person.scrub("gcp", "--dry-run", code=1)
        assert {item["key"]: item["kind"] for item in dry["findings"]} == {
            lost: "lost", size: "altered", twice: "altered"
        }  # fmt: skip
        assert (await world.copies(client, lost))["gcp"]["state"] == "present"
        found = await person.scrub("gcp", "--stop-percent", "50", code=1)
        assert (found["lost"], found["altered"], found["dark"]) == (1, 2, 0)
        await until_whole(world, "gcp", bodies)
        found = await person.scrub("aws", "--stop-percent", "50", code=1)
        assert {item["key"]: item["kind"] for item in found["findings"]} == {
            lost: "lost", size: "altered", same_size: "altered", twice: "altered"
        }  # fmt: skip
        await until_whole(world, "aws", bodies)
        await world.until_everywhere(client, list(bodies))
        for replica in ("aws", "gcp", "onprem"):
            check_equal(await person.scrub(replica), replica, bodies)
    kept = [key for key in world_keys(vandal, "aws") if key.startswith(".tidestore/damaged/")]
    assert len(kept) == 3, "the bad bytes are kept aside"


def world_keys(vandal: Vandal, replica: str) -> list[str]:
    client = s3_client(vandal._places[replica])
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=vandal._bucket(replica))
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def check_equal(report: dict[str, Any], replica: str, bodies: dict[str, bytes]) -> None:
    """The statement says it, and its signature holds for these very words."""
    assert (report["verdict"], report["equal"]) == ("equal", len(bodies))
    statement = report["statement"]
    assert (statement["replica"], statement["objects"]) == (replica, len(bodies))
    assert statement["bytes"] == sum(map(len, bodies.values()))
    assert f"all {len(bodies)} objects up to cut {report['cut']}" in statement["said"]
    text = canonical(statement)
    assert is_signed(text, report["signature"], report["public_key"])
    assert not is_signed(text.replace("all", "ALL"), report["signature"], report["public_key"])
