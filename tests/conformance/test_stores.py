"""One suite, every adapter, every server: what a store must do is the same for all of them."""

from __future__ import annotations

import json
import os
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from azure.storage.blob import generate_container_sas
from tests.conftest import Servers

from tidestore.connectors import gcs_upload
from tidestore.connectors.azure import AzureStore
from tidestore.connectors.conformance import StoreContract
from tidestore.connectors.conformance.inside import Beside, InsideCopying
from tidestore.connectors.conformance.made import (
    LARGE_BYTES,
    SourceFailedError,
    is_absent,
    key_of,
    put,
    read_all,
    source_of,
)
from tidestore.connectors.conformance.uploads import KeptJournal
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.errors import (
    BucketMissingError,
    ChecksumMismatchError,
    StoreDeniedError,
    UnsupportedError,
)
from tidestore.connectors.folder import FolderStore
from tidestore.connectors.gcs import GcsStore
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.parts import PART_BYTES_USUAL
from tidestore.connectors.registry import StoreFactory
from tidestore.connectors.s3 import S3Store
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.checksums import checksums_of

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


ADAPTERS: dict[str, StoreFactory] = {"s3": S3Store, "gs": GcsStore, "az": AzureStore}


class _OnServer(StoreContract):
    """An adapter on a server; a bucket of its own for each case."""

    server: str
    prefix = ""

    @pytest.fixture
    async def store(self, servers: Servers) -> AsyncIterator[ObjectStore]:
        server = servers.get(self.server)
        address = server.address(server.new_url("conformance", self.prefix))
        made: ObjectStore = ADAPTERS[server.scheme]("replica", address)
        await made.open()
        yield made
        await made.close()


class _OnServerWithInsideCopies(_OnServer, InsideCopying):
    """An adapter whose provider copies by itself; the other replica has another prefix."""

    @pytest.fixture
    async def beside(self, servers: Servers) -> AsyncIterator[Beside]:
        server = servers.get(self.server)
        address = server.address(server.new_url("beside", "another/place"))
        made: ObjectStore = ADAPTERS[server.scheme]("beside", address)
        await made.open()
        yield address, made
        await made.close()


class TestS3OnMinio(_OnServerWithInsideCopies):
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


class TestGcsOnFakeGcsServer(_OnServerWithInsideCopies):
    server = "fake-gcs-server"
    prefix = "a/prefix"

    @pytest.mark.parametrize("composed_max", [32, 2])
    async def test_parts_are_composed_by_their_generations_under_a_condition(
        self, store: GcsStore, monkeypatch: pytest.MonkeyPatch, composed_max: int
    ) -> None:
        """Goal: two writers never mix (R2), however many parts. Method: read what is asked of GCS.

        The server itself looks at neither condition. Two at a time make three levels of five parts.
        """
        monkeypatch.setattr(gcs_upload, "GCS_COMPOSED_MAX", composed_max)
        asked: list[tuple[str, dict[str, Any]]] = []
        send: Any = store.session.request

        def request(method: str, url: str, **more: Any) -> Any:
            if "/compose" in url:
                asked.append((url, json.loads(more["data"])))
            return send(method, url, **more)

        monkeypatch.setattr(store.session, "request", request)
        body = os.urandom(LARGE_BYTES)
        await store.upload_if_absent(
            key_of(1), source_of(body), size=len(body), content_type="text/x-test"
        )
        assert await read_all(store, key_of(1)) == body
        assert len(asked) == {32: 1, 2: 3 + 2 + 1}[composed_max]
        for url, words in asked:
            assert all(int(item["generation"]) for item in words["sourceObjects"])
            assert ("ifGenerationMatch=0" in url) == (words is asked[-1][1])
        assert [info.key async for info in store.list()] == [key_of(1)]
        assert not [upload async for upload in store.open_uploads()]

    async def test_fake_gcs_still_ignores_the_conditions_of_compose(self, store: GcsStore) -> None:
        """Goal: the gap is closed when the server learns it. Method: compose over a taken key."""
        for number in (1, 2):
            body = f"body {number}".encode()
            await put(store, key_of(number), body)
        first, second = (store.bucket.blob(store.full_key(key_of(n))) for n in (1, 2))
        library: Any = first
        call = partial(library.compose, [second], if_generation_match=0, retry=None)
        await store.run("compose", key_of(1), call)
        assert await read_all(store, key_of(1)) == b"body 2"

    async def test_parts_are_no_objects_and_go_with_their_key(self, store: GcsStore) -> None:
        """Goal: sweep and redaction alone see parts. Method: two broken uploads of a key."""
        body = os.urandom(PART_BYTES_USUAL + 1)
        journals = [KeptJournal(), KeptJournal()]
        for journal in journals:
            broken = source_of(body, fail=SourceFailedError("cut"))
            with pytest.raises(SourceFailedError):
                await store.upload_if_absent(
                    key_of(1), broken, size=len(body), content_type="a/b", journal=journal
                )
        assert [info.key async for info in store.list()] == []
        found = [upload async for upload in store.open_uploads()]
        assert {(item.key, item.token) for item in found} == {
            (key_of(1), journal.token) for journal in journals
        }
        now_ms = time.time() * 1000
        assert all(0 <= now_ms - item.begun_at_ms < 60_000 for item in found)
        await store.abort_upload(key_of(1), "")  # names no upload
        await store.abort_upload(key_of(1), journals[0].token)
        (left,) = [upload async for upload in store.open_uploads()]
        assert left.token == journals[1].token
        assert await store.erase(key_of(2)) == 0
        assert await store.erase(key_of(1)) >= 1
        assert not [upload async for upload in store.open_uploads()]


class TestGcsOnGcpStorageEmulator(_OnServer):
    server = "gcp-storage-emulator"


class _OnAzurite(_OnServer):
    server = "azurite"

    async def test_other_bytes_than_announced_are_refused(self, store: ObjectStore) -> None:
        """Goal: the service's own check. Method: bytes with the md5 of others."""
        body = bytes(5000)
        with pytest.raises(ChecksumMismatchError):
            await store.put_if_absent(
                key_of(1), body, checksums_of(body[:-1] + b"x"), content_type="text/plain"
            )
        assert await is_absent(store, key_of(1))

    async def test_a_signed_url_reads_a_range_and_says_what_it_shall(
        self, store: ObjectStore
    ) -> None:
        """Goal: strangers can read one object. Method: follow a link; then change one letter."""
        body = b"0123456789"
        await store.put_if_absent(key_of(1), body, checksums_of(body), content_type="text/plain")
        link = await store.presign(
            key_of(1),
            expires_seconds=60,
            content_type="text/x-test",
            disposition='attachment; filename="a b.txt"',
        )
        async with httpx.AsyncClient() as client:
            got = await client.get(link, headers={"Range": "bytes=2-4"})
            other = await client.get(link.replace("/public/", "/private/"))
        assert (got.status_code, got.content) == (206, b"234")
        assert got.headers["content-type"] == "text/x-test"
        assert got.headers["content-disposition"] == 'attachment; filename="a b.txt"'
        assert other.status_code == 403

    async def test_a_sas_writes_reads_and_lists_but_signs_no_links(self, servers: Servers) -> None:
        """Goal: a replica whose owner gave us a SAS alone. Method: make one, use nothing else."""
        server = servers.get(self.server)
        url = server.new_url("shared", self.prefix)
        owner = AzureStore("owner", server.address(url))
        await owner.open()
        await owner.close()
        account = urlsplit(server.endpoint).path.strip("/")
        sas = generate_container_sas(
            account,
            urlsplit(url).netloc,
            account_key=server.credentials["account_key"],
            permission="racwdl",
            expiry=datetime.now(UTC) + timedelta(minutes=10),
        )
        store = AzureStore("shared", StoreAddress.parse(url, {"sas_token": Secret(f"?{sas}")}))
        await store.open()
        await store.put_if_absent(key_of(1), b"x", checksums_of(b"x"), content_type="text/plain")
        assert await read_all(store, key_of(1)) == b"x"
        assert [info.key async for info in store.list()] == [key_of(1)]
        assert not store.capabilities.presign
        with pytest.raises(UnsupportedError):
            await store.presign(key_of(1), expires_seconds=9, content_type="", disposition="")
        await store.close()

    async def test_wrong_credentials_are_refused_with_a_hint(self, servers: Servers) -> None:
        """Goal: a wrong key is named when a replica is added. Method: a key of the right form."""
        server = servers.get(self.server)
        address = server.address(server.new_url("denied"))
        wrong = {"account_key": Secret(b64encode(bytes(64)).decode())}
        store = AzureStore("denied", replace(address, credentials=wrong))
        with pytest.raises(StoreDeniedError) as caught:
            await store.open()
        await store.close()
        assert caught.value.hint

    async def test_a_missing_container_is_refused_with_a_hint(self, servers: Servers) -> None:
        """Goal: a wrong name is told. Method: a container that nobody made, without `create=1`."""
        server = servers.get(self.server)
        url = server.new_url("absent").replace("&create=1", "")
        store = AzureStore("absent", server.address(url))
        with pytest.raises(BucketMissingError) as caught:
            await store.open()
        await store.close()
        assert "create the container" in caught.value.hint


class TestAzureOnAzurite(_OnAzurite):
    pass


class TestAzureOnAzuriteUnderAPrefix(_OnAzurite):
    prefix = "a/prefix"
