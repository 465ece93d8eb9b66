"""A proxy before a store server that refuses, or damages, what it is told to.

What it does not refuse goes through to the real server as it came, so signatures stay right.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.servers.stores import StoreServer

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a request gets instead of an answer. `code` is put into an S3 body."""

    status: int
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    # Which requests, by method; every one by default.
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    # Once a request of this method was refused, all goes through again.
    last: str = ""

    @property
    def body(self) -> bytes:
        """As S3 words it."""
        return f"<?xml version='1.0'?><Error><Code>{self.code}</Code></Error>".encode()


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that came."""

    at: float
    method: str
    path: str
    is_refused: bool


class Grumpy:
    """Forwards requests to a server, or refuses them while `refusal` is set."""

    def __init__(self, server: StoreServer) -> None:
        self.refusal: Refusal | None = None
        # Whether the last byte of every body is changed on its way.
        self.is_damaging = False
        self.seen: list[Seen] = []
        target = urlsplit(server.endpoint)
        handler = _handler(self, f"{target.hostname}:{target.port}")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        # Buckets whose address leads through here; what makes them goes straight.
        through = server.endpoint.replace(f":{target.port}", f":{port}")
        self.server = replace(server, endpoint=through)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    @property
    def is_calm(self) -> bool:
        """Whether nothing is refused."""
        return self.refusal is None

    def take(self, method: str, path: str) -> Refusal | None:
        """Remember a request; what it is refused with, if it is."""
        refusal = self.refusal
        if refusal is not None and method not in refusal.methods:
            refusal = None
        self.seen.append(Seen(time.monotonic(), method, path, refusal is not None))
        if refusal is not None and method == refusal.last:
            self.refusal = None
        return refusal

    def since(self, moment: float) -> list[Seen]:
        """The requests that came after a moment."""
        return [item for item in list(self.seen) if item.at > moment]

    async def until_refused(self, after: float, method: str = "", seconds: float = 20.0) -> Seen:
        """Wait for a refusal (of one method); raises AssertionError when there is none in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            refused = (item for item in self.since(after) if item.is_refused)
            found = next((item for item in refused if method in ("", item.method)), None)
            if found is not None:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError("no request was refused")


def _handler(grumpy: Grumpy, target: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            refusal = grumpy.take(self.command, self.path)
            if refusal is not None:
                self._answer(refusal.status, list(refusal.headers.items()), refusal.body)
                return
            if grumpy.is_damaging and body:
                body = body[:-1] + bytes([body[-1] ^ 1])
            upstream = http.client.HTTPConnection(target, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            upstream.request(self.command, self.path, body or None, headers)
            reply = upstream.getresponse()
            self._answer(reply.status, reply.getheaders(), reply.read())
            upstream.close()

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            length = str(len(body))
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() == "content-length" and self.command == "HEAD":
                    length = value
                elif name.lower() not in _HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  the library's names

    return Handler
