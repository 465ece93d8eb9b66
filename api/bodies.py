"""Request bodies: read in bounded memory and time, and believed only when they are whole."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import PayloadEncodingError, TransferEncodingError

from tidestore.api.context import gateway_of
from tidestore.api.problems import Problem
from tidestore.connectors.errors import ChecksumMismatchError
from tidestore.connectors.store import CHUNK_BYTES
from tidestore.schemas.objects import MalformedError

# JSON larger than this is parsed in a thread: 256 KiB take about 2 ms.
_THREAD_BYTES = 256 * 1024
# Deeper JSON is nothing that we read, and costs the parser's stack.
_DEPTH_MAX = 20


async def pieces_of(request: web.Request) -> AsyncIterator[bytes]:
    """The body in pieces as they come, never empty.

    Raises ChecksumMismatchError when it is cut, Problem when it stalls.
    """
    idle_seconds = gateway_of(request).settings.limits.idle_seconds_max
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                piece = await request.content.readany()
        except TimeoutError:
            detail, hint = f"no byte of the body came for {idle_seconds:g} s", "send it again"
            raise Problem(408, "stalled", detail, hint=hint) from None
        except (ClientPayloadError, PayloadEncodingError, TransferEncodingError, OSError) as error:
            raise ChecksumMismatchError("read", "", detail=f"the body was cut: {error}") from None
        if piece:
            yield piece
        elif request.content.at_eof():
            # An empty read is the end only if the reader says so.
            return


def chunks_of(request: web.Request) -> AsyncIterator[bytes]:
    """The body in chunks of CHUNK_BYTES or a little more. Raises as pieces_of does."""
    return gathered(pieces_of(request))


async def gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in chunks of CHUNK_BYTES or a little more."""
    held: list[bytes] = []
    size = 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held.clear()
            size = 0
    if held:
        yield b"".join(held)


def refuse_encoding(request: web.Request) -> None:
    """Bytes are stored as they come; a content coding would make them other bytes."""
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise Problem(
            415,
            "content_encoding",
            "the body has a Content-Encoding",
            hint="send the bytes as they are to be stored",
        )


async def read_json(request: web.Request) -> dict[str, Any]:
    """A JSON object from the body; raises MalformedError or Problem."""
    refuse_encoding(request)
    gateway = gateway_of(request)
    limit = gateway.settings.limits.json_bytes_max
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    async with gateway.bodies.hold(length if length is not None else limit):
        held = bytearray()
        async for chunk in chunks_of(request):
            held += chunk
            if len(held) > limit:
                raise _too_large(limit)
        if len(held) > _THREAD_BYTES:
            return await asyncio.to_thread(_parse, bytes(held))
        return _parse(bytes(held))


def _too_large(limit: int) -> Problem:
    hint = "split it: a bundle may name others' files, a collection other bundles"
    return Problem(413, "too_large", f"the document is over {limit} bytes", hint=hint)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedError("body", "is not UTF-8") from None
    try:
        document = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse, parse_int=_whole
        )
    except MalformedError:
        raise
    except (ValueError, RecursionError) as error:
        raise MalformedError("body", "is not JSON", hint=str(error)[:200]) from None
    if not isinstance(document, dict):
        raise MalformedError("body", "is not a JSON object")
    _check_depth(document, _DEPTH_MAX)
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that comes twice: which one counts would be the parser's whim."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedError("body", "has a member twice")
    return found


def _refuse(constant: str) -> Any:
    raise MalformedError("body", f"holds {constant}, which is not JSON")


def _whole(digits: str) -> int:
    # 10 ** 18 is more than any size; longer ones cost quadratic time to read.
    if len(digits) > 19:
        raise MalformedError("body", "holds a number with too many digits")
    return int(digits)


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise MalformedError("body", f"is nested more than {_DEPTH_MAX} deep")
    if isinstance(value, dict):
        for item in value.values():
            _check_depth(item, left - 1)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                _check_depth(item, left - 1)
