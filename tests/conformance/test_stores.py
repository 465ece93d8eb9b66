"""One suite, every adapter, every server: what a store must do is the same for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Servers
from tidestore.connectors.conformance import StoreContract
from tidestore.connectors.folder import FolderStore
from tidestore.connectors.gcs import GcsStore
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.s3 import S3Store
from tidestore.connectors.store import ObjectStore

pytestmark = pytest.mark.conformance


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[ObjectStore]:
        yield MemoryStore("memory")


class TestFolderStore(StoreContract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        made = FolderStore("folder", tmp_path / "replica")
        await made.open()
        yield made
        await made.close()


class _OnServer(StoreContract):
    """An adapter on a server; a bucket of its own for each case."""

    server: str
    prefix = ""

    @pytest.fixture
    async def store(self, servers: Servers) -> AsyncIterator[ObjectStore]:
        server = servers.get(self.server)
        address = server.address(server.new_url("conformance", self.prefix))
        made: ObjectStore = (S3Store if server.scheme == "s3" else GcsStore)("replica", address)
        await made.open()
        yield made
        await made.close()


class TestS3OnMinio(_OnServer):
    server = "minio"


class TestS3OnMinioUnderAPrefix(_OnServer):
    server = "minio"
    prefix = "a/prefix"


class TestS3OnLocalbucket(_OnServer):
    server = "localbucket"


class TestGcsOnFakeGcsServer(_OnServer):
    server = "fake-gcs-server"
    prefix = "a/prefix"


class TestGcsOnGcpStorageEmulator(_OnServer):
    server = "gcp-storage-emulator"
