"""The independent reader finds what the product wrote, wherever a replica lies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.conftest import Servers
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.registry import make_store
from tidestore.local.readback import ReplicaPlace, read_replica
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.objects import ObjectKey

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("prefix", ["", "a/prefix"])
@pytest.mark.parametrize("kind", ["localbucket", "gcp-storage-emulator", "azurite", "folder"])
async def test_a_replica_is_read_below_its_own_prefix(
    servers: Servers, tmp_path: Path, kind: str, prefix: str
) -> None:
    """Goal: `verify` sees every object of a replica and nothing beside it.

    Method: write two objects with the product and one beside the prefix; read with the reader.
    """
    if kind == "folder":
        url, credentials = (tmp_path / "root" / prefix).as_uri(), {}
    else:
        server = servers.get(kind)
        url, credentials = server.new_url("readback", prefix), server.credentials
    secrets = {name: Secret(text) for name, text in credentials.items()}
    bodies = {ObjectKey(f"public/blobs/{n:064x}"): os.urandom(n) for n in (0, 3_000_000)}
    store = make_store("replica", StoreAddress.parse(url, secrets))
    await store.open()
    for key, body in bodies.items():
        await store.put_if_absent(key, body, checksums_of(body), content_type="text/plain")
    await store.close()
    if prefix and kind != "folder":
        beside = make_store("replica", StoreAddress.parse(url.replace(f"/{prefix}", ""), secrets))
        await beside.open()
        key = ObjectKey(f"public/blobs/{1:064x}")
        await beside.put_if_absent(key, b"x", checksums_of(b"x"), content_type="text/plain")
        await beside.close()
    found = read_replica(ReplicaPlace("replica", url, credentials), lambda _: None)
    assert found == {
        key: (len(body), hashlib.sha256(body).hexdigest()) for key, body in bodies.items()
    }
