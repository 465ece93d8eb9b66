"""A store whose credentials are rotated while it is used.

    call --> files changed? --yes--> read again, a new client --> the call
               | no (looked at once a second at most)
               v
             the call --refused--> read again: others? --yes--> the call once more
                                                        '-no--> the refusal

Clients hold their credentials, so a rotation is another client beside the old one: what is under
way goes on with that. Nothing here is durable; a process that starts reads what is there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from tidestore.connectors.credentials import CredentialSource, Secret
from tidestore.connectors.errors import StoreDeniedError
from tidestore.connectors.layers import LayeredStore
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.schemas.objects import MalformedError, ObjectKey

LOGGER: Final = logging.getLogger("tidestore.credentials")

# A look costs some microseconds a file; a rotation is felt by nobody within a second.
_LOOK_SECONDS: Final = 1.0
# Longer than anything that began with the old client is under way: then its connections are freed.
_OLD_SECONDS: Final = 7_200.0
# A stream cannot be sent twice: whoever asked tries again, and finds the new client.
_STREAMED: Final = frozenset({"upload", "replace"})

T = TypeVar("T")


class RotatingStore(LayeredStore):
    """Remakes the store when its credentials have changed. Belongs to one event loop."""

    def __init__(
        self,
        make: Callable[[dict[str, Secret]], ObjectStore],
        credentials: dict[str, Secret],
        source: CredentialSource,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(make(credentials))
        self._make = make
        self._credentials = credentials
        self._source = source
        self._now = now
        self._stamp = source.stamp()
        self._looked_at = now()
        self._old: list[tuple[float, ObjectStore]] = []
        self._closing: set[asyncio.Task[None]] = set()

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        self._look()
        used = self._inner
        try:
            return await super()._around(operation, call)
        except StoreDeniedError:
            # Another call may have renewed it while this one was under way.
            is_renewed = self._renew() or self._inner is not used
            if not is_renewed or operation in _STREAMED:
                raise
        return await super()._around(operation, call)

    def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """See ObjectStore."""
        self._look()
        return super().list(prefix, after=after)

    async def presign(
        self, key: ObjectKey, *, expires_seconds: int, content_type: str, disposition: str
    ) -> str:
        """See ObjectStore. Signing asks no server, so an old key would only fail at the reader."""
        self._look()
        return await super().presign(
            key, expires_seconds=expires_seconds, content_type=content_type, disposition=disposition
        )

    async def close(self) -> None:
        """See ObjectStore."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        for _, store in self._old:
            await store.close()
        await super().close()

    def _look(self) -> None:
        now = self._now()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        if self._source.stamp() != self._stamp:
            self._renew()

    def _renew(self) -> bool:
        """Read the credentials again; whether they are others now."""
        stamp = self._source.stamp()
        try:
            credentials = self._source.read()
        except MalformedError as error:
            # Half way through a rotation: the files are looked at again.
            LOGGER.warning("%s: %s", self.name, error)
            return False
        self._stamp = stamp
        if credentials == self._credentials:
            return False
        LOGGER.warning("%s: its credentials have changed and are used from now on", self.name)
        self._old.append((self._now(), self._inner))
        self._inner, self._credentials = self._make(credentials), credentials
        self._close_old()
        return True

    def _close_old(self) -> None:
        limit = self._now() - _OLD_SECONDS
        for store in [store for retired, store in self._old if retired < limit]:
            task = asyncio.ensure_future(store.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._old = [(retired, store) for retired, store in self._old if retired >= limit]
