"""One suite, every adapter, every server: what a store must do is the same for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import Servers

from tidestore.connectors.conformance import StoreContract
from tidestore.connectors.credentials import Secret
from tidestore.connectors.errors import StoreDeniedError
from tidestore.connectors.folder import FolderStore
from tidestore.connectors.gcs import GcsStore
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.s3 import S3Store
from tidestore.connectors.store import ObjectStore

# Writing and reading 66 MiB on a busy machine takes its time.
pytestmark = [pytest.mark.conformance, pytest.mark.timeout(180)]


class TestMemoryStore(StoreContract):
    @pytest.fixture
    async def store(self) -> ObjectStore:
        return MemoryStore("memory")


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

    @pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
    async def test_wrong_credentials_are_refused_with_a_hint(
        self, servers: Servers, wrong: str
    ) -> None:
        server = servers.get(self.server)
        address = server.address(server.new_url("denied"))
        credentials = {
            **address.credentials,
            wrong: Secret("somebody-else"),
        }
        store = S3Store("denied", replace(address, credentials=credentials))
        with pytest.raises(StoreDeniedError) as caught:
            await store.open()
        await store.close()
        assert caught.value.hint

    async def test_the_credentials_of_another_server_are_refused(self, servers: Servers) -> None:
        server, other = servers.get(self.server), servers.get("minio-2")
        assert server.credentials != other.credentials
        address = replace(
            server.address(server.new_url("denied")),
            credentials=other.address(other.new_url()).credentials,
        )
        store = S3Store("denied", address)
        with pytest.raises(StoreDeniedError):
            await store.open()
        await store.close()


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
