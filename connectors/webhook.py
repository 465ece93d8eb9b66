"""One signed POST: time and size limits, the address guard. The retry policy is the caller's.

Two signatures at once. Standard Webhooks 1.0.0: HMAC-SHA256 over `id.timestamp.body`, with the
secret behind `whsec_` taken as base64. GitHub: HMAC-SHA256 over the body with the secret's text as
it is. A receiver verifies whichever it knows.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import errno
import hashlib
import hmac
import socket
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from tidestore.connectors.addresses import AddressGuard
from tidestore.connectors.correlation import traceparent
from tidestore.connectors.traces import is_tracing
from tidestore.schemas.objects import MalformedError

SECRET_PREFIX: Final = "whsec_"  # noqa: S105  the public prefix, no secret
# Standard Webhooks asks for 15 to 30 s: long enough for a slow receiver, short for everybody else.
TOTAL_SECONDS: Final = 20.0
CONNECT_SECONDS: Final = 5.0
# Enough of an answer to see what went wrong; a receiver that sends more is not read on.
RESPONSE_BYTES_MAX: Final = 16 * 1024
# Nobody needs an answer's body: a receiver that dribbles it has taken the delivery all the same.
_BODY_SECONDS: Final = 5.0
_LINE_BYTES_MAX: Final = 8_190
_HEADERS_MAX: Final = 64
_URL_CHARS_MAX: Final = 2_048
# Above all that callers send at once (their bound), so that nobody waits for a connection inside
# the time that the receiver has; and no bound per host, because receivers share hosts.
_CONNECTIONS: Final = 256


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one attempt sends."""

    delivery_id: str
    event: str
    body: bytes
    hook_id: str
    attempt: int
    # Of the write that this tells of; "" when it tells of none.
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `status` is None when nothing did; `error` then says why."""

    status: int | None
    error: str
    body: str
    retry_after_seconds: float | None
    duration_ms: int

    @property
    def is_success(self) -> bool:
        """Whether the receiver took it: any 2xx, and nothing else."""
        return self.status is not None and 200 <= self.status < 300


class RefusedAddressError(OSError):
    """The guard refused the address that was about to be dialled."""


class WebhookSender:
    """Sends deliveries. Belongs to one event loop."""

    def __init__(self, guard: AddressGuard, *, total_seconds: float = TOTAL_SECONDS) -> None:
        self._guard = guard
        self._total_seconds = total_seconds
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Make the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                socket_factory=self._socket,
                ttl_dns_cache=10,
            ),
            timeout=aiohttp.ClientTimeout(
                total=self._total_seconds, sock_connect=CONNECT_SECONDS, connect=CONNECT_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,  # a small answer must not become a large one
            max_line_size=_LINE_BYTES_MAX,
            max_field_size=_LINE_BYTES_MAX,
            max_headers=_HEADERS_MAX,
        )

    async def stop(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()

    async def send(self, url: str, secret: str, delivery: Delivery) -> Reply:
        """One attempt; never raises for what the receiver or the network does."""
        assert self._session is not None, "start() comes first"  # noqa: S101
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tidestore-hook/1",
            "webhook-id": delivery.delivery_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign_standard(
                secret, delivery.delivery_id, timestamp, delivery.body
            ),
            "X-Hub-Signature-256": sign_github(secret, delivery.body),
            "X-GitHub-Event": delivery.event,
            "X-GitHub-Delivery": delivery.delivery_id,
            "X-GitHub-Hook-ID": delivery.hook_id,
            "X-Tidestore-Attempt": str(delivery.attempt),
            **_correlation(delivery),
        }
        begun = time.perf_counter()
        try:
            async with self._session.post(
                url, data=delivery.body, headers=headers, allow_redirects=False
            ) as response:
                body = await _read(response)
                return Reply(
                    status=response.status,
                    error="" if response.status < 300 else f"answered {response.status}",
                    body=body,
                    retry_after_seconds=_retry_after(response.headers.get("Retry-After")),
                    duration_ms=_since(begun),
                )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            text = f"{type(error).__name__}: {error}"[:500]
            return Reply(None, text, "", None, _since(begun))

    async def check_url(self, url: str) -> None:
        """Whether a hook may have this URL now; raises MalformedError with the reason.

        A name that does not resolve is accepted: it may come later, and the connect checks again.
        """
        host, port = split_url(url)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError):
            return
        for *_, place in found:
            self._guard.check(str(place[0]), int(place[1]))

    def _socket(self, address: Any) -> socket.socket:
        """Make the socket for an address that is about to be dialled, or refuse it.

        aiohttp calls this for names and for numeric hosts alike, after every resolution, so neither
        a literal nor a name that changed its mind gets past it.
        """
        family, kind, protocol, _, place = address
        reason = self._guard.refusal(str(place[0]), int(place[1]))
        if reason:
            # With a number, as the system's own are: without one the text is lost on the way.
            raise RefusedAddressError(errno.EACCES, f"not called: {reason}")
        return socket.socket(family, kind, protocol)


def split_url(url: str) -> tuple[str, int]:
    """Host and port of a hook's URL; raises MalformedError for what a hook may not have."""
    hint = "https://host/path, or http:// where the operator allows it"
    if len(url) > _URL_CHARS_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise MalformedError("url", "is not a plain URL", hint=hint)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise MalformedError("url", "is not a URL", hint=hint) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MalformedError("url", "is neither http nor https", hint=hint)
    if parts.username is not None or parts.password is not None:
        raise MalformedError("url", "holds a user name", hint="sign-in belongs into the secret")
    return parts.hostname, port or (443 if parts.scheme == "https" else 80)


def signing_key(secret: str) -> bytes:
    """The key behind a secret's text; raises MalformedError for broken base64."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise MalformedError(
            "secret", "is not base64 behind whsec_", hint="leave it out, and one is made for you"
        ) from None


def sign_standard(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature` (Standard Webhooks 1.0.0, v1)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.digest(signing_key(secret), signed, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()


def sign_github(secret: str, body: bytes) -> str:
    """The value of `X-Hub-Signature-256`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def _correlation(delivery: Delivery) -> dict[str, str]:
    """What puts the receiver's work beside ours: the write's id, and its trace (W3C)."""
    request_id = delivery.request_id
    if not request_id or not request_id.isascii() or not request_id.isprintable():
        return {}
    about = (delivery.delivery_id, delivery.hook_id, delivery.attempt)
    parent = traceparent(request_id, *about, is_sampled=is_tracing())
    return {"X-Request-Id": request_id, "traceparent": parent}


async def _read(response: aiohttp.ClientResponse) -> str:
    """The beginning of an answer. What follows is not read: the connection is closed instead."""
    held = bytearray()
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in response.content.iter_chunked(4096):
                held += chunk
                if len(held) >= RESPONSE_BYTES_MAX:
                    break
            else:
                return bytes(held).decode("utf-8", "replace")
    except (aiohttp.ClientError, TimeoutError):
        pass  # its status was said, and that is what counts
    response.close()
    return bytes(held[:RESPONSE_BYTES_MAX]).decode("utf-8", "replace")


def _retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header; dates and nonsense are passed over."""
    with contextlib.suppress(ValueError, TypeError):
        seconds = float(text or "")
        if 0 <= seconds < 1e9:
            return seconds
    return None


def _since(begun: float) -> int:
    return int((time.perf_counter() - begun) * 1000)
