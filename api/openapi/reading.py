"""The paths of consumers: GET and HEAD of objects, their versions and copies; listings."""

from __future__ import annotations

from tidestore.api.listing import CURSOR_CHARS_MAX, PAGE_ITEMS
from tidestore.api.openapi.parts import (
    AT_PARAMETER,
    DATASET_PARAMETER,
    SHA256,
    TOKEN_OPTIONAL,
    UUID,
    VERSION_PARAMETER,
    Bounds,
    Json,
    answer,
    answer_headers,
    header,
    path,
    problems,
    query,
    ref,
)
from tidestore.schemas.objects import Kind

_OBJECT_HEADERS = (
    "ETag",
    "Repr-Digest",
    "Accept-Ranges",
    "Content-Disposition",
    "Cache-Control",
    "Tidestore-Key",
    "Tidestore-Replica",
    "Tidestore-Position",
)


def reading_paths(bounds: Bounds) -> Json:
    """The operations by path and method."""
    found: Json = {}
    for kind in Kind:
        base = f"/v1/{kind.plural}"
        one = base + ("/{sha256}" if kind is Kind.BLOB else "/{uuid}")
        found[base] = {"get": _listing(bounds, kind)}
        get = _read(bounds, kind)
        found[one] = {"get": get, "head": _head(get, kind)}
        found[f"{one}/copies"] = {"get": _copies(kind)}
        if kind is not Kind.BLOB:
            found[f"{one}/versions"] = {"get": _versions(kind)}
    return found


def _who(kind: Kind) -> list[Json]:
    if kind is Kind.BLOB:
        return [path("sha256", SHA256, "The blob's sha256."), DATASET_PARAMETER, AT_PARAMETER]
    name = path("uuid", UUID, f"The {kind.value}'s uuid.")
    return [name, VERSION_PARAMETER, DATASET_PARAMETER, AT_PARAMETER]


def _read(bounds: Bounds, kind: Kind) -> Json:
    is_bytes = kind in (Kind.BLOB, Kind.FILE)
    what = "bytes" if is_bytes else "manifest"
    headers = (*_OBJECT_HEADERS, *(() if kind is Kind.BLOB else ("Tidestore-Version",)))
    if kind in (Kind.BUNDLE, Kind.COLLECTION):
        headers = (*headers, "Tidestore-Is-Incomplete")
    # A file's bytes have the content type that its writer gave.
    media = {
        Kind.BLOB: "application/octet-stream",
        Kind.FILE: "*/*",
        Kind.BUNDLE: "application/json",
        Kind.COLLECTION: "application/json",
    }[kind]
    content = {media: {"schema": {} if is_bytes else {"type": "object"}}}
    return {
        "tags": ["read"],
        "operationId": f"get{kind.value.capitalize()}",
        "summary": f"Read the {what} of a {kind.value}.",
        "description": "By default a redirect to a signed link of the replica, which overrides "
        "content type and disposition with the object's own; where the replica cannot sign, and "
        "with `delivery=stream`, the bytes come through the gateway.",
        "security": TOKEN_OPTIONAL,
        "parameters": [
            *_who(kind),
            *object_parameters(bounds),
        ],
        "responses": object_answers(headers[len(_OBJECT_HEADERS) :], content, what),
    }


def object_parameters(bounds: Bounds) -> list[Json]:
    """What a read may ask for, whatever names the object."""
    return [
        query("replica", {"enum": list(bounds.replicas)}, "Only this replica."),
        query("delivery", {"enum": ["redirect", "stream"]}, "How the bytes are to come."),
        header("Range", "One range of bytes: `bytes=0-99` or `bytes=-100`."),
        header("If-Range", "An ETag; the whole is sent when it is another."),
        header("If-None-Match", "ETags; 304 when one of them is the content's."),
        header("If-Match", "ETags; 412 when none of them is the content's."),
    ]


def object_answers(more_headers: tuple[str, ...], content: Json, what: str) -> Json:
    """The answers to a read. `more_headers` are those beside the headers of every object."""
    names = (*_OBJECT_HEADERS, *more_headers)
    return {
        "200": {
            "description": f"The {what}.",
            "headers": answer_headers(*names),
            "content": content,
        },
        "206": {
            "description": "The part that was asked for.",
            "headers": answer_headers(*names, "Content-Range"),
            "content": content,
        },
        "304": answer("You have it already.", None, "ETag", "Repr-Digest", "Cache-Control"),
        "307": answer(
            "A signed link that anybody may follow for some minutes; Range and conditions "
            "are then the store's affair.",
            None,
            "Location",
            "ETag",
            "Repr-Digest",
            "Tidestore-Key",
            "Tidestore-Replica",
            "Tidestore-Position",
        ),
        **problems(400, 401, 403, 404, 410, 412, 416, 502, 503),
    }


def _head(get: Json, kind: Kind) -> Json:
    """HEAD is answered here, from the index: never a redirect, never a range."""
    kept = ("200", "304", "400", "401", "403", "404", "410", "412", "431", "500", "502", "503")
    responses = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in get["responses"].items()
        if status in kept
    }
    skipped = {"Range", "If-Range", "delivery"}
    return {
        **get,
        "operationId": f"head{kind.value.capitalize()}",
        "summary": f"Size, type, hash and place of a {kind.value}.",
        "description": "Answered by the gateway from its index; never a redirect.",
        "parameters": [item for item in get["parameters"] if item["name"] not in skipped],
        "responses": responses,
    }


def _copies(kind: Kind) -> Json:
    return {
        "tags": ["read"],
        "operationId": f"list{kind.value.capitalize()}Copies",
        "summary": f"Every replica's copy of a {kind.value}: state, native URL, attempts, errors.",
        "security": TOKEN_OPTIONAL,
        "parameters": _who(kind),
        "responses": {
            "200": answer("The copies.", ref("Copies")),
            **problems(400, 401, 403, 404, 410, 503),
        },
    }


def _versions(kind: Kind) -> Json:
    return {
        "tags": ["read"],
        "operationId": f"list{kind.value.capitalize()}Versions",
        "summary": f"All versions of a {kind.value}, newest first.",
        "security": TOKEN_OPTIONAL,
        "parameters": _who(kind),
        "responses": {
            "200": answer("The versions.", ref("Versions")),
            **problems(400, 401, 403, 404, 410, 503),
        },
    }


def _listing(bounds: Bounds, kind: Kind) -> Json:
    limit = {"type": "integer", "minimum": 1, "maximum": bounds.page_items_max}
    return {
        "tags": ["read"],
        "operationId": f"list{kind.plural.capitalize()}",
        "summary": f"All {kind.plural} of a dataset, page by page, in key order.",
        "description": "What existed when the first page was asked for is listed exactly once, "
        "whatever is written meanwhile, and whichever gateway gives the next page.",
        "security": TOKEN_OPTIONAL,
        "parameters": [
            DATASET_PARAMETER,
            query("limit", {**limit, "default": PAGE_ITEMS}, "Objects of one page."),
            query(
                "cursor",
                {"type": "string", "maxLength": CURSOR_CHARS_MAX},
                "The `next` of the page before, unchanged.",
            ),
            AT_PARAMETER,
        ],
        "responses": {
            "200": answer("One page.", ref("Listing"), "Link"),
            **problems(400, 401, 403, 404, 410, 503),
        },
    }
