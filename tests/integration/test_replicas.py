"""Replicas are data: added, paused, retired and added again while the store runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Servers, _replicas
from tests.integration.commands import check_refusal, environ, run
from tests.servers.kafka import TestKafka
from tests.servers.stores import StoreServer
from tests.world import World, random_body
from tidestore.client import Client, ClientError
from tidestore.local.readback import ReplicaPlace, read_replica
from tidestore.schemas.events import CopyChanged

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def store(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A store of two gateways whose replicas are served by one `worker --all`, in a folder each."""
    folder = tmp_path_factory.mktemp("replicas")
    onprem = _replicas(servers, folder)["onprem"]
    found = World(folder, kafka, {"onprem": onprem}, "onprem")
    found.write_config()
    (folder / "credentials").mkdir()
    found.add("worker-all", "0", ["worker", "--all"])
    found.start(gateways=2, only=())
    yield found
    found.stop()
    sys.stdout.write(found.last_words())
    shutil.rmtree(folder, ignore_errors=True)


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


async def test_a_replica_added_while_writes_go_on_gets_every_object_though_its_worker_is_killed(
    store: World, servers: Servers
) -> None:
    """Goal: backfill loses nothing, and nothing is restarted. Method: write, add, SIGKILL, write.

    A prefix of a bucket on MinIO, by a credential's name. Objects from before, during and after;
    the worker dies when some are there and others not. What lies in the bucket is read with
    Amazon's client; the other gateway takes the replica up, too. Then its keys are rotated.
    """
    server = servers.best("minio")
    url = server.new_url("added", "deep/down")
    body = {"name": "added", "url": url, "credential": "added"}

    def there() -> set[str]:
        return set(read_replica(ReplicaPlace("x", url, server.credentials), lambda _: None))

    async with store.client() as client, store.client("1") as other:
        before = await put_many(store, client, 300, size=40_000)
        await refuse_wrong(store, client, body, server)
        await client.post("/v1/replicas", body)
        during = await put_many(store, client, 20)

        async def is_half_way() -> bool:
            pids = pids_of(store, "added")
            if not pids or not 0 < (await replica(client, "added"))["present"] < len(before):
                return False
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            return True

        await store.until(is_half_way)
        after = await put_many(store, client, 20)
        for gateway in (client, other):
            found = await until_complete(store, gateway, "added")
            assert (found["lag"]["objects"], found["parked"]) == (0, 0)
        assert there() == {*before, *during, *after, *held(store.replicas["onprem"][0])}
        await rotate(store, client, server)


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


async def rotate(world: World, client: Client, server: StoreServer) -> None:
    """Keys that are refused hold copies up; the right ones are taken up by the same processes."""
    pids = pids_of(world, "added")
    write_keys(world, server, "wrong")
    key = await world.put_blob(client, random_body(300))

    async def is_refused() -> bool:
        nonlocal key
        copy = (await world.copies(client, key))["added"]
        if copy["state"] == "present":  # copied before the file was looked at: no proof
            key = await world.put_blob(client, random_body(300))
        return bool(copy.get("error_class") == "auth")

    await world.until(is_refused)
    write_keys(world, server, server.credentials["secret_access_key"])
    await world.until_present(client, [key], "added", seconds=60)
    assert pids_of(world, "added") == pids


async def test_a_replica_stands_still_while_paused_and_believes_nothing_old_after_it_was_retired(
    store: World, tmp_path: Path
) -> None:
    """Goal: pause owes, retire ends, add again is another life. Method: the commands, as a person.

    In the folder of the retired replica one object is lost and one altered, of both of which the
    first life said "present". The second must bring both back, and change nothing else.
    """
    url = (store.folder / "again").as_uri()
    async with store.client() as client, store.client("1") as other:
        await command(store, tmp_path, "add", "again", url)
        keys = await put_many(store, client, 4)
        await until_complete(store, client, "again")
        await command(store, tmp_path, "pause", "again", "--reason", "moves")
        await store.until(lambda: stands_still(store, "again"))
        owed = await put_many(store, client, 3)
        await store.until(lambda: owes(client, "again", len(owed)))
        assert (await replica(client, "again"))["is_paused"]
        assert not held(url).keys() & set(owed)
        await command(store, tmp_path, "resume", "again")
        await until_complete(store, client, "again")
        whole = held(url)
        assert whole.keys() >= {*keys, *owed}

        await command(store, tmp_path, "retire", "again", "--reason", "a try")
        with pytest.raises(ClientError) as refusal:
            await replica(client, "again")
        assert refusal.value.code == "unknown_replica"
        await store.until(lambda: has_no_worker(store, "again"))
        (unowed,) = await put_many(store, client, 1)
        assert "again" not in await store.copies(client, unowed)
        lost, altered = (store.folder / "again" / key for key in keys[:2])
        lost.unlink()
        altered.chmod(0o644)
        altered.write_bytes(b"x" * altered.stat().st_size)
        shown = await command(store, tmp_path, "ls", "--retired")
        assert "again  incarnation 1  a try (by tester)" in shown

        answer = await other.post("/v1/replicas", {"name": "again", "url": url})
        assert answer["incarnation"] == 2
        for gateway in (other, client):
            await until_complete(store, gateway, "again")
    again = held(url)
    assert {key: again[key] for key in whole} == whole
    assert unowed in again
    said = {
        record.event.key
        for record in store.records("copies.again.2")
        if isinstance(record.event, CopyChanged)
    }
    assert said >= {*keys, *owed, unowed}


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


async def test_a_place_that_cannot_be_a_replica_is_refused_with_the_reason(
    store: World, tmp_path: Path
) -> None:
    """Goal: every reason that can be known beforehand. Method: a place for each.

    Nothing that was refused is listed afterwards, and two prefixes side by side are taken.
    """
    url, folder = store.replicas["onprem"][0], store.folder
    env = environ(store, tmp_path)
    strange, foreign = folder / "strange", folder / "foreign"
    strange.mkdir()
    (strange / "holiday.jpg").write_bytes(b"jpg")
    (foreign / ".tidestore").mkdir(parents=True)
    marker = '{"deployment":"another","incarnation":1,"replica":"theirs"}'
    (foreign / ".tidestore" / "replica.json").write_text(marker)
    asked = {
        "name_taken": ("onprem", (folder / "x").as_uri()),
        "replica_overlaps": ("inside", f"{url}/below"),
        "not_empty": ("strange", strange.as_uri()),
        "foreign_content": ("foreign", foreign.as_uri()),
        "malformed": ("loud", "s3://key:secret@bucket"),
    }
    async with store.client() as client:
        before = {item["name"] for item in (await client.get("/v1/replicas"))["replicas"]}
        for code, (name, place) in asked.items():
            with pytest.raises(ClientError) as refusal:
                await client.post("/v1/replicas", {"name": name, "url": place})
            assert refusal.value.code == code, (code, str(refusal.value))
        done = await asyncio.to_thread(
            run, tmp_path, env, "replica", "add", "strange", strange.as_uri()
        )
        text = check_refusal(done)
        assert "holiday.jpg" in text
        assert "--adopt" in text
        after = {item["name"] for item in (await client.get("/v1/replicas"))["replicas"]}
        assert after <= before | {"added", "again"}
        for name in ("one", "two"):
            place = (folder / "shared" / name).as_uri()
            await client.post("/v1/replicas", {"name": name, "url": place})
            await client.delete(f"/v1/replicas/{name}")
