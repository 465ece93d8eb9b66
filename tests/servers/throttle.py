"""A TCP gate before a store server: shut, open, or narrow. Runs in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import replace
from urllib.parse import urlsplit

from tests.servers.processes import free_port
from tests.servers.stores import StoreServer

_SLICE_BYTES = 64 * 1024


class Throttle:
    """Forwards connections to a server; what the server answers passes at a chosen rate."""

    def __init__(self, server: StoreServer) -> None:
        self.port = free_port()
        # Buckets whose address leads through the gate; what makes them goes straight.
        self.server = replace(server, endpoint=f"http://127.0.0.1:{self.port}")
        self.staging_url = self.server.new_url("staging")
        self._target = urlsplit(server.endpoint).port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._is_ready = threading.Event()
        self._is_open = threading.Event()
        self._is_open.set()
        self.bytes_per_second: float | None = None
        # What the server has answered so far, heads included.
        self.answered_bytes = 0

    @property
    def staging_toml(self) -> str:
        """The staging store as configured."""
        pairs = ", ".join(f'{k} = "plain:{v}"' for k, v in self.server.credentials.items())
        return (
            f'[[staging]]\nname = "lab"\nurl = "{self.staging_url}"\ncredentials = {{ {pairs} }}\n'
        )

    def start(self) -> None:
        """Begin to forward."""
        self._thread.start()
        assert self._is_ready.wait(10)

    def stop(self) -> None:
        """End."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    @property
    def is_open(self) -> bool:
        """Whether anything passes."""
        return self._is_open.is_set()

    def shut(self) -> None:
        """Let nothing more through from the server."""
        self._is_open.clear()

    def open(self) -> None:
        """Let all through again."""
        self.bytes_per_second = None
        self._is_open.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with await asyncio.start_server(self._connected, "127.0.0.1", self.port):
            self._is_ready.set()
            await self._stopping.wait()
        # asyncio.run cancels what is still open.

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(
                self._pump(reader, up_writer, is_gated=False),
                self._pump(up_reader, writer, is_gated=True),
            )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_gated: bool
    ) -> None:
        try:
            while data := await reader.read(_SLICE_BYTES):
                while is_gated and not self._is_open.is_set():
                    await asyncio.sleep(0.02)
                if is_gated and self.bytes_per_second:
                    await asyncio.sleep(len(data) / self.bytes_per_second)
                if is_gated:
                    self.answered_bytes += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
