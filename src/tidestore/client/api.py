"""The API as coroutines: bounded waits, retries where the protocol makes them safe.

Every write names its own identity (a hash, or a uuid and version chosen by the writer), so sending
it again is always safe; a 503 or a broken connection is therefore tried again for a while.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

_RETRIES: Final = 6
# A gateway that has never answered is more likely a wrong address than one that restarts.
_FIRST_RETRIES: Final = 1
_PAUSE_SECONDS_MAX: Final = 5.0
# A write waits for the origin and the log; both have limits of their own below this.
_TOTAL_SECONDS: Final = 300
# aiohttp sends bytes in one piece, and warns from this size on.
_PIECES_BYTES: Final = 1024 * 1024
_AGAIN: Final = frozenset({429, 502, 503, 504})

Body = bytes | Callable[[], AsyncIterator[bytes]] | None


class ClientError(Exception):
    """The gateway refused, or could not be reached. `code` is the problem's, `hint` what to do."""

    def __init__(self, message: str, *, status: int = 0, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Head:
    """What a HEAD says of an object."""

    sha256: str
    size: int
    content_type: str
    name: str
    replica: str


class Client:
    """Speaks to one gateway. An asynchronous context manager."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        connections: int = 32,
        total_seconds: float = _TOTAL_SECONDS,
        silence_seconds: float | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connections = connections
        self._total_seconds = total_seconds
        self._silence_seconds = silence_seconds
        self._session: aiohttp.ClientSession | None = None
        self._has_answered = False

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections),
            timeout=aiohttp.ClientTimeout(
                total=self._total_seconds, sock_connect=10, sock_read=self._silence_seconds
            ),
            headers=self._headers,
        )
        return self

    async def __aexit__(self, *details: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """A JSON document; raises ClientError."""
        return await self._json("GET", path, parameters)

    async def put(
        self,
        path: str,
        *,
        body: Body = None,
        document: Any = None,
        size: int | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """PUT bytes or a JSON document; raises ClientError."""
        return await self._json("PUT", path, parameters, body, document, size)

    async def post(self, path: str, document: Any, **parameters: Any) -> dict[str, Any]:
        """POST a JSON document; raises ClientError."""
        return await self._json("POST", path, parameters, None, document)

    async def patch(self, path: str, document: Any) -> dict[str, Any]:
        """PATCH with a JSON document; raises ClientError."""
        return await self._json("PATCH", path, {}, None, document)

    async def delete(self, path: str, *, document: Any = None, **parameters: Any) -> dict[str, Any]:
        """DELETE, with a JSON document if one is given; raises ClientError."""
        return await self._json("DELETE", path, parameters, None, document)

    async def pages(
        self, path: str, limit: int = 1000, **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """All items of a listing."""
        cursor: str | None = None
        while True:
            asked = {**parameters, "limit": limit}
            if cursor is not None:
                asked["cursor"] = cursor
            page = await self.get(path, **asked)
            for item in page["items"]:
                yield item
            cursor = page.get("next")
            if cursor is None:
                return

    async def head(self, path: str, **parameters: Any) -> Head:
        """What a HEAD says of an object; raises ClientError."""
        assert self._session is not None, "use it as a context manager"  # noqa: S101
        try:
            async with self._session.head(
                self._url + path, params=_plain(parameters), allow_redirects=True
            ) as reply:
                if reply.status >= 400:
                    hint = "`tidestore ls` shows what is there"
                    raise ClientError(f"{path}: {reply.reason}", status=reply.status, hint=hint)
                disposition = reply.content_disposition
                return Head(
                    sha256=reply.headers.get("ETag", "").strip('"'),
                    size=int(reply.headers.get("Content-Length", "0")),
                    content_type=reply.content_type,
                    name=(disposition.filename if disposition else None) or "",
                    replica=reply.headers.get("Tidestore-Replica", ""),
                )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def read(self, path: str, **parameters: Any) -> AsyncIterator[bytes]:
        """The bytes of an object, redirects followed; raises ClientError."""
        assert self._session is not None, "use it as a context manager"  # noqa: S101
        try:
            async with self._session.get(self._url + path, params=_plain(parameters)) as reply:
                if reply.status >= 400:
                    raise await _error_of(reply)
                async for chunk in reply.content.iter_chunked(1024 * 1024):
                    yield chunk
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
            # A gateway cuts an answer off whose bytes turn out not to be the object's.
            hint = "try again, or another --replica; `tidestore verify` finds bad copies"
            raise ClientError(f"{path} broke off on the way", hint=hint) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _json(
        self,
        method: str,
        path: str,
        parameters: dict[str, Any],
        body: Body = None,
        document: Any = None,
        size: int | None = None,
    ) -> dict[str, Any]:
        assert self._session is not None, "use it as a context manager"  # noqa: S101
        headers = {"Content-Length": str(size)} if size is not None else {}
        for attempt in range(_RETRIES + 1):
            data = body() if callable(body) else _as_file(body)
            try:
                async with self._session.request(
                    method,
                    self._url + path,
                    params=_plain(parameters),
                    data=data,
                    json=document,
                    headers=headers,
                ) as reply:
                    self._has_answered = True
                    if reply.status < 400:
                        found: dict[str, Any] = await reply.json() if reply.status != 204 else {}
                        return found
                    error = await _error_of(reply)
                    if reply.status not in _AGAIN or attempt == _RETRIES:
                        raise error
                    pause = _pause_of(reply)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                is_answered = self._has_answered
                if _is_no_gateway(error) or attempt >= (
                    _RETRIES if is_answered else _FIRST_RETRIES
                ):
                    raise self._unreachable(error) from error
                pause = 0.3 * 2**attempt
            await asyncio.sleep(min(pause, _PAUSE_SECONDS_MAX))
        raise AssertionError("the last try returns or raises")

    def _unreachable(self, error: BaseException) -> ClientError:
        if _is_no_gateway(error):
            hint = "TIDESTORE_URL or --url must be a gateway's, like http://127.0.0.1:8080"
            return ClientError(f"{self._url} is no gateway's address", hint=hint)
        reason = str(error) or type(error).__name__
        hint = "is it running? `tidestore run` starts one here; TIDESTORE_URL names another"
        return ClientError(f"cannot reach the gateway at {self._url}: {reason}", hint=hint)


def _as_file(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body as aiohttp wants it: sent in pieces, so that the loop is not held up."""
    return io.BytesIO(body) if body is not None and len(body) >= _PIECES_BYTES else body


def _is_no_gateway(error: BaseException) -> bool:
    """Whether the address is wrong: no URL, or something else than a gateway answers there."""
    return isinstance(error, (aiohttp.InvalidURL, aiohttp.ContentTypeError, ValueError))


def _pause_of(reply: aiohttp.ClientResponse) -> float:
    """Seconds of a Retry-After header; it may hold a date, or nonsense of something in between."""
    try:
        return max(0.0, float(reply.headers.get("Retry-After", "1")))
    except ValueError:
        return 1.0


def _plain(parameters: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items() if value is not None}


async def _error_of(reply: aiohttp.ClientResponse) -> ClientError:
    try:
        problem = await reply.json(content_type=None)
        hint = str(problem.get("hint", ""))
        if reply.status == 401:
            hint = "set TIDESTORE_TOKEN; a stack of your own keeps its token in <data>/token"
        return ClientError(
            f"{problem.get('detail', reply.reason)}",
            status=reply.status,
            code=str(problem.get("code", "")),
            hint=hint,
        )
    except (ValueError, aiohttp.ClientError, AttributeError):
        return ClientError(
            f"{reply.url.origin()} answered {reply.status} {reply.reason}",
            status=reply.status,
            hint="its answer is not a gateway's: is TIDESTORE_URL or --url right?",
        )
