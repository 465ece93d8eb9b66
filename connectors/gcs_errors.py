"""The errors of Google's library in the words of errors.py."""

from __future__ import annotations

import requests
import urllib3
from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from tidestore.connectors.errors import (
    ChecksumMismatchError,
    ObjectExistsError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
    StoreFaultError,
    StoreFullError,
    StoreThrottledError,
    StoreUnreachableError,
)
from tidestore.connectors.waits import wait_of

# All that a call can raise. The last three come from below the library, when an answer is cut.
GCS_ERRORS = (
    GoogleAPIError,
    GoogleAuthError,
    DataCorruption,
    InvalidResponse,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)
_STATUSES: dict[int, type[StoreError]] = {
    401: StoreDeniedError,
    403: StoreDeniedError,
    404: ObjectMissingError,
    408: StoreUnreachableError,
    409: ObjectExistsError,
    412: ObjectExistsError,
    429: StoreThrottledError,
    503: StoreThrottledError,
    504: StoreUnreachableError,
    507: StoreFullError,
}
_HINTS: dict[type[StoreError], str] = {
    StoreDeniedError: "the account needs storage.objects.create, get, list and delete here",
}
_DETAIL_CHARS_MAX = 300


def translate_status(
    operation: str, store: str, key: str, status: int, text: str, wait: float | None = None
) -> StoreError:
    """An HTTP answer of GCS as StoreError. A wrong checksum is a 400 that says so.

    `wait` is what the answer's Retry-After asks for.
    """
    kind = _STATUSES.get(status, StoreFaultError)
    if status == 400 and any(
        word in text.lower() for word in ("crc32c", "md5", "hash", "checksum")
    ):
        kind = ChecksumMismatchError
    # cloud.google.com/storage/docs/json_api/v1/status-codes: 403 also stands for a rate limit.
    if status == 403 and "ratelimitexceeded" in text.lower():
        kind = StoreThrottledError
    detail, hint = f"{status} {text}"[:_DETAIL_CHARS_MAX], _HINTS.get(kind, "")
    return kind(operation, store, key, detail=detail, hint=hint, retry_after_seconds=wait)


def translate_gcs(operation: str, store: str, key: str, error: Exception) -> StoreError:
    """An error of the library, its transport or its credentials as StoreError."""
    detail = str(error)[:_DETAIL_CHARS_MAX]
    if isinstance(error, GoogleAPICallError) and error.code is not None:
        wait = wait_of(getattr(error.response, "headers", None))
        return translate_status(operation, store, key, int(error.code), detail, wait)
    if isinstance(error, DataCorruption):
        # The library has compared its crc32c with the server's, and has deleted what it had made.
        return ChecksumMismatchError(operation, store, key, detail=detail)
    if isinstance(error, urllib3.exceptions.HTTPError):
        return StoreUnreachableError(operation, store, key, detail=detail)
    if isinstance(error, (TransportError, requests.RequestException, TimeoutError)):
        return StoreUnreachableError(operation, store, key, detail=detail)
    if isinstance(error, GoogleAuthError):
        return StoreDeniedError(operation, store, key, detail=detail, hint=_HINTS[StoreDeniedError])
    if isinstance(error, OSError):
        return StoreUnreachableError(operation, store, key, detail=detail)
    return StoreFaultError(operation, store, key, detail=detail)
