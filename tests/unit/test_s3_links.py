"""Signed links of S3: what they name. Signing is arithmetic, so no server is asked."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.s3 import S3Store
from tidestore.schemas.objects import ObjectKey

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
