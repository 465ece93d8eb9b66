"""The paths of producers: PUT of the four kinds."""

from __future__ import annotations

from tidestore.api.openapi.parts import (
    DATASET_PARAMETER,
    NEW_VERSION_PARAMETER,
    SHA256,
    TOKEN_NEEDED,
    UUID,
    Bounds,
    Json,
    answer,
    header,
    path,
    problems,
    query,
    ref,
)
from tidestore.schemas.objects import Kind

_REFUSALS = (400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 502, 503, 507)


def writing_paths(bounds: Bounds) -> Json:
    """The operations by path and method."""
    found: Json = {"/v1/blobs/{sha256}": {"put": _put_blob(bounds)}}
    bodies = {
        Kind.FILE: {"oneOf": [ref("FileByBlob"), ref("FileBySource")]},
        Kind.BUNDLE: ref("Bundle"),
        Kind.COLLECTION: ref("Collection"),
    }
    for kind, body in bodies.items():
        found[f"/v1/{kind.plural}/{{uuid}}"] = {"put": _put_versioned(bounds, kind, body)}
    return found


def _put_blob(bounds: Bounds) -> Json:
    return {
        "tags": ["write"],
        "operationId": "putBlob",
        "summary": "Store bytes under their own sha256.",
        "description": "Any size, streamed; Content-Length or chunked. The bytes are hashed while "
        "they come, and nothing becomes visible before they are proved.",
        "security": TOKEN_NEEDED,
        "parameters": [
            path("sha256", SHA256, "The sha256 of the body, in lower-case hex."),
            DATASET_PARAMETER,
            *_wait_parameters(bounds),
            header("Repr-Digest", "`sha-256=:<base64>:`; compared with the address."),
            header("Digest", "The older form: `SHA-256=<base64>`."),
        ],
        "requestBody": {
            "required": False,
            "description": "The bytes as they are to be stored. No body is the empty blob.",
            "content": {"application/octet-stream": {"schema": {}}},
        },
        "responses": _written("WrittenBlob", problems(*_REFUSALS)),
    }


def _put_versioned(bounds: Bounds, kind: Kind, body: Json) -> Json:
    word = kind.value
    refusals = (*_REFUSALS, 429) if kind is Kind.FILE else _REFUSALS
    responses = _written(f"Written{word.capitalize()}", problems(*refusals))
    description = "Everything that it names must be there already, in the same dataset."
    if kind is Kind.FILE:
        description += (
            " With `source_url` the bytes are taken from a staging store; what takes longer is "
            "answered with 202 and a task. `Prefer: respond-async` asks for that in any case."
        )
        responses["202"] = answer(
            "A task that goes on (see Location), or written while a wait was not fulfilled.",
            {"oneOf": [ref("Task"), ref("WrittenFile")]},
            "Location",
            "Retry-After",
            "Tidestore-Position",
        )
    return {
        "tags": ["write"],
        "operationId": f"put{word.capitalize()}",
        "summary": f"Store one version of a {word}.",
        "description": description,
        "security": TOKEN_NEEDED,
        "parameters": [
            path("uuid", UUID, f"The {word}'s uuid."),
            NEW_VERSION_PARAMETER,
            DATASET_PARAMETER,
            *_wait_parameters(bounds),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": responses,
    }


def _wait_parameters(bounds: Bounds) -> list[Json]:
    count = len(bounds.replicas)
    seconds = f"{bounds.wait_seconds_max:g}"
    return [
        query(
            "replicas",
            {"type": "integer", "minimum": 1, "maximum": count},
            "Answer only when so many replicas have it.",
        ),
        query(
            "replica",
            {"enum": list(bounds.replicas)},
            "Answer only when this replica has it. It is never where the write goes.",
        ),
        header("Prefer", f"`wait=<seconds>`, at most {seconds}: the same, for all by default."),
    ]


def _written(schema: str, refusals: Json) -> Json:
    headers = ("Tidestore-Position",)
    return {
        "200": answer("The same was there already; nothing changed.", ref(schema), *headers),
        "201": answer("Stored, proved, and in the log.", ref(schema), *headers),
        "202": answer(
            "Stored and in the log, but not on so many replicas in the time of the wait.",
            ref(schema),
            *headers,
            "Preference-Applied",
        ),
        **refusals,
    }
