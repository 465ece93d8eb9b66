"""The building blocks of the document: parameters, headers, answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tidestore.schemas.objects import NAME_CHARS_MAX

Json = dict[str, Any]

SHA256: Final[Json] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
UUID: Final[Json] = {
    "type": "string",
    "pattern": "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
}
VERSION: Final[Json] = {
    "type": "string",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}\\.[0-9]{6}Z$",
    "examples": ["2026-11-23T120000.000000Z"],
}
DATASET: Final[Json] = {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
    "maxLength": NAME_CHARS_MAX,
    "default": "public",
}
POSITION: Final[Json] = {
    "type": "string",
    "pattern": "^[0-9]{1,9}\\.[0-9]{1,9}\\.[0-9]{1,18}$",
}
WHOLE: Final[Json] = {"type": "integer", "minimum": 0}
TEXT: Final[Json] = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a gateway's settings bound."""

    replicas: tuple[str, ...]
    page_items_max: int
    wait_seconds_max: float


def ref(name: str) -> Json:
    """A schema by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: Json, optional: Json | None = None, description: str = "") -> Json:
    """An object with exactly these members."""
    schema: Json = {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }
    if description:
        schema["description"] = description
    return schema


def query(name: str, schema: Json, description: str, *, required: bool = False) -> Json:
    """A query parameter."""
    return _parameter(name, "query", schema, description, required=required)


def header(name: str, description: str, schema: Json | None = None) -> Json:
    """A request header."""
    return _parameter(name, "header", schema or TEXT, description, required=False)


def path(name: str, schema: Json, description: str) -> Json:
    """A part of the path."""
    return _parameter(name, "path", schema, description, required=True)


def _parameter(name: str, place: str, schema: Json, description: str, *, required: bool) -> Json:
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": schema,
    }


DATASET_PARAMETER: Final = query("dataset", DATASET, "The dataset; `public` by default.")
VERSION_PARAMETER: Final = query("version", VERSION, "One version; the latest by default.")
NEW_VERSION_PARAMETER: Final = query(
    "version",
    VERSION,
    "Chosen by the writer, in UTC, at most a day ahead. The same version again is the same write.",
    required=True,
)
AT_PARAMETER: Final = query(
    "at",
    POSITION,
    "Answer only when this gateway knows that position: read what was written through another.",
)


def answer_headers(*names: str) -> Json:
    """Headers of an answer by name."""
    return {name: {"description": _HEADERS[name], "schema": TEXT} for name in names}


_HEADERS: Final = {
    "Tidestore-Position": "The event's place in the log: `generation.partition.offset`.",
    "Tidestore-Key": "The object's key, the same on every replica.",
    "Tidestore-Version": "The version that was read.",
    "Tidestore-Is-Incomplete": "On a manifest: `true` when something that it names was redacted, "
    "`unknown` while that is being read.",
    "Tidestore-Replica": "The replica that the bytes come from.",
    "ETag": "The sha256 of the content, quoted; strong, and the same on every replica.",
    "Repr-Digest": "The sha-256 of the content (RFC 9530).",
    "Accept-Ranges": "`bytes`.",
    "Content-Range": "The part that is sent, and the size of the whole.",
    "Content-Disposition": "`attachment`, with the file's own name.",
    "Cache-Control": "For ever for one version of a public object; no-cache for latest.",
    "Link": 'The next page: `rel="next"`.',
    "Location": "Where to go on.",
    "Preference-Applied": "`wait`, when the request asked to wait.",
    "Retry-After": "Seconds after which to come back.",
    "WWW-Authenticate": "`Bearer`.",
}


def answer(description: str, schema: Json | None, *headers: str) -> Json:
    """An answer in JSON, or without a body."""
    found: Json = {"description": description}
    if headers:
        found["headers"] = answer_headers(*headers)
    if schema is not None:
        found["content"] = {"application/json": {"schema": schema}}
    return found


def _problem(description: str, *headers: str) -> Json:
    found: Json = {
        "description": description,
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }
    if headers:
        found["headers"] = answer_headers(*headers)
    return found


PROBLEMS: Final[dict[int, Json]] = {
    400: _problem("`malformed`: a value has not the agreed form; `field` says which. `bad_http`."),
    401: _problem("`unauthorized`: no token, or one that is not known.", "WWW-Authenticate"),
    403: _problem("`not_allowed`, or `staging_not_registered`."),
    404: _problem(
        "`not_found`, `unknown_dataset`, or `not_yet_here`: it exists, and is on its way to the "
        "replica that was asked for; never an older version instead.",
        "Retry-After",
    ),
    408: _problem("`stalled`: no byte of the body came for a minute."),
    409: _problem(
        "`conflict`: the key holds other content; nothing was changed. `preview_changed`: the "
        "token is not of what would be done now. `not_redacted`, `grace_over`: nothing to lift."
    ),
    410: _problem(
        "`redacted`: gone for ever, with the reason; for /copies with `receipts` of the replicas. "
        "`cursor_gone`: nothing can be read on from this cursor. "
        "`position_lost`: `at` or `cursor` is of a log that is gone, or of no record of it."
    ),
    412: _problem("`precondition_failed`: If-Match names another content."),
    413: _problem("`too_large`, `too_many` or `record_too_large`: nothing was stored."),
    415: _problem("`content_encoding`: send the bytes as they are to be stored."),
    416: _problem("`range_not_satisfiable`.", "Content-Range"),
    422: _problem(
        "`checksum_mismatch`, `reference_missing`, `reference_redacted` or `source_missing`: "
        "nothing was stored."
    ),
    431: _problem("`head_too_large`: a header line, or their number; the connection is closed."),
    429: _problem("Too many of them at once.", "Retry-After"),
    500: _problem("`internal`: a defect of ours."),
    502: _problem("`store_failed` or `copy_damaged`: a store did not do what was asked."),
    503: _problem("Not available now; the same request may be sent again.", "Retry-After"),
    507: _problem("`store_full`."),
}


# Broken HTTP, a head that is too large, a defect of ours.
_ALWAYS: Final = (400, 431, 500)


def problems(*statuses: int) -> Json:
    """Problem answers by status; those of `_ALWAYS` are possible everywhere."""
    return {str(status): PROBLEMS[status] for status in sorted({*statuses, *_ALWAYS})}


TOKEN_NEEDED: Final[list[Json]] = [{"token": []}]
# A token is not needed for public data; one that is sent must be right.
TOKEN_OPTIONAL: Final[list[Json]] = [{}, {"token": []}]
