"""The images at work on an engine: a write arrives everywhere, also when a worker is killed."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import Tally
from tests.containers.stack import (
    ARRIVAL_SECONDS,
    IMAGES,
    ContainerStack,
    Engine,
    errors,
    find_engine,
)
from tests.world import new_version, random_body
from tidestore.client import Client

pytestmark = [pytest.mark.containers, pytest.mark.timeout(300)]

CHUNK_BYTES = 256 * 1024
REPLICAS = ("aws", "gcp", "onprem")


@pytest.fixture(scope="session")
def engine() -> Engine | None:
    """The engine, if one answers."""
    return find_engine()


@pytest.fixture
def needs_engine(engine: Engine | None, tally: Tally) -> Engine:
    """The engine with our images; a test is counted as not run where one of them is missing."""
    if engine is None:
        tally.missing("docker", "no Docker engine answers")
    for name in IMAGES:
        try:
            engine.images.get(name)
        except errors.ImageNotFound:
            tally.missing("docker", f"{name} is not there: scripts/images builds it")
    tally.ran("docker")
    return engine


@pytest.fixture(scope="session")
def shared(engine: Engine | None) -> Iterator[ContainerStack | None]:
    """The stack that all tests here share; each leaves it whole."""
    if engine is None:
        yield None
        return
    made = ContainerStack(engine)
    yield made
    made.stop()


@pytest.fixture
def stack(needs_engine: Engine, shared: ContainerStack | None) -> ContainerStack:
    """The stack, started by the first test that may use it."""
    del needs_engine
    assert shared is not None
    if not shared.names:
        shared.start()
    return shared


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    """A body as it comes from a disk."""
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]


async def write(client: Client, bodies: list[bytes]) -> list[str]:
    """Write blobs, a file for each, and a bundle of the files; their keys."""
    version, keys, files = new_version(), [], []
    for number, body in enumerate(bodies):
        sha256 = hashlib.sha256(body).hexdigest()
        answer = await client.put(
            f"/v1/blobs/{sha256}", body=functools.partial(chunks, body), size=len(body)
        )
        file_id = str(uuid.uuid4())
        document = {"blob": sha256, "name": f"{number}.txt", "content_type": "text/plain"}
        made = await client.put(f"/v1/files/{file_id}", document=document, version=version)
        files.append({"uuid": file_id, "version": version, "name": f"{number}.txt"})
        keys += [answer["key"], made["key"]]
    bundle = await client.put(
        f"/v1/bundles/{uuid.uuid4()}", document={"files": files}, version=version
    )
    return [*keys, bundle["key"]]


async def states(client: Client, key: str) -> dict[str, str]:
    """The state of each copy of an object."""
    _, kind, name = key.split("/")
    identity, _, version = name.partition(".")
    found = await client.get(f"/v1/{kind}/{identity}/copies", version=version or None)
    return {copy["replica"]: copy["state"] for copy in found["copies"]}


async def until_present(
    stack: ContainerStack, client: Client, keys: list[str], replicas: tuple[str, ...] = REPLICAS
) -> None:
    """Wait until every key is present on some replicas."""
    deadline, left = time.monotonic() + ARRIVAL_SECONDS, set(keys)
    while left:
        for key in list(left):
            found = await states(client, key)
            if all(found[name] == "present" for name in replicas):
                left.discard(key)
        if left and time.monotonic() > deadline:
            raise AssertionError(f"not on {replicas}: {sorted(left)[:3]}\n{stack.last_words()}")
        await asyncio.sleep(0.1)


def assert_equal_everywhere(stack: ContainerStack, bodies: list[bytes], keys: list[str]) -> None:
    """Every replica, read without us, holds all keys, and the blobs with their very bytes."""
    blobs = {
        f"public/blobs/{hashlib.sha256(body).hexdigest()}": (
            len(body),
            hashlib.sha256(body).hexdigest(),
        )
        for body in bodies
    }
    for name in REPLICAS:
        found = stack.contents(name)
        assert [key for key in keys if key not in found] == [], name
        assert {key: found[key] for key in blobs} == blobs, name


async def test_a_write_to_the_containers_is_equal_on_every_replica(stack: ContainerStack) -> None:
    """Goal: the images together are the store.

    Method: an empty, a small and a multipart blob, files and a bundle; every replica is read with
    the cloud's own client, and a blob through the gateway's signed link to MinIO.
    """
    bodies = [b"", random_body(4096), random_body(9 * 1024 * 1024)]
    async with stack.client() as client:
        keys = await write(client, bodies)
        await until_present(stack, client, keys)
        sha256 = hashlib.sha256(bodies[2]).hexdigest()
        parts = [part async for part in client.read(f"/v1/blobs/{sha256}", replica="aws")]
        assert b"".join(parts) == bodies[2]
    assert_equal_everywhere(stack, bodies, keys)


async def test_a_killed_worker_container_loses_nothing_and_delays_nobody(
    stack: ContainerStack,
) -> None:
    """Goal: R3 and R8 with containers for processes.

    Method: SIGKILL gcp's worker, write 30 objects, see them arrive elsewhere and not there; start
    the container again and see them arrive there too, equal.
    """
    bodies = [random_body(1000 + 7000 * number) for number in range(15)]
    async with stack.client() as client:
        stack.container("worker-gcp").kill("SIGKILL")
        stack.until(lambda: stack.container("worker-gcp").status == "exited", "it is dead")
        keys = await write(client, bodies)
        await until_present(stack, client, keys, ("aws", "onprem"))
        assert {(await states(client, key))["gcp"] for key in keys} == {"pending"}
        stack.container("worker-gcp").start()
        await until_present(stack, client, keys)
    assert_equal_everywhere(stack, bodies, keys)


def test_a_frozen_worker_container_is_not_healthy_until_it_is_thawed(stack: ContainerStack) -> None:
    """Goal: the health check sees a worker that lives and does nothing.

    Method: SIGSTOP the worker; its check fails once Kafka has ended its session, and is well again
    after SIGCONT.
    """
    stack.until(lambda: stack.is_working("worker-onprem"), "it works")
    stack.container("worker-onprem").kill("SIGSTOP")
    try:
        stack.until(lambda: not stack.is_working("worker-onprem"), "its freezing is seen")
    finally:
        stack.container("worker-onprem").kill("SIGCONT")
    stack.until(lambda: stack.is_working("worker-onprem"), "it works again")


def test_a_killed_kafka_container_counts_its_unclean_stop_and_a_clean_one_not(
    stack: ContainerStack,
) -> None:
    """Goal: design point 10 in containers.

    Method: stop Kafka cleanly, then kill it; read the count as another container does.
    """
    noted = ["cat", "/var/lib/broker/unclean_stops"]

    def is_up() -> bool:
        return stack.is_working("kafka")

    stack.container("kafka").stop(timeout=60)
    stack.container("kafka").start()
    stack.until(is_up, "Kafka is up after a clean stop")
    assert stack.container("feeds").exec_run(noted).exit_code != 0
    stack.container("kafka").kill("SIGKILL")
    stack.container("kafka").start()
    stack.until(is_up, "Kafka is up after a kill")
    assert stack.container("feeds").exec_run(noted).output.split() == [b"1"]
    for name in ("gateway", "worker-aws", "worker-gcp", "worker-onprem", "feeds"):
        stack.container(name).restart(timeout=30)
    for name in stack.names:
        stack.until(lambda name=name: stack.is_working(name), f"{name} works")  # type: ignore[misc]


def test_no_container_runs_as_root_or_holds_build_tools(stack: ContainerStack) -> None:
    """Goal: small and harmless images. Method: ask each container who it is and what it has."""
    for name in stack.names:
        found = stack.container(name)
        assert found.exec_run(["id", "-u"]).output.strip() == b"10001", name
        assert found.exec_run(["touch", "/etc/x"]).exit_code != 0, name
        for tool in ("uv", "go", "gcc", "make"):
            assert found.exec_run(["sh", "-c", f"command -v {tool}"]).exit_code != 0, (name, tool)
