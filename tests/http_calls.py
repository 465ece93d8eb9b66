"""Plain HTTP to a gateway: nothing is retried, followed or hidden from a test."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

from tests.world import TOKEN, World, new_uuid, new_version

# aiohttp warns when it is given more than this in one piece.
_WHOLE_BYTES_MAX = 1024 * 1024
PROBLEM_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def position(self) -> str:
        """Where the write stands in the log, as header and document say alike."""
        assert self.headers["Tidestore-Position"] == self.json["position"]
        return self.headers["Tidestore-Position"]

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """The problem that this answer must be: its status, code and form are held."""
        assert self.status == status, (self.status, self.body[:500])
        assert self.headers["Content-Type"] == PROBLEM_TYPE
        document: dict[str, Any] = self.json
        assert document["code"] == code, document
        assert document["status"] == status
        assert document["title"]
        assert document["detail"]
        assert document["type"].endswith(code)
        return document


class Calls:
    """Calls to the gateways of a world. An asynchronous context manager."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=90)
        connector = aiohttp.TCPConnector(limit=64)
        # Bytes are compared as they came: nothing is unpacked on the way.
        self._session = aiohttp.ClientSession(
            timeout=timeout, connector=connector, auto_decompress=False
        )
        return self

    async def __aexit__(self, *details: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        gateway: str = "0",
        body: Any = None,
        document: Any = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = TOKEN,
        **parameters: Any,
    ) -> Answer:
        """One request, its redirects not followed. A path with a host is taken as it is."""
        assert self._session is not None
        asked = dict(headers or {})
        if token is not None and path.startswith("/"):
            asked.setdefault("Authorization", f"Bearer {token}")
        url = self.world.url(gateway) + path if path.startswith("/") else path
        if isinstance(body, bytes) and len(body) > _WHOLE_BYTES_MAX:
            body = io.BytesIO(body)
        query = {name: str(value) for name, value in parameters.items() if value is not None}
        async with self._session.request(
            method,
            url,
            data=body,
            json=document,
            headers=asked,
            params=query or None,
            allow_redirects=False,
        ) as reply:
            return Answer(reply.status, reply.headers, await reply.read())

    async def get(self, path: str, **more: Any) -> Answer:
        """GET, as anybody: reading public data needs no token."""
        more.setdefault("token", None)
        return await self("GET", path, **more)

    async def put_blob(self, body: bytes, **more: Any) -> Answer:
        """PUT a blob under its own hash."""
        return await self("PUT", f"/v1/blobs/{sha256_of(body)}", body=body, **more)

    async def put_new_file(self, body: bytes, **members: Any) -> tuple[str, str]:
        """Write a blob and a file that names it; the file's uuid and version."""
        written = await self.put_blob(body)
        assert written.status in (200, 201), written.body
        uuid, version = new_uuid(), new_version()
        document = {"blob": sha256_of(body), "name": "a.txt", **members}
        answer = await self("PUT", f"/v1/files/{uuid}", document=document, version=version)
        assert answer.status == 201, answer.body
        return uuid, version

    async def metric(self, name: str, gateway: str = "0") -> float:
        """The sum of a metric over all its labels."""
        text = (await self.get("/metrics", gateway=gateway)).body.decode()
        lines = [line for line in text.splitlines() if line.startswith((name + "{", name + " "))]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def sha256_of(body: bytes) -> str:
    """The hash of bytes, in hex."""
    return hashlib.sha256(body).hexdigest()


async def raw(
    world: World,
    sent: bytes,
    *,
    gateway: str = "0",
    half_close: bool = True,
    enough: bytes | None = None,
) -> bytes:
    """Send bytes as they are and read until the other side closes, or `enough` came; what came."""
    port = world.ports[gateway]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(20):
            if enough is not None:
                return await reader.readuntil(enough)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
