"""The errors of Azure's two libraries in the words of errors.py.

Blob Storage names what happened in a code (`x-ms-error-code`), which decides; statuses are too
coarse: 409 is an object that exists, a lease, a container that goes away or an archived blob.
"""

from __future__ import annotations

import re

import aiohttp
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from obstore.exceptions import BaseError

from tidestore.connectors.errors import (
    BucketMissingError,
    ChecksumMismatchError,
    KeyBusyError,
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

# All that a call of Azure's library can raise. The last two come from below it, when an answer is
# cut while it is read.
AZURE_ERRORS = (AzureError, aiohttp.ClientError, OSError)

# learn.microsoft.com, "Blob Storage error codes" and "Common REST API error codes".
_CODES: dict[str, type[StoreError]] = {
    "BlobNotFound": ObjectMissingError,
    "ResourceNotFound": ObjectMissingError,
    "ContainerNotFound": BucketMissingError,
    "ContainerBeingDeleted": BucketMissingError,
    "BlobAlreadyExists": ObjectExistsError,
    "ContainerAlreadyExists": ObjectExistsError,
    "ConditionNotMet": ObjectExistsError,
    "TargetConditionNotMet": ObjectExistsError,
    "AccountIsDisabled": StoreDeniedError,
    "AuthenticationFailed": StoreDeniedError,
    "AuthorizationFailure": StoreDeniedError,
    "AuthorizationPermissionMismatch": StoreDeniedError,
    "BlobImmutableDueToPolicy": StoreDeniedError,
    "InsufficientAccountPermissions": StoreDeniedError,
    "InvalidAuthenticationInfo": StoreDeniedError,
    "KeyBasedAuthenticationNotPermitted": StoreDeniedError,
    "LeaseIdMissing": StoreDeniedError,  # a 412 that says nothing about the object's bytes
    "NoAuthenticationInformation": StoreDeniedError,
    "PublicAccessNotPermitted": StoreDeniedError,
    "IncompleteBody": ChecksumMismatchError,
    "InvalidMd5": ChecksumMismatchError,
    "Md5Mismatch": ChecksumMismatchError,
    "OperationTimedOut": StoreUnreachableError,
    "ServerBusy": StoreThrottledError,
    # Our blocks are gone: another writer of the key committed meanwhile. The next try sees whose.
    "InvalidBlockList": KeyBusyError,
}
# For an answer without a code that we know.
_STATUSES: dict[int, type[StoreError]] = {
    401: StoreDeniedError,
    403: StoreDeniedError,
    404: ObjectMissingError,
    408: StoreUnreachableError,
    412: ObjectExistsError,
    429: StoreThrottledError,
    503: StoreThrottledError,
    504: StoreUnreachableError,
    507: StoreFullError,
}
_HINTS: dict[type[StoreError], str] = {
    StoreDeniedError: "check the account, its key or SAS, their permissions, leases and policies on"
    " the container, and this machine's clock",
    BucketMissingError: "create the container or correct its name",
    StoreFullError: "make room in the storage account",
}
_CODE_IN_BODY = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_STATUS_IN_TEXT = re.compile(r"(?:status code: |HTTP status[^0-9]{0,30})(\d{3})")
_DETAIL_CHARS_MAX = 300


def _named(
    code: str, status: int, place: tuple[str, str, str], detail: str, wait: float | None = None
) -> StoreError:
    kind = _CODES.get(code) or _STATUSES.get(status, StoreFaultError)
    # Azurite 3.35 has no code of its own for bytes with another md5.
    if status == 400 and kind is StoreFaultError and "contentmd5" in detail.lower():
        kind = ChecksumMismatchError
    hint = _HINTS.get(kind, "")
    return kind(*place, detail=detail[:_DETAIL_CHARS_MAX], hint=hint, retry_after_seconds=wait)


def translate_azure(operation: str, store: str, key: str, error: Exception) -> StoreError:
    """An error of Azure's library, its transport or its credentials as StoreError."""
    if isinstance(error, StoreError):
        return error
    place, detail = (operation, store, key), str(error).split("\n", 1)[0][:_DETAIL_CHARS_MAX]
    # These two are answers that broke off; the library keeps the 200 that they began with.
    if isinstance(error, (IncompleteReadError, DecodeError)):
        return StoreUnreachableError(*place, detail=detail)
    if isinstance(error, HttpResponseError) and error.status_code:
        code = getattr(error, "error_code", None)
        name = str(getattr(code, "value", code) or "")
        return _named(
            name, error.status_code, place, f"{error.status_code} {name} {detail}", _wait(error)
        )
    if isinstance(error, ClientAuthenticationError):
        hint = "no credentials are configured, and the machine offers none that work"
        return StoreDeniedError(*place, detail=detail, hint=hint)
    unanswered = (ServiceRequestError, ServiceResponseError, aiohttp.ClientError, OSError)
    if isinstance(error, unanswered):
        return StoreUnreachableError(*place, detail=detail)
    return StoreFaultError(*place, detail=detail)


def translate_obstore(operation: str, store: str, key: str, error: Exception) -> StoreError:
    """An error of obstore, through which objects are read, as StoreError.

    obstore 0.12 has a class for the common cases; all others are GenericError, whose text holds
    the status and the server's XML. No status in it means that no answer came.
    """
    if isinstance(error, StoreError):
        return error
    text = str(error)
    place, detail = (operation, store, key), text.split("\n", 1)[0]
    code, status = _CODE_IN_BODY.search(text), _STATUS_IN_TEXT.search(text)
    if code and code[1] in _CODES:
        return _named(code[1], 0, place, detail)
    if isinstance(error, FileNotFoundError):
        return ObjectMissingError(*place)
    if isinstance(error, PermissionError) or type(error).__name__ in {
        "PermissionDeniedError",
        "UnauthenticatedError",
    }:
        return _named("", 403, place, detail)
    if status:
        return _named("", int(status[1]), place, detail)
    if isinstance(error, (OSError, BaseError)) or "rror" in type(error).__name__:
        return StoreUnreachableError(*place, detail=detail[:_DETAIL_CHARS_MAX])
    return StoreFaultError(*place, detail=detail[:_DETAIL_CHARS_MAX])


def _wait(error: HttpResponseError) -> float | None:
    return wait_of(getattr(error.response, "headers", None))
