"""Ask S3 how long it wants us to wait.

obstore 0.12, through which objects are written and read, keeps the head of a refusal to itself
(tests/integration/test_edges.py tells when it no longer does). So a refused store is asked once
more through boto3, with the smallest request there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidestore.connectors.errors import StoreError
from tidestore.schemas.own_keys import PROBE_KEY

if TYPE_CHECKING:
    from tidestore.connectors.s3 import S3Store


async def ask_wait(store: S3Store) -> float | None:
    """The seconds of Retry-After; None when the store names none, or takes requests again."""
    try:
        await store.boto(
            "head",
            PROBE_KEY,
            lambda: store.client.head_object(Bucket=store.bucket, Key=store.full_key(PROBE_KEY)),
        )
    except StoreError as error:
        return error.retry_after_seconds
    return None
