"""One running store for all tests of the HTTP API: its start takes longer than most of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.conftest import Servers, _replicas
from tests.http_calls import Calls
from tests.servers.kafka import TestKafka
from tests.servers.throttle import Throttle
from tests.world import World


@pytest.fixture(scope="session")
def throttle(servers: Servers) -> Iterator[Throttle]:
    """A gate before the staging store's server, so that a copy can be held under way."""
    server = servers.best("minio", "localbucket")
    gate = Throttle(server)
    gate.start()
    yield gate
    gate.stop()


class TwoDatasets(World):
    """A world with a controlled dataset beside the public one."""

    def write_config(self) -> None:
        """See World. Values of the document itself stand before its tables."""
        super().write_config()
        text = self.config_path.read_text("utf-8")
        self.config_path.write_text(f'datasets = ["lab"]\n{text}', "utf-8")


@pytest.fixture(scope="session")
def http_world(
    kafka: TestKafka,
    servers: Servers,
    throttle: Throttle,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """Two gateways, a worker per replica, a staging store behind a gate, a controlled dataset."""
    folder = tmp_path_factory.mktemp("http-world")
    found = TwoDatasets(folder, kafka, _replicas(servers, folder), "aws")
    # Leases are short so that a take-over is seen soon; tasks begin at what takes no time to send.
    found.settings = {
        "task_lease_seconds": 2.5,
        "task_bytes_min": 1024 * 1024,
        "second_look_seconds": 0.5,
    }
    found.extra_toml = throttle.staging_toml
    found.environ = {"TIDESTORE_LOG_FORMAT": "json"}
    try:
        found.start(gateways=2)
        yield found
    finally:
        found.stop()
        sys.stdout.write(found.last_words())
        shutil.rmtree(folder, ignore_errors=True)


@pytest_asyncio.fixture
async def calls(http_world: World) -> AsyncIterator[Calls]:
    """Plain HTTP calls to the running store."""
    async with Calls(http_world) as found:
        yield found
