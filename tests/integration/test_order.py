"""R5 on every kind of store, over a SIGKILL: what refers to something never comes before it.

Strangers watch all the time, with the clouds' own clients: they list manifests, then everything,
and whatever a manifest names must be there.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from tests.conftest import WorldMaker
from tests.native_reads import all_keys, gcs_bucket, read_one, s3_client
from tests.world import PARTITIONS, World, new_uuid, new_version, random_body
from tidestore.client import Client
from tidestore.schemas.events import CopyChanged, CopyState, PartitionClaimed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

BUNDLES = 4
# One that takes the lane for large objects, one that is fetched, two that ride in their events.
SIZES = (9 * 1024 * 1024, 100_000, 3_000, 10)


@dataclass(slots=True)
class Watcher:
    """Looks at one replica as a stranger would."""

    world: World
    replica: str
    # Manifests never change, so each is read once.
    children: dict[str, set[str]] = field(default_factory=dict)
    too_early: set[str] = field(default_factory=set)
    # How many manifests each look found.
    found: list[int] = field(default_factory=list)

    def look(self) -> None:
        """List manifests first and the rest later: what was named must be there by then."""
        manifests = {key for key in all_keys(self.world, self.replica) if _is_manifest(key)}
        for key in manifests - self.children.keys():
            self.children[key] = self._named_by(key)
        there = all_keys(self.world, self.replica)
        for key in manifests:
            self.too_early |= {f"{key} before {child}" for child in self.children[key] - there}
        self.found.append(len(manifests))

    def _named_by(self, key: str) -> set[str]:
        body = read_one(self.world, self.replica, key)
        assert body is not None, f"{key} was listed and is not there"
        document = json.loads(body)
        if "/files/" in key:
            return {f"public/blobs/{document['sha256']}"}
        return {f"public/files/{item['uuid']}.{item['version']}" for item in document["files"]}


def _is_manifest(key: str) -> bool:
    # What a folder has under a hidden name is not under its final key yet.
    return key.startswith(("public/files/", "public/bundles/")) and "/." not in key


async def test_a_manifest_never_comes_before_what_it_names_on_any_store(
    make_world: WorldMaker,
) -> None:
    """Goal: R5 on S3, GCS and a folder, over a SIGKILL.

    Method: bundles are in the log before there are workers, and the origin has mislaid their larger
    blobs. Watch all three replicas; each worker is killed when all bundles wait there, and started
    again. When that one holds its partitions, too, the blobs are back.
    """
    world = make_world(origin="onprem")
    world.replicas["mirror"] = ((world.folder / "mirror").as_uri(), {})
    names = ("aws", "gcp", "mirror")
    world.start(feeds=0, only=())
    with s3_client(world, "aws") as (s3, bucket), gcs_bucket(world, "gcp") as other:
        s3.create_bucket(Bucket=bucket)  # a worker would, but there is something to watch before
        other.create()
    watchers = [Watcher(world, name) for name in names]
    is_over = asyncio.Event()

    async def watch(watcher: Watcher) -> None:
        while not is_over.is_set():
            await asyncio.to_thread(watcher.look)
            await asyncio.sleep(0.05)  # a look costs as much as a copy

    async def work(name: str) -> None:
        # In the loop's own thread: what another starts is ended with that (PR_SET_PDEATHSIG).
        worker = world.add_worker(name, "0")
        await world.until(lambda: _all_wait(world, name), seconds=60)
        worker.kill()
        worker.start()
        await world.until(lambda: _holds_all(world, name, worker.pid), seconds=60)

    async with world.client() as client:
        keys = await asyncio.gather(*(_put_bundle(world, client) for _ in range(BUNDLES)))
        blobs = world.folder / "onprem" / "public" / "blobs"
        mislaid = [path for path in blobs.iterdir() if path.stat().st_size > 32 * 1024]
        for path in mislaid:
            path.rename(world.folder / path.name)
        watching = [asyncio.create_task(watch(watcher)) for watcher in watchers]
        try:
            await asyncio.gather(*(work(name) for name in names))
            for watcher in watchers:
                await world.until(lambda watcher=watcher: _has_found(watcher, 2 * BUNDLES))  # type: ignore[misc]
            for path in mislaid:
                (world.folder / path.name).rename(path)
            for name in names:
                await world.until_present(client, list(keys), name, seconds=90)
        finally:
            is_over.set()
            await asyncio.gather(*watching)
    for watcher in watchers:
        watcher.look()
        assert not watcher.too_early, watcher.replica
        assert watcher.found[-1] == BUNDLES * (len(SIZES) + 1)


async def _has_found(watcher: Watcher, count: int) -> bool:
    return watcher.found[-1:] >= [count]


async def _all_wait(world: World, replica: str) -> bool:
    """Whether the replica has said of every bundle that it waits."""
    told = await asyncio.to_thread(lambda: list(world.records(f"copies.{replica}.1")))
    changes = [record.event for record in told if isinstance(record.event, CopyChanged)]
    waiting = {change.key for change in changes if change.state is CopyState.WAITING}
    return sum("/bundles/" in key for key in waiting) == BUNDLES


async def _holds_all(world: World, replica: str, pid: int) -> bool:
    """Whether a worker has claimed every partition."""
    told = await asyncio.to_thread(lambda: list(world.records(f"copies.{replica}.1")))
    claims = [record.event for record in told if isinstance(record.event, PartitionClaimed)]
    return {claim.partition for claim in claims if claim.worker.endswith(f"/{pid}")} == set(
        range(PARTITIONS)
    )


async def _put_bundle(world: World, client: Client) -> str:
    """A bundle whose largest file takes the slow lane, and whose manifest rides in its event."""
    files = []
    for number, size in enumerate(SIZES):
        uuid, version = await world.put_file(client, random_body(size), name=f"f{number}")
        files.append({"uuid": uuid, "version": version, "name": f"f{number}"})
    answer = await client.put(
        f"/v1/bundles/{new_uuid()}", document={"files": files}, version=new_version()
    )
    return str(answer["key"])
