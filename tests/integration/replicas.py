"""What tests of replicas that come and go ask of a store, and do to it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.http_calls import Calls, sha256_of
from tests.integration.commands import environ, run
from tests.servers.stores import StoreServer
from tests.world import World, new_uuid, new_version, random_body
from tidestore.client import Client, ClientError
from tidestore.local.readback import ReplicaPlace, read_replica

# A wait that is ended by nothing but its own time.
WAIT_SECONDS = 60
WAIT_LONG = {"Prefer": f"wait={WAIT_SECONDS}"}


def held(url: str) -> dict[str, tuple[int, str]]:
    """What a folder holds, read by no code of the product's stores."""
    return read_replica(ReplicaPlace("x", url, {}), lambda _: None)


async def replica(client: Client, name: str) -> dict[str, Any]:
    return await client.get(f"/v1/replicas/{name}")


async def until_complete(world: World, client: Client, name: str) -> dict[str, Any]:
    """Wait until a gateway says that nothing of all that is in the log now is owed to a replica."""
    found: dict[str, Any] = {}
    objects = len({record.key for record in await asyncio.to_thread(list, world.records("log"))})

    async def is_complete() -> bool:
        try:
            found.update(await replica(client, name))
        except ClientError as error:
            if error.status != 404:  # the other gateway may not have heard of it yet
                raise
            return False
        progress = found["progress"]
        return bool(progress["done"] == progress["total"] >= objects)

    await world.until(is_complete)
    return found


async def put_many(world: World, client: Client, count: int, size: int = 200) -> list[str]:
    return list(
        await asyncio.gather(*(world.put_blob(client, random_body(size)) for _ in range(count)))
    )


def pids_of(world: World, name: str) -> list[int]:
    """The worker processes of a replica that belong to this world."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if {b"worker", name.encode(), str(world.config_path).encode()} <= set(words):
            found.append(int(entry.parent.name))
    return found


def write_keys(world: World, server: StoreServer, secret: str) -> None:
    """The credential `added`, as a person writes it."""
    (world.folder / "credentials" / "added.toml").write_text(
        f'access_key_id = "plain:{server.credentials["access_key_id"]}"\n'
        f'secret_access_key = "plain:{secret}"\n'
    )


async def refuse_wrong(
    world: World, client: Client, body: dict[str, Any], server: StoreServer
) -> None:
    """A credential that is not there, wrong keys, a missing bucket; the right keys are left."""
    bare = body["url"].replace("create=1", "create=0").replace("added-", "missing-")
    right = server.credentials["secret_access_key"]
    steps = (
        ("credential_unknown", None, body["url"]),
        ("credentials_refused", "wrong", body["url"]),
        ("bucket_missing", right, bare),
    )
    for code, secret, url in steps:
        if secret is not None:
            write_keys(world, server, secret)
        with pytest.raises(ClientError) as refusal:
            await client.post("/v1/replicas", {**body, "url": url})
        assert refusal.value.code == code, str(refusal.value)


async def command(world: World, folder: Path, *words: str) -> str:
    """What a `tidestore replica` command says."""
    done = await asyncio.to_thread(run, folder, environ(world, folder), "replica", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def stands_still(world: World, name: str) -> bool:
    """Whether the worker of a replica has said that it stands still."""
    log = world.folder / "logs" / "worker-all-0.log"
    return f"{name}: is paused or retired" in log.read_text("utf-8")


async def owes(client: Client, name: str, count: int) -> bool:
    """Whether so many objects are owed to a replica, as the gateway has folded by now."""
    return bool((await replica(client, name))["lag"]["objects"] == count)


async def has_no_worker(world: World, name: str) -> bool:
    return not pids_of(world, name)


async def put_bundle(world: World, client: Client, files: list[tuple[str, str]]) -> str:
    """Write a bundle of files; its key."""
    identity, version = new_uuid(), new_version()
    entries = [
        {"uuid": uuid, "version": at, "name": f"{number}.txt"}
        for number, (uuid, at) in enumerate(files)
    ]
    document = {"files": entries}
    await client.put(f"/v1/bundles/{identity}", document=document, version=version)
    return f"public/bundles/{identity}.{version}"


async def ask_past_it(world: World, calls: Calls) -> None:
    """Writes that wait, and a read, of what the replica `part` is not to have."""
    others = (await calls.get("/v1/replicas")).json["replicas"]
    body = random_body(200)
    answer = await calls.put_blob(body, headers={"Prefer": "wait=60"})
    assert (answer.status, answer.json["excluded_on"]) == (201, ["part"])
    assert len(answer.json["present_on"]) == len(others) - 1
    begun = time.monotonic()
    answer = await calls.put_blob(random_body(200), replicas=len(others), headers=WAIT_LONG)
    assert (answer.status, answer.json["excluded_on"]) == (202, ["part"])
    answer = await calls.put_blob(random_body(200), replica="part", headers=WAIT_LONG)
    assert (answer.status, answer.json["waiting_for"]) == (202, "part")
    assert time.monotonic() - begun < WAIT_SECONDS, "they had not to be waited for"
    answer = await calls.get(f"/v1/blobs/{sha256_of(body)}", replica="part")
    assert (answer.status, answer.json["code"]) == (404, "excluded_there")


async def until_life(world: World, client: Client, name: str, life: int) -> None:
    """Wait until a gateway has heard of a replica's life."""

    async def is_there() -> bool:
        return bool((await replica(client, name))["incarnation"] == life)

    await world.until(is_there)
