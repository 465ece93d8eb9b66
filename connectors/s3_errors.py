"""The errors of S3's two libraries in the words of errors.py."""

from __future__ import annotations

import re

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)
from obstore.exceptions import (
    AlreadyExistsError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.exceptions import (
    PreconditionError as ObstorePreconditionError,
)

from tidestore.connectors.errors import (
    BucketMissingError,
    ChecksumMismatchError,
    KeyBusyError,
    ObjectExistsError,
    ObjectMissingError,
    ObjectTooLargeError,
    StoreDeniedError,
    StoreError,
    StoreFaultError,
    StoreFullError,
    StoreThrottledError,
    StoreUnreachableError,
)
from tidestore.connectors.waits import wait_of

_CODES: dict[str, type[StoreError]] = {
    "NoSuchKey": ObjectMissingError,
    "NotFound": ObjectMissingError,
    "404": ObjectMissingError,
    "NoSuchBucket": BucketMissingError,
    "NoSuchUpload": ObjectMissingError,
    "PreconditionFailed": ObjectExistsError,
    "BucketAlreadyOwnedByYou": ObjectExistsError,
    "ConditionalRequestConflict": KeyBusyError,  # S3's 409: another create is under way
    "AccessDenied": StoreDeniedError,
    "403": StoreDeniedError,
    "401": StoreDeniedError,
    "InvalidAccessKeyId": StoreDeniedError,
    "SignatureDoesNotMatch": StoreDeniedError,
    "ExpiredToken": StoreDeniedError,
    "RequestTimeTooSkewed": StoreDeniedError,
    "SlowDown": StoreThrottledError,
    "SlowDownWrite": StoreThrottledError,
    "SlowDownRead": StoreThrottledError,
    "TooManyRequests": StoreThrottledError,
    "RequestLimitExceeded": StoreThrottledError,
    "503": StoreThrottledError,
    "429": StoreThrottledError,
    "BadDigest": ChecksumMismatchError,
    "InvalidDigest": ChecksumMismatchError,
    "XAmzContentSHA256Mismatch": ChecksumMismatchError,
    "XAmzContentChecksumMismatch": ChecksumMismatchError,
    "IncompleteBody": ChecksumMismatchError,
    "XMinioStorageFull": StoreFullError,
    "XMinioAdminBucketQuotaExceeded": StoreFullError,
    "QuotaExceeded": StoreFullError,
    "InsufficientStorage": StoreFullError,
    "507": StoreFullError,
    "EntityTooLarge": ObjectTooLargeError,
    "RequestTimeout": StoreUnreachableError,
    # MinIO while it starts: a 503 whose Retry-After is a minute, for what takes a second.
    "XMinioServerNotInitialized": StoreUnreachableError,
    "XMinioIAMNotInitialized": StoreUnreachableError,
}
_HINTS: dict[type[StoreError], str] = {
    StoreDeniedError: "check the replica's keys, their permissions, and this machine's clock",
    BucketMissingError: "create the bucket or correct its name",
    StoreFullError: "make room on the store",
}
_CODE_IN_BODY = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_STATUS_IN_TEXT = re.compile(r"status code: (\d{3})")
_DETAIL_CHARS_MAX = 300


def _named(
    code: str, operation: str, store: str, key: str, detail: str, wait: float | None = None
) -> StoreError:
    kind = _CODES.get(code, StoreFaultError)
    hint = _HINTS.get(kind, "")
    return kind(operation, store, key, detail=detail, hint=hint, retry_after_seconds=wait)


def translate_boto(
    operation: str, store: str, key: str, error: ClientError | BotoCoreError
) -> StoreError:
    """A boto3 error as StoreError."""
    detail = str(error)[:_DETAIL_CHARS_MAX]
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        about = error.response.get("ResponseMetadata", {})
        status = str(about.get("HTTPStatusCode", ""))
        wait = wait_of(about.get("HTTPHeaders"))
        return _named(code if code in _CODES else status, operation, store, key, detail, wait)
    if isinstance(error, NoCredentialsError):
        return StoreDeniedError(operation, store, key, detail=detail, hint="give it credentials")
    if isinstance(error, (BotoConnectionError, HTTPClientError)):
        return StoreUnreachableError(operation, store, key, detail=detail)
    return StoreFaultError(operation, store, key, detail=detail)


def translate_obstore(operation: str, store: str, key: str, error: Exception) -> StoreError:
    """An obstore error as StoreError.

    obstore 0.12 has a class for the common cases; all others are GenericError, whose text holds
    the status and the server's XML. No status in it means that no answer came.
    """
    if isinstance(error, StoreError):
        return error
    text = str(error)
    detail = text.split("\n", 1)[0][:_DETAIL_CHARS_MAX]
    code = _CODE_IN_BODY.search(text)
    if code and code[1] in _CODES:
        return _named(code[1], operation, store, key, detail)
    if isinstance(error, (AlreadyExistsError, ObstorePreconditionError)):
        return ObjectExistsError(operation, store, key)
    if isinstance(error, FileNotFoundError):
        return ObjectMissingError(operation, store, key)
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return _named("AccessDenied", operation, store, key, detail)
    status = _STATUS_IN_TEXT.search(text)
    if status:
        return _named(status[1], operation, store, key, detail)
    if isinstance(error, OSError) or "Generic S3 error" in text or "rror" in type(error).__name__:
        return StoreUnreachableError(operation, store, key, detail=detail)
    return StoreFaultError(operation, store, key, detail=detail)
