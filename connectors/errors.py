"""What can go wrong with a store, as one tree; every error says what to do.

    StoreError                      operation, store, key, error_class, is_retryable, hint
    |-- ObjectMissingError          missing     not there (final for this store)
    |-- ObjectExistsError           exists      conditional create: somebody was first
    |-- PreconditionError           exists      conditional replace: the object changed meanwhile
    |-- ChecksumMismatchError       checksum    bytes are not what they should be
    |-- StoreUnreachableError       network     no answer, a cut answer, a time-out
    |-- StoreThrottledError         throttled   slow down; may name a time
    |   `-- KeyBusyError            throttled   only this key: another writer of it is at work
    |-- StoreDeniedError            auth        credentials or permissions
    |-- StoreFullError              full        quota or disk
    |-- BucketMissingError          bucket      the place itself is not there
    |-- UnsupportedError            unsupported the store's capabilities lack this
    |-- ObjectTooLargeError         too_large   more bytes than the store takes in one object
    `-- StoreFaultError             fault       the store failed in a way it does not explain

The error class is what the retry policy looks at (streams/backoff.py) and what a person sees in
the copies record; the class names above are Python's, the words are ours.
"""

from __future__ import annotations

from typing import ClassVar


class StoreError(Exception):
    """An operation on a store failed. Raised only as one of the subclasses."""

    error_class: ClassVar[str] = "fault"
    is_retryable: ClassVar[bool] = False

    def __init__(
        self,
        operation: str,
        store: str,
        key: str = "",
        *,
        detail: str = "",
        hint: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        place = f"{operation} {store}" + (f" {key}" if key else "")
        super().__init__(f"{place}: {detail or self.error_class}" + (f" ({hint})" if hint else ""))
        self.operation = operation
        self.store = store
        self.key = key
        self.detail = detail
        self.hint = hint
        self.retry_after_seconds = retry_after_seconds


class ObjectMissingError(StoreError):
    """There is no object under this key."""

    error_class = "missing"


class ObjectExistsError(StoreError):
    """A conditional create found an object under the key; nothing was changed."""

    error_class = "exists"


class PreconditionError(StoreError):
    """A conditional replace found another object than the one it was to replace."""

    error_class = "exists"


class ChecksumMismatchError(StoreError):
    """Bytes do not hash to what they should, or have another length; nothing is visible."""

    error_class = "checksum"
    is_retryable = True


class StoreUnreachableError(StoreError):
    """The store did not answer, or its answer was cut off: the outcome may be unknown."""

    error_class = "network"
    is_retryable = True


class StoreThrottledError(StoreError):
    """The store asks for fewer requests."""

    error_class = "throttled"
    is_retryable = True


class KeyBusyError(StoreThrottledError):
    """Another writer of the same key is at work; the store itself has no trouble."""


class StoreDeniedError(StoreError):
    """The credentials are wrong, expired, or lack a permission."""

    error_class = "auth"
    is_retryable = True


class StoreFullError(StoreError):
    """There is no room left."""

    error_class = "full"
    is_retryable = True


class BucketMissingError(StoreError):
    """The bucket or folder itself is not there."""

    error_class = "bucket"
    is_retryable = True


class UnsupportedError(StoreError):
    """The store cannot do this; ask its capabilities before calling."""

    error_class = "unsupported"


class ObjectTooLargeError(StoreError):
    """The store takes no object of this size; nothing was sent."""

    error_class = "too_large"


class StoreFaultError(StoreError):
    """The store failed without a usable reason (a 5xx answer, an unknown code)."""

    error_class = "fault"
    is_retryable = True
