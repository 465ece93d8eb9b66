"""When the signature of a small PUT covers its body."""

from __future__ import annotations

import pytest

from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.s3_clients import is_body_signed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", False),  # AWS, over TLS
        ("?endpoint=https://s3.example.org", False),
        ("?endpoint=http://127.0.0.1:9000", False),
        ("?endpoint=http://[::1]:9000", False),
        ("?endpoint=http://localhost:9000", False),
        ("?endpoint=http://minio:9000", True),
        ("?endpoint=http://10.0.0.7:9000", True),
        ("?endpoint=http://127.0.0.1.example.org", True),
        ("?endpoint=https://s3.example.org&sign_body=1", True),
        ("?sign_body=1", True),
    ],
)
def test_a_body_is_signed_where_somebody_could_change_it(options: str, expected: bool) -> None:  # noqa: FBT001
    """Goal: nobody on the way can write other bytes. Method: addresses of all kinds."""
    assert is_body_signed(StoreAddress.parse(f"s3://bucket{options}")) is expected
