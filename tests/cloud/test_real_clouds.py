"""The suite of all adapters on real clouds, with the caller's own buckets: `make test-cloud`.

Which variables name them is in docs/configuration.md. Each case writes below a prefix of its own
and deletes what it wrote. It moves about a GB, at the cloud's prices, so `make test` leaves it out.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.conftest import Tally

from tidestore.connectors.conformance import StoreContract
from tidestore.connectors.conformance.inside import Beside, InsideCopying
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.registry import factory_of
from tidestore.connectors.store import ObjectStore

# 66 MiB go up and down a line of unknown width.
pytestmark = [pytest.mark.cloud, pytest.mark.timeout(900)]


# Where the caller's place on each cloud is, and its credentials: each spelled out, to be found.
_PLACES = {
    "s3": lambda: (
        os.environ.get("TIDESTORE_CLOUD_S3"),
        os.environ.get("TIDESTORE_CLOUD_S3_CREDENTIALS"),
    ),
    "gs": lambda: (
        os.environ.get("TIDESTORE_CLOUD_GS"),
        os.environ.get("TIDESTORE_CLOUD_GS_CREDENTIALS"),
    ),
    "az": lambda: (
        os.environ.get("TIDESTORE_CLOUD_AZ"),
        os.environ.get("TIDESTORE_CLOUD_AZ_CREDENTIALS"),
    ),
}


def address_of(scheme: str, tally: Tally) -> StoreAddress:
    """The caller's place on a cloud; counts the test as not run, by name, when there is none."""
    url, given = _PLACES[scheme]()
    if not url:
        tally.missing(
            f"cloud-{scheme}", f"TIDESTORE_CLOUD_{scheme.upper()} names no place of yours"
        )
    credentials = {name: Secret(text) for name, text in json.loads(given or "{}").items()}
    address = StoreAddress.parse(url, credentials)
    assert address.scheme == scheme, f"TIDESTORE_CLOUD_{scheme.upper()} begins with {scheme}://"
    tally.ran(f"cloud-{scheme}")
    return replace(address, prefix=f"{address.prefix}/{secrets.token_hex(6)}".strip("/"))


class _OnCloud(StoreContract):
    scheme: str

    @pytest.fixture
    async def store(self, tally: Tally) -> AsyncIterator[ObjectStore]:
        address = address_of(self.scheme, tally)
        made = factory_of(self.scheme)("replica", address)
        await made.open()
        yield made
        for key in [info.key async for info in made.list()]:
            await made.delete(key)
        await made.close()


class _OnCloudWithInsideCopies(_OnCloud, InsideCopying):
    @pytest.fixture
    async def beside(self, tally: Tally) -> AsyncIterator[Beside]:
        address = address_of(self.scheme, tally)  # another prefix of the same place
        made = factory_of(self.scheme)("beside", address)
        await made.open()
        yield address, made
        for key in [info.key async for info in made.list()]:
            await made.delete(key)
        await made.close()


class TestS3(_OnCloudWithInsideCopies):
    scheme = "s3"


class TestGcs(_OnCloudWithInsideCopies):
    scheme = "gs"


class TestAzure(_OnCloud):
    scheme = "az"
