"""The paths of those who run the store: what is parked, its retry, an object's whole story."""

from __future__ import annotations

from tidestore.api.listing import CURSOR_CHARS_MAX, PAGE_ITEMS
from tidestore.api.openapi.parts import (
    POSITION,
    SHA256,
    TEXT,
    TOKEN_NEEDED,
    WHOLE,
    Bounds,
    Json,
    answer,
    problems,
    query,
    record,
    ref,
)
from tidestore.api.parked import (
    AGE_SECONDS_MAX,
    ASKED_MAX,
    ERROR_CLASS,
    KEY_CHARS_MAX,
    REASON_CHARS_MAX,
)
from tidestore.schemas.events import CopyState

_ERROR_CLASS: Json = {"type": "string", "pattern": f"^{ERROR_CLASS.pattern}$"}
_SECONDS: Json = {"type": "integer", "minimum": 0, "maximum": AGE_SECONDS_MAX}
_CURSOR: Json = {"type": "string", "maxLength": CURSOR_CHARS_MAX}
_KEY: Json = {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX}


def operating_paths(bounds: Bounds) -> Json:
    """The operations by path and method."""
    replica = {"enum": list(bounds.replicas)}
    limit = {"type": "integer", "minimum": 1, "maximum": bounds.page_items_max}
    listing = {
        "tags": ["operate"],
        "operationId": "listParked",
        "summary": "Copies that wait for a person, by replica, error class and age.",
        "description": "In order of replica and key. A page may be empty before the last one: "
        "`next` says whether there is more to look at.",
        "security": TOKEN_NEEDED,
        "parameters": [
            query("replica", replica, "Only this replica's."),
            query("error_class", _ERROR_CLASS, "Only those parked for this class of error."),
            query("older_than_seconds", _SECONDS, "Only those parked at least so long ago."),
            query("limit", {**limit, "default": PAGE_ITEMS}, "Copies of one page."),
            query("cursor", _CURSOR, "The `next` of the page before, unchanged."),
        ],
        "responses": {
            "200": answer("One page.", ref("ParkedCopies")),
            **problems(400, 401, 403),
        },
    }
    asking = {
        "tags": ["operate"],
        "operationId": "askRetries",
        "summary": "Ask that parked copies be tried again, from the first attempt on.",
        "description": f"At most {ASKED_MAX} a call; `more` says whether there may be others, "
        "which a call with `next` as its `cursor` goes on with. Without members all are meant. "
        "What is parked because of another object follows that one by itself. Asking twice does "
        "it once.",
        "security": TOKEN_NEEDED,
        "parameters": [],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref("RetryRequest")}},
        },
        "responses": {
            "202": answer("Asked; the workers carry it out.", ref("RetriesAsked")),
            **problems(400, 401, 403, 408, 413, 415, 422, 503),
        },
    }
    story = {
        "tags": ["operate"],
        "operationId": "explainKey",
        "summary": "An object's whole story: its event, every copy, what each waits for, and why.",
        "security": TOKEN_NEEDED,
        "parameters": [query("key", _KEY, "The object's key.", required=True)],
        "responses": {
            "200": answer("The story.", ref("Explanation")),
            **problems(400, 401, 403, 404, 503),
        },
    }
    return {
        "/v1/parked": {"get": listing},
        "/v1/parked/retries": {"post": asking},
        "/v1/explanations": {"get": story},
    }


def operating_schemas(moment: Json) -> Json:
    """The documents that these paths take and give. `moment` is the schema of a moment."""
    trouble: Json = {"error_class": TEXT, "error": TEXT, "waits_for": TEXT}
    parked = record(
        {
            "key": TEXT,
            "replica": TEXT,
            "incarnation": WHOLE,
            "attempts": WHOLE,
            "parked_at_ms": moment,
        },
        trouble,
    )
    return {
        "ParkedCopies": record(
            {"items": {"type": "array", "items": parked}},
            {"next": {"type": "string", "description": "The cursor of the next page, if any."}},
        ),
        "RetryRequest": record(
            {},
            {
                "replica": TEXT,
                "error_class": _ERROR_CLASS,
                "older_than_seconds": _SECONDS,
                "keys": {"type": "array", "items": _KEY, "minItems": 1, "maxItems": ASKED_MAX},
                "reason": {"type": "string", "maxLength": REASON_CHARS_MAX},
                "cursor": _CURSOR,
            },
            "Which parked copies are meant. `keys` does not go with `cursor`.",
        ),
        "RetriesAsked": record(
            {"asked": WHOLE, "more": {"type": "boolean"}},
            {"next": TEXT, "not_parked": {"type": "array", "items": TEXT}},
            "`not_parked` are keys that were named and have no parked copy that fits.",
        ),
        "Explanation": _explanation(moment, trouble),
    }


def _explanation(moment: Json, trouble: Json) -> Json:
    needed: Json = {
        "key": TEXT,
        "state": {"enum": [*(state.value for state in CopyState), "unknown"]},
        "is_origin": {"type": "boolean"},
        "attempts": WHOLE,
    }
    more: Json = {
        **trouble,
        "changed_at_ms": moment,
        "next_try_at_ms": moment,
        "waits_count": WHOLE,
        "is_incomplete": {"type": "boolean"},
        "store_checksums": TEXT,
        "bytes_done": WHOLE,
    }
    steps = {"type": "array", "items": record(needed, more)}
    event = record(
        {
            "position": POSITION,
            "written_at_ms": moment,
            "written_by": TEXT,
            "request_id": TEXT,
            "origin": TEXT,
            "size": WHOLE,
            "sha256": SHA256,
            "content_type": TEXT,
        }
    )
    redaction = record({"reason": TEXT, "released_to": {"type": ["string", "null"]}})
    copy = record({"replica": TEXT, **needed, "because": steps}, more)
    return record(
        {
            "key": TEXT,
            "event": {"oneOf": [event, {"type": "null"}]},
            "redaction": {"oneOf": [redaction, {"type": "null"}]},
            "readable_on": {"type": "array", "items": TEXT},
            "copies": {"type": "array", "items": copy},
        },
        None,
        "`because` leads from a copy to the root cause of its waiting.",
    )
