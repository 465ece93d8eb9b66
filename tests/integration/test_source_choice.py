"""Where copies come from when bytes have a price: a real origin behind a gate that counts them.

Four replicas: the origin `aws`, a relay `onprem` that is free to read from, `gcp` and `azure`. What
the workers say of themselves is compared with what the origin has really sent.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Servers
from tests.servers.kafka import TestKafka
from tests.servers.processes import free_port
from tests.servers.throttle import Throttle
from tests.world import World, random_body, replica_on

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

_SOURCES = """
[sources]
wait_seconds_max = {seconds}
places = {{ aws = "aws/us-east-1", onprem = "onprem", gcp = "gcp", azure = "azure" }}
"""


@dataclass(slots=True)
class Priced:
    """A store whose ways have prices, and the gates before its origin and its relay."""

    world: World
    origin: Throttle
    relay: Throttle
    ports: dict[str, int]

    def add_worker(self, replica: str) -> None:
        words = ["worker", replica, "--metrics-port", str(self.ports[replica])]
        self.world.add(f"worker-{replica}", "0", words)

    def counted(self, metric: str, **labels: str) -> float:
        """A metric's sum over all workers and over the labels that are not named."""
        found = 0.0
        for port in self.ports.values():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                for line in answer.read().decode().splitlines():
                    is_it = line.startswith(f"tidestore_{metric}_total{{")
                    if is_it and all(f'{k}="{v}"' for k, v in labels.items()):
                        words = [f'{name}="{value}"' for name, value in labels.items()]
                        found += float(line.split()[-1]) * all(word in line for word in words)
        return found


@pytest.fixture(scope="module")
def priced(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Priced]:
    """A gateway and the three workers that have something to copy."""
    store = servers.best("minio", "localbucket")
    origin, relay = Throttle(store), Throttle(store)
    for gate in (origin, relay):
        gate.start()
    folder = tmp_path_factory.mktemp("priced")
    replicas = {
        "aws": replica_on(origin.server, "aws"),
        "onprem": replica_on(relay.server, "relay"),
        "gcp": replica_on(servers.best("fake-gcs-server", "gcp-storage-emulator"), "gcp"),
        "azure": ((folder / "azure").as_uri(), {}),
    }
    world = World(folder, kafka, replicas, "aws", extra_toml=_SOURCES.format(seconds=30))
    found = Priced(world, origin, relay, {name: free_port() for name in ("onprem", "gcp", "azure")})
    world.start(feeds=0, only=())
    for name in found.ports:
        found.add_worker(name)
    yield found
    relay.open()  # or its clients would wait for their answers until their limit
    world.stop()
    sys.stdout.write(world.last_words())
    for gate in (origin, relay):
        gate.stop()
    shutil.rmtree(folder, ignore_errors=True)


async def test_three_outside_replicas_cost_the_origin_one_read_per_byte(priced: Priced) -> None:
    """Goal: egress is paid once. Method: count what the origin's server sends over the wire.

    Blobs that are too large for their event, one of them for the durable lane. With every replica
    reading the origin the ratio is 3; what else it answers are heads of a few hundred bytes.
    """
    world = priced.world
    bodies = [random_body(200_000) for _ in range(10)] + [random_body(9 * 1024 * 1024)]
    written = sum(map(len, bodies))
    async with world.client() as client:
        before = priced.origin.answered_bytes
        keys = await asyncio.gather(*(world.put_blob(client, body) for body in bodies))
        await world.until_everywhere(client, list(keys))
        ratio = (priced.origin.answered_bytes - before) / written
        assert 1.0 <= ratio <= 1.05, f"origin reads per byte: {ratio:.2f}"
        assert priced.counted("source_bytes", source="aws") == written
        assert priced.counted("source_bytes", source="onprem") == 2 * written
        before = priced.origin.answered_bytes
        keys = await asyncio.gather(*(world.put_blob(client, random_body(30_000)) for _ in "12345"))
        await world.until_everywhere(client, list(keys))
        assert priced.origin.answered_bytes - before < 30_000, "what rides in its event is read"
        assert priced.counted("source_bytes", source="event") == 3 * 5 * 30_000


async def test_a_dead_cheap_source_costs_a_bounded_moment(priced: Priced) -> None:
    """Goal: R3 and R8. Method: the relay's worker dies, then its store hangs in mid-sentence.

    Waits are bounded to 2 s here, as the worker of `gcp` reads at its start. It reads the origin
    when they are over, and soon does not wait at all.
    """
    world = priced.world
    world.extra_toml = _SOURCES.format(seconds=2)
    world.write_config()
    world.processes["worker-onprem-0"].kill()
    world.processes["worker-gcp-0"].end()
    world.restart("worker-gcp-0")
    async with world.client() as client:
        keys = [await world.put_blob(client, random_body(200_000)) for _ in range(4)]
        await world.until_present(client, keys, "gcp")
        for key in keys:
            copy = (await world.copies(client, key))["gcp"]
            assert copy["attempts"] == 0, "a wait is no failure"
        del priced.ports["onprem"]
        assert priced.counted("source_waits", end="in_vain", target="gcp") >= 3
        priced.relay.shut()
        keys = [await world.put_blob(client, random_body(200_000)) for _ in range(4)]
        await world.until_present(client, keys, "gcp")
        assert priced.counted("source_bytes", source="aws", target="gcp") == 8 * 200_000
