"""A wire that changes and cuts: no store's 200 is trusted, and nothing wrong stays visible (R4)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.conftest import Servers
from tests.servers.stores import StoreServer
from tests.servers.wire import MARK, Wire
from tidestore.connectors import azure
from tidestore.connectors.azure import AzureStore
from tidestore.connectors.conformance.made import is_absent, key_of, read_all
from tidestore.connectors.errors import ChecksumMismatchError, StoreError, StoreUnreachableError
from tidestore.connectors.gcs import GcsStore
from tidestore.connectors.registry import StoreFactory
from tidestore.connectors.s3 import S3Store
from tidestore.connectors.store import CHUNK_BYTES, ObjectStore
from tidestore.connectors.verify import CheckedSource, put_verified, upload_verified
from tidestore.schemas.checksums import checksums_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SERVERS = ["minio", "fake-gcs-server", "localbucket", "gcp-storage-emulator", "azurite"]
ADAPTERS: dict[str, StoreFactory] = {"s3": S3Store, "gs": GcsStore, "az": AzureStore}
BYTES = "application/octet-stream"
SMALL = 5_000
LARGE = 20 * 1024 * 1024


@dataclass(slots=True)
class Ends:
    """The same bucket through the faulty wire, and straight."""

    wire: Wire
    faulty: ObjectStore
    straight: ObjectStore


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, servers: Servers) -> StoreServer:
    return servers.get(request.param)


@pytest.fixture
async def ends(server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ends]:
    # An answer that is cut can also be one that never ends: what then ends it is made shorter.
    monkeypatch.setattr(azure, "REQUEST_SECONDS_MAX", 15)
    port = urlsplit(server.endpoint).port
    assert port is not None
    wire = Wire(port)
    url = server.new_url("wire")
    kind = ADAPTERS[server.scheme]
    straight: ObjectStore = kind("straight", server.address(url))
    through = url.replace(f":{port}", f":{wire.port}")
    faulty: ObjectStore = kind("faulty", server.address(through))
    await straight.open()
    await faulty.open()
    yield Ends(wire, faulty, straight)
    await faulty.close()
    await straight.close()
    wire.close()


def body_of(size: int) -> bytes:
    """Random bytes with the mark in their middle."""
    half = (size - len(MARK)) // 2
    return os.urandom(half) + MARK + os.urandom(size - half - len(MARK))


async def chunks_of(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), CHUNK_BYTES):
        yield body[start : start + CHUNK_BYTES]


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "in-parts"])
async def test_bytes_changed_on_their_way_in_are_refused_and_leave_nothing(
    ends: Ends, size: int
) -> None:
    """Goal: R4 at the write. Method: the wire changes some bytes of every request's body."""
    body, key = body_of(size), key_of(1)
    sums = checksums_of(body)
    source = CheckedSource(chunks_of(body), sha256=sums.sha256, size=size)
    writing = (
        put_verified(ends.faulty, key, body, sums, BYTES)
        if size == SMALL
        else upload_verified(ends.faulty, key, source, size, BYTES)
    )
    ends.wire.changes_requests = True
    with pytest.raises(StoreError) as caught:
        await writing
    assert ends.wire.changed, "nothing was changed, so nothing was tested"
    assert caught.value.error_class in {"checksum", "fault", "network"}
    assert await is_absent(ends.straight, key)


async def test_bytes_changed_on_their_way_out_do_not_pass_a_checked_source(ends: Ends) -> None:
    """Goal: R4 at the read. Method: the wire changes some bytes of the answer."""
    body, key = body_of(SMALL), key_of(2)
    sums = checksums_of(body)
    await ends.straight.put_if_absent(key, body, sums, content_type=BYTES)
    ends.wire.changes_answers = True
    stream = await ends.faulty.get(key)
    source = CheckedSource(stream.chunks, sha256=sums.sha256, size=SMALL)
    with pytest.raises(ChecksumMismatchError):
        await all_of(source)
    assert ends.wire.changed


@pytest.mark.parametrize("answer_bytes", [0, 12, 40, 150])
async def test_an_answer_that_is_cut_in_its_head_is_no_success(
    ends: Ends, answer_bytes: int
) -> None:
    """Goal: no store's 200 is believed before it is whole. Method: cut every answer's head.

    boto3 takes such an answer to a GET for an empty object, and to a PUT for a success.
    """
    body, key = body_of(SMALL), key_of(3)
    await ends.straight.put_if_absent(key, body, checksums_of(body), content_type=BYTES)
    other = body_of(SMALL)
    ends.wire.answer_bytes_max = answer_bytes
    with pytest.raises(StoreUnreachableError):
        await read_all(ends.faulty, key)
    with pytest.raises(StoreUnreachableError):
        await ends.faulty.head(key)
    with pytest.raises(StoreUnreachableError):
        await put_verified(ends.faulty, key_of(4), other, checksums_of(other), BYTES)
    assert ends.wire.cut


async def test_an_answer_that_is_cut_in_its_body_is_no_shorter_object(ends: Ends) -> None:
    """Goal: a stream ends with all its bytes, or with an error. Method: cut every answer late.

    A client may ask for the rest by itself, so the object may come whole; never shorter.
    """
    body, key = body_of(SMALL), key_of(5)
    await ends.straight.put_if_absent(key, body, checksums_of(body), content_type=BYTES)
    ends.wire.answer_bytes_max = 2_000  # longer than a head, shorter than the object
    got: bytes | None = None
    with contextlib.suppress(StoreUnreachableError):
        got = await read_all(ends.faulty, key)
    assert got in (None, body)
    assert ends.wire.cut


async def all_of(source: CheckedSource) -> bytes:
    """All bytes of a source."""
    return b"".join([chunk async for chunk in source])
