"""The paths of those who keep a replica of their own: the feed by pages, objects by their key."""

from __future__ import annotations

from tidestore.api.changes import CHANGES, CHANGES_MAX, WAIT_SECONDS_MAX
from tidestore.api.feed_cursor import CURSOR_CHARS_MAX
from tidestore.api.openapi.parts import (
    AT_PARAMETER,
    DATASET_PARAMETER,
    TEXT,
    TOKEN_OPTIONAL,
    WHOLE,
    Bounds,
    Json,
    answer,
    problems,
    query,
    record,
    ref,
)
from tidestore.api.openapi.reading import object_answers, object_parameters

KEY_CHARS_MAX = 200


def feed_paths(bounds: Bounds) -> Json:
    """The operations by path and method."""
    cursor = {"type": "string", "maxLength": CURSOR_CHARS_MAX}
    limit = {"type": "integer", "minimum": 1, "maximum": CHANGES_MAX, "default": CHANGES}
    wait = {"type": "integer", "minimum": 0, "maximum": WAIT_SECONDS_MAX, "default": 0}
    feed = {
        "tags": ["read"],
        "operationId": "listChanges",
        "summary": "What happened to the objects of a dataset, in order of each key.",
        "description": "At least once. `next` is the cursor of what comes after, also when nothing "
        "came; keep it once you have done what the page says. 410 `cursor_gone`: it is of another "
        "log or of an earlier generation of it; begin again without one.",
        "security": TOKEN_OPTIONAL,
        "parameters": [
            DATASET_PARAMETER,
            query("after", cursor, "The `next` of the page before, unchanged; `latest` for what "
                  "comes from now on. By default everything from the beginning."),
            query("limit", limit, "Records that are read for one page."),
            query("wait", wait, "When there is nothing: how many seconds to wait for something."),
        ],
        "responses": {
            "200": answer("One page.", ref("Changes")),
            **problems(400, 401, 403, 404, 410, 503),
        },
    }  # fmt: skip
    key = query(
        "key", {"type": "string", "maxLength": KEY_CHARS_MAX}, "The object's key.", required=True
    )
    stored = {
        "tags": ["read"],
        "operationId": "getStored",
        "summary": "Read an object by its key, as it is stored: of a file its manifest.",
        "description": "What a replica is made of. As for the other paths a redirect to a signed "
        "link, or the bytes.",
        "security": TOKEN_OPTIONAL,
        "parameters": [key, AT_PARAMETER, *object_parameters(bounds)],
        "responses": object_answers(
            ("Tidestore-Version", "Tidestore-Is-Incomplete"), {"*/*": {"schema": {}}}, "bytes"
        ),
    }
    return {"/v1/changes": {"get": feed}, "/v1/objects": {"get": stored}}


def feed_schemas(moment: Json) -> Json:
    """The documents that these paths give. `moment` is the schema of a moment."""
    change = {
        "type": "object",
        "description": "As a hook is told it.",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": TEXT,
            "timestamp": {"type": "string", "format": "date-time"},
            "data": {"type": "object", "required": ["id", "key", "sequence", "size", "sha256"]},
        },
    }
    decision = record(
        {
            "target": TEXT,
            "number": WHOLE,
            "is_lifted": {"type": "boolean"},
            "reason": TEXT,
            "at_ms": moment,
            "keys": {"type": "array", "items": TEXT},
        },
        None,
        "`target` is a key, or `<dataset>/<kind>s/<uuid>` for all its versions. What it covers has "
        "to go; when `is_lifted`, `keys` may be read again.",
    )
    return {
        "Changes": record(
            {
                "changes": {"type": "array", "items": change},
                "redactions": {"type": "array", "items": decision},
                "next": TEXT,
            },
            None,
            "Redactions first, then changes.",
        )
    }
