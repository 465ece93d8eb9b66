"""PUT /v1/blobs/{sha256}: any bytes, any size, stored under their own hash."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from tidestore.api.bodies import chunks_of, gathered, pieces_of, refuse_encoding
from tidestore.api.context import author_of, dataset_of, gateway_of
from tidestore.api.origin import Author, Outcome
from tidestore.api.problems import Problem
from tidestore.api.waits import answer_write, asked_of
from tidestore.connectors.errors import ChecksumMismatchError
from tidestore.connectors.verify import CheckedSource
from tidestore.schemas.checksums import announced_sha256, checksums_of
from tidestore.schemas.objects import (
    ObjectKey,
    Sha256,
    blob_key,
    check_sha256,
)

# A blob has no type of its own: the file that names it has, and links override it.
BLOB_CONTENT_TYPE = "application/octet-stream"
_THREAD_BYTES = 64 * 1024


async def put_blob(request: web.Request) -> web.StreamResponse:
    """Store a blob. 201 new, 200 the same again; 422 when the body does not hash to its address."""
    dataset = dataset_of(request)
    sha256 = check_sha256(request.match_info["sha256"])
    author = author_of(request, dataset)
    asked = asked_of(request)
    refuse_encoding(request)
    _check_announced(request, sha256)
    key = blob_key(dataset, sha256)
    outcome = await _store(request, key, sha256, author)
    document: dict[str, Any] = {
        "kind": "blob",
        "dataset": dataset,
        "key": key,
        "sha256": sha256,
        "size": outcome.sums.size,
        "sha1": outcome.sums.sha1,
        "crc32c": outcome.sums.crc32c,
        "md5": outcome.sums.md5,
    }
    return await answer_write(request, key, outcome, document, asked)


async def _store(request: web.Request, key: ObjectKey, sha256: Sha256, author: Author) -> Outcome:
    gateway = gateway_of(request)
    limits = gateway.settings.limits
    size = request.content_length
    whole = limits.whole_body_bytes_max
    if size is not None and size > whole:
        place = ("read", "", key)
        source = CheckedSource(chunks_of(request), sha256=sha256, size=size, place=place)
        return await gateway.origin.write_stream(
            key, source, size=size, content_type=BLOB_CONTENT_TYPE, author=author
        )
    # Small, or of unknown length: read on until it is over or too much for one piece.
    async with gateway.bodies.hold(whole if size is None else size):
        # Joined once: each copy of a MiB costs as much as a third of its sha256.
        held: list[bytes] = []
        come = 0
        rest = pieces_of(request)
        async for piece in rest:
            held.append(piece)
            come += len(piece)
            if come > whole:
                source = CheckedSource(_after(held, rest), sha256=sha256)
                return await gateway.origin.write_stream(
                    key, source, size=None, content_type=BLOB_CONTENT_TYPE, author=author
                )
        body = b"".join(held)
        held.clear()
        if size is not None and len(body) != size:
            raise ChecksumMismatchError(
                "read", "", key, detail=f"{len(body)} bytes came, {size} were announced"
            )
        if len(body) > _THREAD_BYTES:
            sums = await asyncio.to_thread(checksums_of, body)
        else:
            sums = checksums_of(body)
        if sums.sha256 != sha256:
            raise ChecksumMismatchError(
                "read", "", key, detail=f"the body hashes to {sums.sha256}, not to its address"
            )
        return await gateway.origin.write(
            key,
            body,
            sums,
            content_type=BLOB_CONTENT_TYPE,
            author=author,
            inline_bytes_max=limits.inline_bytes_max,
        )


async def _after(head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What was held, and then the rest in chunks."""
    yield b"".join(head)
    head.clear()
    async for chunk in gathered(rest):
        yield chunk


def _check_announced(request: web.Request, sha256: Sha256) -> None:
    """Compare a digest that the writer sent; raises Problem 422 before a byte is read."""
    announced = announced_sha256(request.headers.get("Repr-Digest"), request.headers.get("Digest"))
    if announced is not None and announced != sha256:
        raise Problem(
            422,
            "checksum_mismatch",
            "the announced digest is not the address of the blob",
            hint="PUT a blob under the sha256 of its bytes",
        )
