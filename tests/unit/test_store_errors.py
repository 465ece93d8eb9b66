"""connectors: what clouds' libraries raise, in our words; every class says whether to try again."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from google.api_core import exceptions as google_errors
from google.auth.exceptions import RefreshError, TransportError
from obstore.exceptions import AlreadyExistsError, GenericError, UnauthenticatedError

from tidestore.connectors import errors
from tidestore.connectors.errors import StoreError
from tidestore.connectors.gcs_errors import translate_gcs, translate_status
from tidestore.connectors.s3_errors import translate_boto, translate_obstore

_TREE = {
    item.__name__: (item.error_class, item.is_retryable)
    for item in vars(errors).values()
    if isinstance(item, type) and issubclass(item, StoreError) and item is not StoreError
}


def test_the_tree_is_the_one_that_is_drawn() -> None:
    """Goal: the words of the records stay. Method: the tree against the module's drawing."""
    assert _TREE == {
        "ObjectMissingError": ("missing", False),
        "ObjectExistsError": ("exists", False),
        "PreconditionError": ("exists", False),
        "ChecksumMismatchError": ("checksum", True),
        "StoreUnreachableError": ("network", True),
        "StoreThrottledError": ("throttled", True),
        "KeyBusyError": ("throttled", True),
        "StoreDeniedError": ("auth", True),
        "StoreFullError": ("full", True),
        "BucketMissingError": ("bucket", True),
        "UnsupportedError": ("unsupported", False),
        "ObjectTooLargeError": ("too_large", False),
        "StoreFaultError": ("fault", True),
    }
    assert errors.__doc__
    for name, (word, _) in _TREE.items():
        line = next(line for line in errors.__doc__.splitlines() if name in line)
        assert word in line.split()


def test_an_error_says_operation_store_key_reason_and_remedy() -> None:
    """Goal: one line that a person can act on. Method: the text of a full and of a bare one."""
    full = errors.StoreFullError("put", "aws", "k", detail="507", hint="make room")
    assert str(full) == "put aws k: 507 (make room)"
    assert str(errors.ObjectMissingError("head", "aws")) == "head aws: missing"


def _client_error(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (_client_error("NoSuchKey", 404), "missing"),
        (_client_error("NoSuchBucket", 404), "bucket"),
        (_client_error("PreconditionFailed", 412), "exists"),
        (_client_error("ConditionalRequestConflict", 409), "throttled"),
        (_client_error("SignatureDoesNotMatch", 403), "auth"),
        (_client_error("SlowDown", 503), "throttled"),
        (_client_error("BadDigest", 400), "checksum"),
        (_client_error("XMinioStorageFull", 507), "full"),
        (_client_error("XMinioAdminBucketQuotaExceeded", 400), "full"),
        (_client_error("XMinioServerNotInitialized", 503), "network"),
        (_client_error("RequestTimeout", 400), "network"),
        (_client_error("Unheard", 404), "missing"),
        (_client_error("Unheard", 429), "throttled"),
        (_client_error("Unheard", 500), "fault"),
        (_client_error("", 0), "fault"),
        (NoCredentialsError(), "auth"),
        (EndpointConnectionError(endpoint_url="http://x"), "network"),
        (ReadTimeoutError(endpoint_url="http://x"), "network"),
        (ParamValidationError(report="x"), "fault"),
    ],
)
def test_boto_errors_have_their_class(error: Any, word: str) -> None:
    """Goal: the retry policy sees what happened. Method: codes of S3 and of MinIO, and none."""
    found = translate_boto("put", "aws", "k", error)
    assert (found.error_class, found.operation, found.store, found.key) == (word, "put", "aws", "k")
    assert len(found.detail) <= 300
    if word in {"auth", "full", "bucket"}:
        assert found.hint


def _generic(text: str) -> GenericError:
    return GenericError(text)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (AlreadyExistsError("x"), "exists"),
        (FileNotFoundError("x"), "missing"),
        (FileNotFoundError("<Code>NoSuchBucket</Code>"), "bucket"),
        (UnauthenticatedError("x"), "auth"),
        (_generic("Generic S3 error: <Code>SlowDown</Code>"), "throttled"),
        (_generic("Generic S3 error: status code: 507 x"), "full"),
        (_generic("Generic S3 error: status code: 500"), "fault"),
        (_generic("Generic S3 error: <Code>Unheard</Code> status code: 403"), "auth"),
        (_generic("Generic S3 error: error sending request"), "network"),
        (TimeoutError("x"), "network"),
        (ValueError("x"), "network"),
        (KeyboardInterrupt("x"), "fault"),
    ],
)
def test_obstore_errors_have_their_class(error: Any, word: str) -> None:
    """Goal: a text with a status is an answer, one without is none. Method: texts of 0.12."""
    found = translate_obstore("get", "aws", "k", error)
    assert found.error_class == word


def test_our_own_errors_pass_unchanged() -> None:
    """Goal: a source's own error comes out of an upload. Method: translate one of ours."""
    mine = errors.ChecksumMismatchError("read", "", "k")
    assert translate_obstore("put", "aws", "k", mine) is mine


@pytest.mark.parametrize(
    ("status", "text", "word"),
    [
        (401, "", "auth"),
        (403, "", "auth"),
        (404, "", "missing"),
        (408, "", "network"),
        (409, "", "exists"),
        (412, "conditionNotMet", "exists"),
        (429, "", "throttled"),
        (503, "", "throttled"),
        (504, "", "network"),
        (507, "", "full"),
        (400, "Provided CRC32C does not match", "checksum"),
        (400, "MD5 hash differs", "checksum"),
        (400, "invalid argument", "fault"),
        (500, "checksum service down", "fault"),
    ],
)
def test_statuses_of_gcs_have_their_class(status: int, text: str, word: str) -> None:
    """Goal: one mapping for both ways to GCS. Method: statuses and texts."""
    found = translate_status("put", "gcp", "k", status, text)
    assert found.error_class == word
    assert bool(found.hint) == (word == "auth")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (google_errors.PreconditionFailed("x"), "exists"),  # type: ignore[no-untyped-call]
        (google_errors.NotFound("x"), "missing"),  # type: ignore[no-untyped-call]
        (TransportError("x"), "network"),  # type: ignore[no-untyped-call]
        (requests.ConnectionError("x"), "network"),
        (TimeoutError("x"), "network"),
        (RefreshError("x"), "auth"),  # type: ignore[no-untyped-call]
        (OSError("x"), "network"),
        (ValueError("x"), "fault"),
    ],
)
def test_errors_of_googles_library_have_their_class(error: Exception, word: str) -> None:
    """Goal: the retry policy sees what happened. Method: API, transport, credentials, others."""
    assert translate_gcs("put", "gcp", "k", error).error_class == word


def test_what_the_answer_asks_to_wait_is_kept() -> None:
    """Goal: Retry-After reaches whoever waits. Method: each library's own error with the header."""
    answer: Any = {
        "Error": {"Code": "SlowDown"},
        "ResponseMetadata": {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": "9"}},
    }
    boto = translate_boto("put", "aws", "k", ClientError(answer, "PutObject"))
    reply = requests.Response()
    reply.headers["Retry-After"] = "8"
    google = google_errors.TooManyRequests("slow", response=reply)  # type: ignore[no-untyped-call]
    assert boto.retry_after_seconds == 9.0
    assert translate_gcs("put", "gcp", "k", google).retry_after_seconds == 8.0
    assert translate_status("get", "gcp", "k", 503, "", 7.0).retry_after_seconds == 7.0


def test_a_rate_limit_of_gcs_is_no_missing_permission() -> None:
    """Goal: a limit does not pause the edge as wrong keys do. Method: both kinds of 403."""
    limited = translate_status("put", "gcp", "k", 403, "userRateLimitExceeded: too fast")
    assert limited.error_class == "throttled"
    assert translate_status("put", "gcp", "k", 403, "forbidden").error_class == "auth"
