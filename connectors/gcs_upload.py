"""A bridge from our asynchronous sources to a library that pulls from a file in a thread.

    event loop: source --chunks--> queue of 4 --> thread: read(n) --> Google's resumable upload

The library finishes an upload, and so makes it visible, as soon as it has sent the last byte. So
read() always keeps some bytes back until the source has ended without raising: a source that finds
at its end that the bytes are wrong must still be able to stop the upload.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib

from tidestore.connectors.errors import ChecksumMismatchError
from tidestore.connectors.store import ByteSource

# Chunks are about a MiB: enough to keep the thread busy, little enough to be no second buffer.
_QUEUE_CHUNKS = 4
# A source that gives nothing for this long is dead; its own time limits are shorter.
_SOURCE_SECONDS_MAX = 300


class PulledSource:
    """A file-like object over an asynchronous source. `read` belongs to one thread."""

    def __init__(
        self,
        source: ByteSource,
        loop: asyncio.AbstractEventLoop,
        *,
        expected_size: int | None,
    ) -> None:
        self._loop = loop
        self._expected_size = expected_size
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE_CHUNKS)
        self._feeder = loop.create_task(self._feed(source))
        self._buffer = bytearray()
        self._has_ended = False
        self._given = 0
        self.size = 0
        self.failure: BaseException | None = None

    async def _feed(self, source: ByteSource) -> None:
        try:
            async for chunk in source:
                self.size += len(chunk)
                await self._queue.put(bytes(chunk))
            if self._expected_size is not None and self.size != self._expected_size:
                raise ChecksumMismatchError(
                    "upload", "", detail=f"{self.size} of {self._expected_size} bytes came"
                )
        except asyncio.CancelledError:
            raise  # close() tells the reader
        except BaseException as error:  # noqa: BLE001  handed to the reader, whatever it is
            self.failure = error
        await self._queue.put(None)

    def read(self, wanted: int = -1) -> bytes:
        """Up to `wanted` bytes; never the last ones before the source has ended well."""
        while not self._has_ended and (wanted < 0 or len(self._buffer) <= wanted):
            chunk = self._pull()
            if chunk is None:
                self._has_ended = True
            else:
                self._buffer += chunk
        if self.failure is not None:
            raise OSError("the source failed")
        count = len(self._buffer) if wanted < 0 else wanted
        given = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._given += len(given)
        return given

    def tell(self) -> int:
        """How many bytes were read; the library checks its own count by it."""
        return self._given

    def _pull(self) -> bytes | None:
        future = asyncio.run_coroutine_threadsafe(self._queue.get(), self._loop)
        try:
            return future.result(_SOURCE_SECONDS_MAX)
        except concurrent.futures.TimeoutError:
            future.cancel()
            self.failure = TimeoutError("the source gave nothing for too long")
            return None

    async def close(self) -> None:
        """Stop feeding. A reader that still waits is told that the source failed."""
        if self._feeder.done():
            return
        self._feeder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._feeder
        self.failure = self.failure or asyncio.CancelledError()
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)
