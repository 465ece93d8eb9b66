"""GET and HEAD of objects: a redirect to the best replica, or the bytes through us."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from tidestore.api.context import POSITION_HEADER, gateway_of, single_parameter
from tidestore.api.problems import Problem
from tidestore.api.redactions import gone_from, with_receipts
from tidestore.api.references import incompleteness
from tidestore.api.targets import (
    Target,
    choose_replicas,
    copy_document,
    find_row,
    find_stored,
    find_target,
)
from tidestore.connectors.errors import StoreError
from tidestore.connectors.store import ByteStream
from tidestore.connectors.verify import CheckedSource
from tidestore.schemas.checksums import repr_digest
from tidestore.schemas.objects import PUBLIC, Kind, MalformedError

LOGGER: Final = logging.getLogger("tidestore.api")

# On a manifest: `true` when something that it names is redacted, `unknown` while that is read.
INCOMPLETE_HEADER: Final = "Tidestore-Is-Incomplete"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
# Immutable means for ever; a year is the longest that caches take seriously.
_FOR_EVER: Final = "public, max-age=31536000, immutable"


def read_object(kind: Kind) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler for GET and HEAD of one kind."""

    async def handler(request: web.Request) -> web.StreamResponse:
        delivery = _delivery_of(request)
        return await _answer(request, await find_target(request, kind), delivery)

    return handler


async def read_stored(request: web.Request) -> web.StreamResponse:
    """GET and HEAD of an object by its key, as it is stored: what a replica is made of."""
    delivery = _delivery_of(request)
    return await _answer(request, await find_stored(request), delivery)


def _delivery_of(request: web.Request) -> str:
    delivery = single_parameter(request, "delivery") or "redirect"
    if delivery not in ("redirect", "stream"):
        raise MalformedError("delivery", "is not known", hint="redirect or stream")
    return delivery


async def _answer(request: web.Request, target: Target, delivery: str) -> web.StreamResponse:
    replicas = choose_replicas(request, target)
    headers = _headers(request, target, replicas[0])
    await _say_incomplete(request, target, headers)
    unchanged = _check_conditions(request, target, headers)
    if unchanged is not None:
        return unchanged
    if request.method == "HEAD":
        return _head(target, headers)
    if delivery == "redirect":
        found = await _redirect(request, target, replicas, headers)
        if found is not None:
            return found
    return await _stream(request, target, replicas, headers)


async def _say_incomplete(request: web.Request, target: Target, headers: dict[str, str]) -> None:
    """A manifest's bytes are what they were; whether all that it names is still there is said."""
    gone = await gone_from(request, target.kind, target.row.key)
    if said := incompleteness(gone):
        headers[INCOMPLETE_HEADER] = said
        headers["Cache-Control"] = "no-cache"


def list_versions(kind: Kind) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler for GET of all versions of a uuid, newest first."""

    async def handler(request: web.Request) -> web.StreamResponse:
        row, dataset, _ = await find_row(request, kind)
        gateway = gateway_of(request)
        uuid = row.key.rsplit("/", 1)[-1].split(".", 1)[0]
        rows = gateway.index.versions(dataset, kind, uuid)  # type: ignore[arg-type]
        gone = set(gateway.index.redacted_among([item.key for item in rows]))
        items = [
            {
                "version": item.key.rsplit("/", 1)[-1].split(".", 1)[1],
                "key": item.key,
                "size": item.size,
                "sha256": item.sha256,
                "written_at_ms": item.written_at_ms,
                "position": str(gateway.index.position_of(item)),
            }
            for item in reversed(rows)
            if item.key not in gone
        ]
        document = {"kind": kind.value, "dataset": dataset, "uuid": uuid, "versions": items}
        return web.json_response(document)

    return handler


def list_copies(kind: Kind) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler for GET of an object's copies: every replica and its state."""

    async def handler(request: web.Request) -> web.StreamResponse:
        gateway = gateway_of(request)
        try:
            row, dataset, _ = await find_row(request, kind)
        except Problem as problem:
            raise with_receipts(problem, gateway) from None
        copies = gateway.index.copies(row.key)
        gone = await gone_from(request, kind, row.key)
        document: dict[str, Any] = {
            "kind": kind.value,
            "dataset": dataset,
            "key": row.key,
            "size": row.size,
            "sha256": row.sha256,
            "position": str(gateway.index.position_of(row)),
            "copies": [
                copy_document(gateway, row, name, copies.get(name))
                for name in gateway.replica_names
            ],
        }
        if incompleteness(gone) == "true":
            document.update(is_incomplete=True, gone=gone)
        return web.json_response(document, headers={"Cache-Control": "no-store"})

    return handler


def _headers(request: web.Request, target: Target, replica: str) -> dict[str, str]:
    gateway = gateway_of(request)
    headers = {
        "ETag": target.etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": repr_digest(target.sha256),
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": target.disposition,
        "Tidestore-Key": target.row.key,
        "Tidestore-Replica": replica,
        POSITION_HEADER: str(gateway.index.position_of(target.row)),
        "Cache-Control": "no-cache",
    }
    if target.is_pinned:
        headers["Cache-Control"] = _FOR_EVER if target.dataset == PUBLIC else "private, no-store"
    if target.kind is not Kind.BLOB:
        headers["Tidestore-Version"] = target.row.key.rsplit("/", 1)[-1].split(".", 1)[1]
    return headers


def _check_conditions(
    request: web.Request, target: Target, headers: dict[str, str]
) -> web.Response | None:
    """If-Match and If-None-Match (RFC 9110 section 13); 304 when the client has it already."""
    match = request.headers.get("If-Match")
    if match is not None and not _names(match, target.etag, is_weak=False):
        raise Problem(412, "precondition_failed", "If-Match names another content")
    none_match = request.headers.get("If-None-Match")
    if none_match is not None and _names(none_match, target.etag, is_weak=True):
        kept = ("ETag", "Cache-Control", "Repr-Digest", POSITION_HEADER)
        return web.Response(status=304, headers={name: headers[name] for name in kept})
    return None


def _names(header: str, etag: str, *, is_weak: bool) -> bool:
    for item in header.split(","):
        text = item.strip()
        if is_weak:
            text = text.removeprefix("W/")
        if text in ("*", etag):
            return True
    return False


def _head(target: Target, headers: dict[str, str]) -> web.Response:
    headers = {**headers, "Content-Length": str(target.size), "Content-Type": target.content_type}
    return web.Response(status=200, headers=headers)


async def _redirect(
    request: web.Request, target: Target, replicas: list[str], headers: dict[str, str]
) -> web.Response | None:
    """A signed link to the first replica that can make one; None when none can."""
    gateway = gateway_of(request)
    for name in replicas:
        store = gateway.stores[name]
        if not (store.capabilities.presign and store.capabilities.presign_overrides):
            continue
        link = await store.presign(
            target.bytes_key,
            expires_seconds=gateway.settings.limits.link_seconds,
            content_type=target.content_type,
            disposition=target.disposition,
        )
        kept = (
            *("ETag", "Repr-Digest", "Tidestore-Key", "Tidestore-Version"),
            *(POSITION_HEADER, INCOMPLETE_HEADER),
        )
        found = {key: value for key, value in headers.items() if key in kept}
        return web.Response(
            status=307,
            headers={
                **found,
                "Location": link,
                "Tidestore-Replica": name,
                "Cache-Control": "private, no-store",
                "Referrer-Policy": "no-referrer",
            },
        )
    return None


async def _stream(
    request: web.Request, target: Target, replicas: list[str], headers: dict[str, str]
) -> web.StreamResponse:
    """The bytes through us, from the first replica that gives them."""
    span = _range_of(request, target)
    start, length = span if span is not None else (0, target.size)
    stream, name = await _open(request, target, replicas, start, length)
    headers = {
        **headers,
        "Tidestore-Replica": name,
        "Content-Type": target.content_type,
        "Content-Length": str(length),
    }
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{target.size}"
    response = web.StreamResponse(status=200 if span is None else 206, headers=headers)
    try:
        await response.prepare(request)
        # A whole object is hashed on its way: wrong bytes end in a broken connection, which every
        # client notices, not in a file that looks complete.
        whole = CheckedSource(stream.chunks, sha256=target.sha256, size=target.size)
        async for chunk in stream.chunks if span is not None else _last_after_end(whole):
            await response.write(chunk)
        await response.write_eof()
    except StoreError as error:
        LOGGER.error("%s from %s broke off: %s", target.bytes_key, name, error)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from error
    finally:
        await stream.close()
    return response


async def _last_after_end(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Hold each chunk back until the next one, and the last until the source has proved all.

    With the last chunk sent, the client would have all bytes that Content-Length promised, and no
    broken connection could tell it any more that they are wrong.
    """
    held = b""
    async for chunk in chunks:
        if held:
            yield held
        held = chunk
    if held:
        yield held


async def _open(
    request: web.Request, target: Target, replicas: list[str], start: int, length: int
) -> tuple[ByteStream, str]:
    gateway = gateway_of(request)
    last: StoreError | None = None
    for name in replicas:
        try:
            stream = await gateway.stores[name].get(target.bytes_key, start=start, length=length)
        except StoreError as error:
            LOGGER.warning("reading from %s: %s", name, error)
            last = error
            continue
        if stream.info.size == target.size:
            return stream, name
        await stream.close()
        LOGGER.error("%s on %s has another size", target.bytes_key, name)
    if last is not None:
        raise last
    raise Problem(502, "copy_damaged", "no replica gives the right bytes just now")


def _range_of(request: web.Request, target: Target) -> tuple[int, int] | None:
    """A single byte range as (start, length); None for the whole. Raises Problem 416.

    Several ranges, another unit, or an If-Range of another content mean the whole (RFC 9110, 14.2).
    """
    header = request.headers.get("Range")
    if header is None or request.headers.get("If-Range", target.etag) != target.etag:
        return None
    match = _RANGE.fullmatch(header.strip())
    if match is None or (not match[1] and not match[2]):
        return None
    if match[1]:
        start = int(match[1])
        last = min(int(match[2]), target.size - 1) if match[2] else target.size - 1
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, last = max(0, target.size - int(match[2])), target.size - 1
    if start >= target.size or last < start:
        raise Problem(
            416,
            "range_not_satisfiable",
            f"the object has {target.size} bytes",
            headers={"Content-Range": f"bytes */{target.size}"},
        )
    return start, last - start + 1
