"""The client of both sides: HTTP/1.1 on a plain socket, and S3's signature.

Requests are prepared before the clock starts, signature included, so that what is timed is the
servers and not the client's own arithmetic. Both sides get the same client, threads and polls.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

REGION: Final = "us-east-1"
_SAFE: Final = "-_.~"
# No answer of what is measured here takes longer; the 5 GiB object's own answer comes at its end.
_SOCKET_SECONDS: Final = 180.0
_RECEIVE_BYTES: Final = 256 * 1024
_HEAD_BYTES_MAX: Final = 64 * 1024
_CONTENT: Final = re.compile(rb"<Contents>(.*?)</Contents>", re.DOTALL)
_KEY: Final = re.compile(rb"<Key>(.*?)</Key>")
_ETAG: Final = re.compile(rb"<ETag>(?:&#34;|&quot;|\")?([0-9a-f-]+)")
_SIZE: Final = re.compile(rb"<Size>(\d+)</Size>")
_NEXT: Final = re.compile(rb"<NextContinuationToken>(.*?)</NextContinuationToken>")


class WireError(Exception):
    """A server's answer that is not the one that the benchmark needs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing."""

    etag: str
    size: int


class Connection:
    """One kept-alive connection of one thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._rest = b""

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._rest = b""

    def ask(self, head: bytes, body: bytes | Iterable[bytes] = b"") -> Answer:
        """Send a prepared request and read its answer; raises OSError or WireError."""
        is_fresh = self._socket is None
        try:
            return self._ask(head, body)
        except (OSError, WireError):
            self.close()
            # A server may close a kept connection at any time; a fresh one has no such excuse.
            if is_fresh or not isinstance(body, bytes):
                raise
        try:
            return self._ask(head, body)
        except (OSError, WireError):
            self.close()
            raise

    def _ask(self, head: bytes, body: bytes | Iterable[bytes]) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), _SOCKET_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(body, bytes):
            # One write for what is small: two would be two packets and two wake-ups.
            if len(body) <= _HEAD_BYTES_MAX:
                self._socket.sendall(head + body)
            else:
                self._socket.sendall(head)
                self._socket.sendall(body)
        else:
            self._socket.sendall(head)
            for chunk in body:
                self._socket.sendall(chunk)
        return self._read(has_body=not head.startswith(b"HEAD"))

    def _read(self, *, has_body: bool) -> Answer:
        while b"\r\n\r\n" not in self._rest:
            self._more()
            if len(self._rest) > _HEAD_BYTES_MAX and b"\r\n\r\n" not in self._rest:
                raise WireError("the head of an answer does not end")
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        status = int(head[9:12])
        lower = head.lower()
        if not has_body or status in {204, 304}:
            body = b""
        elif b"transfer-encoding: chunked" in lower:
            body = self._chunks()
        else:
            found = re.search(rb"content-length: *(\d+)", lower)
            body = self._exactly(int(found[1]) if found else 0)
        if b"connection: close" in lower:
            self.close()
        return Answer(status, head, body)

    def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while True:
            while b"\r\n" not in self._rest:
                self._more()
            line, _, self._rest = self._rest.partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            parts.append(self._exactly(size))
            self._exactly(2)
            if size == 0:
                return b"".join(parts)

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        body, self._rest = self._rest[:size], self._rest[size:]
        return body

    def _more(self) -> None:
        if self._socket is None:
            raise WireError("the connection is closed")
        received = self._socket.recv(_RECEIVE_BYTES)
        if not received:
            raise WireError("the server closed the connection")
        self._rest += received


@dataclass(slots=True)
class S3Server:
    """An S3 server on loopback, and how to sign requests to it."""

    port: int
    key_id: str
    secret: str
    _keys: dict[str, bytes] = field(default_factory=dict)

    def head_of(
        self, method: str, path: str, query: dict[str, str] | None = None, length: int = 0
    ) -> bytes:
        """A signed request's head, good for 15 minutes."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        pairs = sorted((query or {}).items())
        words = "&".join(f"{quote(k, safe=_SAFE)}={quote(v, safe=_SAFE)}" for k, v in pairs)
        place = quote(path, safe="/" + _SAFE)
        host, digest = f"127.0.0.1:{self.port}", "UNSIGNED-PAYLOAD"
        names = "host;x-amz-content-sha256;x-amz-date"
        canonical = (
            f"{method}\n{place}\n{words}\nhost:{host}\nx-amz-content-sha256:{digest}\n"
            f"x-amz-date:{moment}\n\n{names}\n{digest}"
        )
        scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashed}"
        signature = hmac.new(self._key(moment[:8]), text.encode(), "sha256").hexdigest()
        return (
            f"{method} {place}{'?' + words if words else ''} HTTP/1.1\r\nHost: {host}\r\n"
            f"x-amz-content-sha256: {digest}\r\nx-amz-date: {moment}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    def _key(self, day: str) -> bytes:
        if day not in self._keys:
            key = ("AWS4" + self.secret).encode()
            for word in (day, REGION, "s3", "aws4_request"):
                key = hmac.new(key, word.encode(), "sha256").digest()
            self._keys[day] = key
        return self._keys[day]

    def ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """One request on a connection of its own."""
        with contextlib.closing(Connection(self.port)) as connection:
            return connection.ask(self.head_of(method, path, query, len(body)), body)

    def list_bucket(self, bucket: str, prefix: str) -> dict[str, Listed]:
        """All objects below a prefix, on a connection of its own."""
        with contextlib.closing(Connection(self.port)) as connection:
            return self.list(connection, bucket, prefix)

    def list(self, connection: Connection, bucket: str, prefix: str) -> dict[str, Listed]:
        """All objects below a prefix."""
        found: dict[str, Listed] = {}
        query = {"list-type": "2", "max-keys": "1000", "prefix": prefix}
        while True:
            answer = connection.ask(self.head_of("GET", f"/{bucket}", query))
            if answer.status != 200:
                raise WireError(f"listing {bucket}: {answer.status} {answer.body[:300]!r}")
            found.update(read_listing(answer.body))
            more = _NEXT.search(answer.body)
            if more is None:
                return found
            query["continuation-token"] = more[1].decode()


def read_listing(document: bytes) -> dict[str, Listed]:
    """The objects in one page of ListObjectsV2. Our keys need no unescaping."""
    found: dict[str, Listed] = {}
    for entry in _CONTENT.findall(document):
        key, etag, size = _KEY.search(entry), _ETAG.search(entry), _SIZE.search(entry)
        if key is None or size is None:
            raise WireError(f"a listing's entry without key or size: {entry[:300]!r}")
        found[key[1].decode()] = Listed(etag[1].decode() if etag else "", int(size[1]))
    return found
