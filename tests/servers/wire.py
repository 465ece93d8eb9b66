"""A wire between a client and a server that can be made faulty: bytes change, answers are cut.

The body carries MARK, which the wire replaces by CHANGED in the direction that is switched on. So
nothing about HTTP has to be understood here, and signatures over the head stay right.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

MARK: Final = b"<<the-bytes-that-change>>"
CHANGED: Final = b"<<the-bytes-have-changed>"
_READ_BYTES: Final = 256 * 1024
# Nothing in a test takes longer; a pump that hears nothing for this long ends.
_IDLE_SECONDS: Final = 60.0


class Wire:
    """Forwards loopback connections to a port, with the faults that are switched on."""

    def __init__(self, port: int) -> None:
        assert len(MARK) == len(CHANGED)
        self.changes_requests = False
        self.changes_answers = False
        # Every answer is cut after this many bytes; None lets it through.
        self.answer_bytes_max: int | None = None
        self.changed = 0
        self.cut = 0
        # What clients have sent; once it is more than this, nothing more passes until release().
        self.request_bytes = 0
        self.request_bytes_max: int | None = None
        self._counting = threading.Lock()
        self._life = 0
        self._passes = threading.Event()
        self._passes.set()
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop; connections that are open are closed."""
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            self._sockets += [client, server]
            for source, target, change in (
                (client, server, partial(self._request, self._life)),
                (server, client, self._answer),
            ):
                source.settimeout(_IDLE_SECONDS)
                pump = threading.Thread(
                    target=self._pump, args=(source, target, change), daemon=True
                )
                pump.start()

    def _pump(
        self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]
    ) -> None:
        held = b""
        with contextlib.suppress(OSError):
            while data := source.recv(_READ_BYTES):
                data = held + data
                held = _begun_mark(data)
                data = data[: len(data) - len(held)]
                found = change(data)
                target.sendall(found)
                if len(found) < len(data):
                    held = b""
                    break
            target.sendall(held)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    @property
    def is_held(self) -> bool:
        """Whether requests wait for release()."""
        return not self._passes.is_set()

    def release(self) -> None:
        """Let requests pass, and count them from 0."""
        with self._counting:
            self.request_bytes_max = None
            self.request_bytes = 0
        self._passes.set()

    def drop(self, request_bytes_max: int | None = None) -> None:
        """Forget the connections that are open, with what is still inside of them; then release.

        For when their client is dead: its last bytes lie in the kernel, and would count.
        """
        with self._counting:
            self._life += 1
        self.release()
        self.request_bytes_max = request_bytes_max

    def _request(self, life: int, data: bytes) -> bytes:
        with self._counting:
            if life != self._life:
                raise OSError("this connection was dropped")
            self.request_bytes += len(data)
            limit = self.request_bytes_max
            if limit is not None and self.request_bytes > limit:
                self._passes.clear()
        self._passes.wait(_IDLE_SECONDS)
        if life != self._life:
            raise OSError("this connection was dropped")
        return self._replace(data) if self.changes_requests else data

    def _answer(self, data: bytes) -> bytes:
        limit = self.answer_bytes_max
        if limit is not None and limit < len(data):
            self.cut += 1
            return data[:limit]
        return self._replace(data) if self.changes_answers else data

    def _replace(self, data: bytes) -> bytes:
        self.changed += data.count(MARK)
        return data.replace(MARK, CHANGED)


def _begun_mark(data: bytes) -> bytes:
    """The end of `data` that may be the beginning of MARK."""
    for length in range(len(MARK) - 1, 0, -1):
        if data.endswith(MARK[:length]):
            return data[-length:]
    return b""
