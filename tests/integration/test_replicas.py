"""Replicas are data: added, paused, retired and added again while the store runs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Servers, _replicas
from tests.http_calls import Calls, sha256_of
from tests.integration.commands import check_refusal, environ, lines, run
from tests.integration.replicas import (
    ask_past_it,
    command,
    has_no_worker,
    held,
    owes,
    pids_of,
    put_bundle,
    put_many,
    refuse_wrong,
    replica,
    stands_still,
    until_complete,
    until_life,
    write_keys,
)
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


async def test_a_replica_with_a_filter_holds_its_roots_and_what_they_name_and_says_so(
    store: World, tmp_path: Path
) -> None:
    """Goal: a part of the store, complete in itself. Method: bundles only, before and after.

    One bundle is written before the replica is there and one after, of files that were left out by
    then. What lies in the folder is compared with what the test wrote; a write's wait, `verify` and
    `scrub` know what is not to be there.
    """
    url, folder = (store.folder / "part").as_uri(), tmp_path
    async with store.client() as client, Calls(store) as calls:
        bodies = [random_body(300) for _ in range(4)]
        files = [await store.put_file(client, body) for body in bodies]
        bundles = [await put_bundle(store, client, files[:2])]
        shown = await command(store, folder, "add", "part", url, "--filter", "kind=bundle")
        assert "only kind=bundle" in shown
        before = await until_complete(store, client, "part")
        bundles.append(await put_bundle(store, client, files[1:3]))
        await store.until_present(client, bundles, "part")
        found = await until_complete(store, client, "part")

        wanted = {
            *bundles,
            *(f"public/files/{uuid}.{version}" for uuid, version in files[:3]),
            *(f"public/blobs/{sha256_of(body)}" for body in bodies[:3]),
        }
        assert held(url).keys() == wanted
        assert (found["filter"], found["present"]) == ("kind=bundle", len(wanted))
        assert before["excluded"] - found["excluded"] == 2, "a file and its blob came after all"
        left = f"public/files/{files[3][0]}.{files[3][1]}"
        assert (await store.copies(client, left))["part"]["state"] == "excluded"
        await ask_past_it(store, calls)
        words = ["--config", str(store.config_path), "--json"]
        env = environ(store, folder)
        verify, scrub = await asyncio.gather(
            asyncio.to_thread(run, folder, env, "verify", "--replica", "part", *words),
            asyncio.to_thread(run, folder, env, "scrub", "part", *words),
        )
        (row,), (report,) = lines(verify), lines(scrub)
        assert (row["equal"], row["missing"], row["unknown"]) == (len(wanted), [], [])
        assert (report["verdict"], report["equal"]) == ("equal", len(wanted))
        assert f"all {len(wanted)} objects of the filter kind=bundle" in report["statement"]["said"]
        await client.delete("/v1/replicas/part")


async def test_a_replica_whose_place_was_emptied_is_filled_again_once_it_is_declared_lost(
    store: World, tmp_path: Path
) -> None:
    """Goal: refill, and no more. Method: a folder emptied under a running worker, then the command.

    One object is left in it, and one with wrong bytes. Before that, another deployment's marker is
    refused and changes nothing; then the marker of a gateway that died half way is in the way.
    """
    folder = store.folder / "gone"
    url, marker = folder.as_uri(), folder / ".tidestore" / "replica.json"
    async with store.client() as client, store.client("1") as other:
        await client.post("/v1/replicas", {"name": "gone", "url": url})
        keys = await put_many(store, client, 6)
        await until_complete(store, client, "gone")
        whole, mine = held(url), json.loads(marker.read_bytes())
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            if not path.match(f"*/{keys[0]}"):
                path.unlink()
        altered = folder / keys[1]
        altered.parent.mkdir(parents=True, exist_ok=True)
        altered.write_bytes(b"x" * 200)

        marker.parent.mkdir(exist_ok=True)
        marker.write_text(json.dumps({**mine, "deployment": "another"}))
        body = {"incarnation": 1, "reason": "emptied"}
        with pytest.raises(ClientError) as refusal:
            await client.post("/v1/replicas/gone/losses", body)
        assert refusal.value.code == "foreign_content"
        assert (await replica(client, "gone"))["incarnation"] == 1
        marker.write_text(json.dumps({**mine, "incarnation": 2}))
        shown = await command(store, tmp_path, "lost", "gone", "--reason", "emptied")
        assert "incarnation 2" in shown
        with pytest.raises(ClientError) as refusal:
            await client.post("/v1/replicas/gone/losses", body)
        assert refusal.value.code == "changed_meanwhile"
        for gateway in (client, other):
            await until_life(store, gateway, "gone", 2)
            found = await until_complete(store, gateway, "gone")
            assert (found["parked"], found["lag"]["objects"]) == (0, 0)
        assert held(url).items() >= whole.items()
        with pytest.raises(ClientError) as refusal:
            await client.post("/v1/replicas/onprem/losses", body)
        assert refusal.value.code == "is_origin"
        await client.delete("/v1/replicas/gone")
