"""Behaviour that every store gets, whatever the cloud: wrappers that are stores themselves.

    Measured( Limited( Retrying( Throttled( S3Store ) ) ) )     (throttle.py has that one)

Each wraps one call at a time; none changes what a call means. Verification is not here: it belongs
to the bytes, not to the call (verify.py).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import StoreError, UnsupportedError
from tidestore.connectors.inside import CopiesInside
from tidestore.connectors.store import (
    ByteSource,
    ByteStream,
    Capabilities,
    ObjectInfo,
    ObjectStore,
    OpenUpload,
    UploadJournal,
)
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import ObjectKey

T = TypeVar("T")
# What a call may wait for its next try while its caller waits.
_QUICK_SECONDS = 1.0


class LayeredStore:
    """A store around another; a subclass says in `_around` what happens around each call."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        del operation
        return await call()

    @property
    def name(self) -> str:
        """The replica's name."""
        return self._inner.name

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do."""
        return self._inner.capabilities

    async def open(self) -> None:
        """See ObjectStore."""
        await self._around("open", self._inner.open)

    async def close(self) -> None:
        """See ObjectStore."""
        await self._inner.close()

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See ObjectStore."""
        return await self._around(
            "put", lambda: self._inner.put_if_absent(key, body, sums, content_type=content_type)
        )

    async def upload_if_absent(
        self,
        key: ObjectKey,
        source: ByteSource,
        *,
        size: int | None,
        content_type: str,
        journal: UploadJournal | None = None,
    ) -> ObjectInfo:
        """See ObjectStore."""
        return await self._around(
            "upload",
            lambda: self._inner.upload_if_absent(
                key, source, size=size, content_type=content_type, journal=journal
            ),
        )

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        """See ObjectStore."""
        await self._around("abort", lambda: self._inner.abort_upload(key, token))

    def open_uploads(self) -> AsyncIterator[OpenUpload]:
        """See ObjectStore."""
        return self._inner.open_uploads()

    async def replace(
        self,
        key: ObjectKey,
        source: ByteSource,
        sums: Checksums,
        *,
        seen: ObjectInfo,
        content_type: str,
    ) -> ObjectInfo:
        """See ObjectStore."""
        return await self._around(
            "replace",
            lambda: self._inner.replace(key, source, sums, seen=seen, content_type=content_type),
        )

    async def copy_inside(
        self, source: StoreAddress, key: ObjectKey, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See CopiesInside. For the layers it is an upload: as long, and a write."""

        async def copy() -> ObjectInfo:
            if not isinstance(inner := self._inner, CopiesInside):
                raise UnsupportedError("copy", self.name, key)
            return await inner.copy_inside(source, key, sums, content_type=content_type)

        return await self._around("upload", copy)

    async def get(self, key: ObjectKey, *, start: int = 0, length: int | None = None) -> ByteStream:
        """See ObjectStore."""
        return await self._around("get", lambda: self._inner.get(key, start=start, length=length))

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """See ObjectStore."""
        return await self._around("head", lambda: self._inner.head(key))

    def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """See ObjectStore."""
        return self._inner.list(prefix, after=after)

    async def delete(self, key: ObjectKey) -> None:
        """See ObjectStore."""
        await self._around("delete", lambda: self._inner.delete(key))

    async def erase(self, key: ObjectKey) -> int:
        """See ObjectStore."""
        return await self._around("erase", lambda: self._inner.erase(key))

    async def presign(
        self, key: ObjectKey, *, expires_seconds: int, content_type: str, disposition: str
    ) -> str:
        """See ObjectStore."""
        return await self._inner.presign(
            key,
            expires_seconds=expires_seconds,
            content_type=content_type,
            disposition=disposition,
        )

    def native_url(self, key: ObjectKey) -> str:
        """See ObjectStore."""
        return self._inner.native_url(key)


class LimitedStore(LayeredStore):
    """At most so many calls at once; more wait for a place, in order."""

    def __init__(self, inner: ObjectStore, *, calls_max: int) -> None:
        super().__init__(inner)
        self._places = asyncio.Semaphore(calls_max)

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        async with self._places:
            return await super()._around(operation, call)


class RetryingStore(LayeredStore):
    """A few quick tries of calls that can be repeated, for faults that pass in a second.

    Not for outages: those belong to whoever can remember the work (streams/backoff.py) or can
    tell the client to come again. A stream cannot be sent twice, so uploads are tried once. A
    create that is repeated after a lost answer finds its own object and reports it as existing,
    which callers treat as success when the bytes are equal.
    """

    REPEATABLE = frozenset({"put", "head", "get", "delete", "erase"})

    def __init__(
        self,
        inner: ObjectStore,
        *,
        tries_max: int = 3,
        pause_seconds: float = 0.1,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(inner)
        self._tries_max = tries_max
        self._pause_seconds = pause_seconds
        self._sleep = sleep

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        tries = self._tries_max if operation in self.REPEATABLE else 1
        for attempt in range(1, tries):
            try:
                return await super()._around(operation, call)
            except StoreError as error:
                if error.error_class not in {"network", "throttled", "fault"}:
                    raise
                if (error.retry_after_seconds or 0.0) > _QUICK_SECONDS:
                    raise  # it has named a time, and this is none for a quick try
                pause = self._pause_seconds * 2 ** (attempt - 1)
                await self._sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  jitter, no secret
        return await super()._around(operation, call)


class StoreMetrics:
    """The metrics of all stores of one process; see docs/operations.md for what to watch."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.calls = Histogram(
            "tidestore_store_call_seconds",
            "Duration of calls to a store, by replica and operation.",
            ["replica", "operation"],
            registry=registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60),
        )
        self.errors = Counter(
            "tidestore_store_errors_total",
            "Failed calls to a store, by replica, operation and error class.",
            ["replica", "operation", "error_class"],
            registry=registry,
        )


class MeasuredStore(LayeredStore):
    """Counts and times every call."""

    def __init__(self, inner: ObjectStore, metrics: StoreMetrics) -> None:
        super().__init__(inner)
        self._metrics = metrics

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        begun = time.perf_counter()
        try:
            return await super()._around(operation, call)
        except StoreError as error:
            self._metrics.errors.labels(self.name, operation, error.error_class).inc()
            raise
        finally:
            elapsed = time.perf_counter() - begun
            self._metrics.calls.labels(self.name, operation).observe(elapsed)
