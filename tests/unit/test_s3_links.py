"""Signed links of S3: what they name. Signing is arithmetic, so no server is asked."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import obstore
import pytest

from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.registry import make_store
from tidestore.connectors.s3 import S3Store
from tidestore.connectors.s3_clients import make_obstore
from tidestore.schemas.objects import MalformedError, ObjectKey

CREDENTIALS = {"access_key_id": Secret("id"), "secret_access_key": Secret("secret")}


async def link(url: str) -> str:
    """A signed link of a store with this URL."""
    store = S3Store("aws", StoreAddress.parse(url, CREDENTIALS))
    try:
        return await store.presign(
            ObjectKey("public/blobs/00"),
            expires_seconds=60,
            content_type="text/plain",
            disposition="inline",
        )
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("endpoint=http://minio:9000", "http://minio:9000"),
        (
            "endpoint=http://minio:9000&link_endpoint=https://data.example.org",
            "https://data.example.org",
        ),
    ],
)
async def test_a_signed_link_names_the_address_that_readers_know(
    options: str, expected: str
) -> None:
    """Goal: readers outside of the servers' network can follow a link.

    Method: sign with and without `link_endpoint`, which wins over `endpoint`; look at the link.
    """
    found = urlsplit(await link(f"s3://bucket?{options}"))
    assert f"{found.scheme}://{found.netloc}" == expected
    assert found.path == "/bucket/public/blobs/00"
    assert parse_qs(found.query)["response-content-type"] == ["text/plain"]
    assert parse_qs(found.query)["X-Amz-SignedHeaders"] == ["host"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("addressing=virtual&region=eu-central-1",
         ("bucket.s3.eu-central-1.amazonaws.com", "/public/blobs/00")),
        ("addressing=path&region=eu-central-1",
         ("s3.eu-central-1.amazonaws.com", "/bucket/public/blobs/00")),
        ("endpoint=https://ceph.lab&addressing=virtual", ("bucket.ceph.lab", "/public/blobs/00")),
        ("endpoint=https://ceph.lab&region=berlin", ("ceph.lab", "/bucket/public/blobs/00")),
    ],
)  # fmt: skip
async def test_the_bucket_stands_where_the_server_wants_it(
    options: str, expected: tuple[str, str]
) -> None:
    """Goal: servers of both kinds. Method: both clients sign with each; look at host and path."""
    url = f"s3://bucket?{options}"
    found = urlsplit(await link(url))
    assert (found.netloc, found.path) == expected
    address = StoreAddress.parse(url, CREDENTIALS)
    client = make_obstore(address, "eu-central-1", checks_uploads=True)
    signed = await obstore.sign_async(client, "GET", "public/blobs/00", timedelta(minutes=1))
    assert (urlsplit(signed).netloc, urlsplit(signed).path) == expected
    if "berlin" in options:
        assert "/berlin/s3/" in parse_qs(found.query)["X-Amz-Credential"][0]


@pytest.mark.parametrize("options", ["addressing=host", "ca=/missing.pem", "ca=/etc/hostname"])
def test_a_setting_that_cannot_be_used_is_refused_when_the_store_is_made(options: str) -> None:
    """Goal: a wrong setting is seen at once. Method: one of each kind."""
    with pytest.raises(MalformedError):
        make_store("x", StoreAddress.parse(f"s3://b?endpoint=https://ceph.lab&{options}"))
