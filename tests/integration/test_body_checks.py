"""A body that changes on its way to a real store: the store refuses it, nothing is stored."""

from __future__ import annotations

import pytest

from tests.conftest import Servers
from tests.servers.grumpy import Grumpy
from tidestore.connectors.conformance.suite import key_of
from tidestore.connectors.errors import ChecksumMismatchError, ObjectMissingError
from tidestore.connectors.registry import make_store
from tidestore.schemas.checksums import checksums_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

BYTES = "application/octet-stream"


@pytest.mark.parametrize("options", ["", "&sign_body=1"])
async def test_a_body_that_changes_on_its_way_is_refused_by_s3(
    servers: Servers, options: str
) -> None:
    """Goal: no wrong byte is ever to be seen under a key, whether the body is signed or not.

    Method: a proxy changes one byte of a PUT; afterwards the key is free, and takes the right ones.
    """
    grumpy = Grumpy(servers.get("minio"))
    url = grumpy.server.new_url("checked")
    store = make_store("behind", grumpy.server.address(f"{url}{options}"))
    body = b"what was written" * 100
    try:
        await store.open()
        grumpy.is_damaging = True
        with pytest.raises(ChecksumMismatchError):
            await store.put_if_absent(key_of(1), body, checksums_of(body), content_type=BYTES)
        grumpy.is_damaging = False
        with pytest.raises(ObjectMissingError):
            await store.head(key_of(1))
        await store.put_if_absent(key_of(1), body, checksums_of(body), content_type=BYTES)
        assert (await store.head(key_of(1))).size == len(body)
    finally:
        await store.close()
        grumpy.stop()
