"""An adapter asks once: no library's own tries hide what a store says, or wait beside ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from tests.conftest import Servers
from tests.servers.grumpy import Grumpy, Refusal
from tidestore.connectors.conformance.suite import key_of
from tidestore.connectors.errors import StoreFaultError, StoreThrottledError
from tidestore.connectors.registry import factory_of
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.schemas.checksums import Checksums, checksums_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

BODY = b"once"
BYTES = "application/octet-stream"


@pytest.fixture(params=["minio", "fake-gcs-server", "azurite"])
def grumpy(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Grumpy]:
    found = Grumpy(servers.get(request.param))
    yield found
    found.stop()


@pytest.fixture
async def store(grumpy: Grumpy) -> AsyncIterator[ObjectStore]:
    """The adapter alone: without the layers that try again and slow down."""
    address = grumpy.server.address(grumpy.server.new_url("once"))
    made = factory_of(address.scheme)("once", address)
    await made.open()
    await made.put_if_absent(key_of(1), BODY, checksums_of(BODY), content_type=BYTES)
    yield made
    await made.close()


async def source() -> AsyncIterator[bytes]:
    yield BODY


async def list_all(store: ObjectStore) -> list[ObjectInfo]:
    return [info async for info in store.list()]


def calls_of(store: ObjectStore, seen: ObjectInfo) -> dict[str, Callable[[], Awaitable[object]]]:
    """Every call of the port that sends something."""
    sums: Checksums = checksums_of(BODY)
    key, free = key_of(1), key_of(2)
    return {
        "put": lambda: store.put_if_absent(free, BODY, sums, content_type=BYTES),
        "upload": lambda: store.upload_if_absent(
            free, source(), size=len(BODY), content_type=BYTES
        ),
        "replace": lambda: store.replace(key, source(), sums, seen=seen, content_type=BYTES),
        "get": lambda: store.get(key),
        "head": lambda: store.head(key),
        "list": lambda: list_all(store),
        "delete": lambda: store.delete(key),
        "erase": lambda: store.erase(key),
    }


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(503, "SlowDown", StoreThrottledError), (500, "InternalError", StoreFaultError)],
)
async def test_a_refused_call_sends_one_request_and_tells_its_class(
    grumpy: Grumpy, store: ObjectStore, status: int, code: str, error: type[Exception]
) -> None:
    """Goal: our classes decide whether to try again. Method: refuse all; count what came.

    boto tried a second time by itself, unseen by what slows an edge down.
    """
    seen = await store.head(key_of(1))
    grumpy.refusal = Refusal(status, code)
    found = {}
    for name, call in calls_of(store, seen).items():
        before = len(grumpy.seen)
        with pytest.raises(error):
            await call()
        found[name] = len(grumpy.seen) - before
    grumpy.refusal = None
    assert found == dict.fromkeys(found, 1)
