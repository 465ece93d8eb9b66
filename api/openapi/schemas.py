"""The documents that the API takes and gives."""

from __future__ import annotations

from tidestore.api.openapi.feed import feed_schemas
from tidestore.api.openapi.operating import operating_schemas
from tidestore.api.openapi.parties import party_schemas
from tidestore.api.openapi.parts import (
    DATASET,
    POSITION,
    SHA256,
    TEXT,
    UUID,
    VERSION,
    WHOLE,
    Json,
    record,
    ref,
)
from tidestore.api.openapi.redacting import redacting_schemas
from tidestore.api.openapi.replicas import replica_schemas
from tidestore.api.openapi.scrubbing import scrubbing_schemas
from tidestore.schemas.events import CopyState, TaskState
from tidestore.schemas.manifests import (
    CONTENT_TYPE_CHARS_MAX,
    DESCRIPTION_CHARS_MAX,
    ENTRIES_MAX,
    NAME_BYTES_MAX,
)
from tidestore.schemas.objects import Kind

_NAME: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": NAME_BYTES_MAX,
    "description": "A plain relative path: no `..`, no control characters, no backslash.",
}
_CONTENT_TYPE: Json = {
    "type": "string",
    "minLength": 3,
    "maxLength": CONTENT_TYPE_CHARS_MAX,
    "default": "application/octet-stream",
}
_SUMS: Json = {
    "sha256": SHA256,
    "sha1": {"type": "string", "pattern": "^[0-9a-f]{40}$"},
    "crc32c": {"type": "string", "pattern": "^[0-9a-f]{8}$"},
    "md5": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}
_REPLICAS: Json = {"type": "array", "items": TEXT}
# Only where the request asked to wait.
_WAITED: Json = {
    "present_on": _REPLICAS,
    "excluded_on": _REPLICAS,
    "waiting_for": {"type": ["integer", "string"]},
}
_IDENTITY: Json = {
    "kind": {"enum": [kind.value for kind in Kind]},
    "dataset": DATASET,
    "key": TEXT,
    "position": POSITION,
}
_VERSIONED: Json = {**_IDENTITY, "uuid": UUID, "version": VERSION}
_MOMENT: Json = {"type": "integer", "minimum": 0, "description": "Milliseconds since 1970, UTC."}


def schemas() -> Json:
    """All of them by name."""
    return {
        "Problem": _problem(),
        **_asked(),
        **_written(),
        **_read(),
        **_hooks(),
        **operating_schemas(_MOMENT),
        **redacting_schemas(_MOMENT),
        **scrubbing_schemas(_MOMENT),
        **replica_schemas(_MOMENT),
        **feed_schemas(_MOMENT),
        **party_schemas(_MOMENT),
        **_registry(),
    }


def _problem() -> Json:
    return {
        "type": "object",
        "description": "RFC 9457. `code` is for machines, `hint` for people; more members by code.",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": TEXT,
            "title": TEXT,
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"type": "string", "pattern": "^[a-z_]+$"},
            "detail": TEXT,
            "hint": TEXT,
            "field": TEXT,
            "request_id": TEXT,
            "missing": {"type": "array", "items": TEXT, "maxItems": 20},
        },
    }


def _asked() -> Json:
    entry = record({"uuid": UUID, "version": VERSION}, {"name": _NAME})
    link = {
        "oneOf": [
            record({"kind": {"const": "blob"}, "sha256": SHA256}),
            record(
                {
                    "kind": {"enum": ["file", "bundle", "collection"]},
                    "uuid": UUID,
                    "version": VERSION,
                }
            ),
        ]
    }
    return {
        "FileByBlob": record({"blob": SHA256, "name": _NAME}, {"content_type": _CONTENT_TYPE}),
        "FileBySource": record(
            {
                "source_url": {
                    "type": "string",
                    "maxLength": 2048,
                    "description": "An object below a registered staging store.",
                },
                "name": _NAME,
            },
            {"content_type": _CONTENT_TYPE, "sha256": SHA256},
        ),
        "Bundle": record({"files": {"type": "array", "items": entry, "maxItems": ENTRIES_MAX}}),
        "Collection": record(
            {"contents": {"type": "array", "items": link, "maxItems": ENTRIES_MAX}},
            {
                "name": {"type": "string", "maxLength": 1024},
                "description": {"type": "string", "maxLength": DESCRIPTION_CHARS_MAX},
                "details": {"type": "object"},
            },
        ),
    }


def _written() -> Json:
    file = {**_VERSIONED, "name": _NAME, "content_type": TEXT, "size": WHOLE, "sha256": SHA256}
    task = record(
        {
            "task_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "state": {"enum": [state.value for state in TaskState]},
            "bytes_done": WHOLE,
            "bytes_total": {"type": ["integer", "null"], "minimum": 0},
            "created_at_ms": _MOMENT,
            "changed_at_ms": _MOMENT,
            "request": record(
                {"dataset": DATASET, "uuid": UUID, "version": VERSION, "source_url": TEXT}
            ),
        },
        {"cause": TEXT, "result": ref("WrittenFile")},
        "A long write. `cause` says why one failed; `result` is what was written.",
    )
    return {
        "WrittenBlob": record({**_IDENTITY, "size": WHOLE, **_SUMS}, _WAITED),
        "WrittenFile": record(file, _WAITED),
        "WrittenBundle": record({**_VERSIONED, "files": WHOLE, "bytes": WHOLE}, _WAITED),
        "WrittenCollection": record({**_VERSIONED, "contents": WHOLE}, _WAITED),
        "Task": task,
    }


def _copy() -> Json:
    return record(
        {
            "replica": TEXT,
            "state": {"enum": [state.value for state in CopyState]},
            "is_origin": {"type": "boolean"},
            "url": {"type": "string", "description": "In the cloud's own words: s3://, gs://."},
            "sha256": SHA256,
            "size": WHOLE,
            "written_at_ms": _MOMENT,
            "changed_at_ms": _MOMENT,
            "attempts": WHOLE,
        },
        {
            "store_checksums": TEXT,
            "next_try_at_ms": _MOMENT,
            "error_class": TEXT,
            "error": TEXT,
            "waits_for": TEXT,
            "waits_count": WHOLE,
            "is_incomplete": {"type": "boolean"},
            "bytes_done": WHOLE,
        },
    )


def _read() -> Json:
    item = {
        "key": TEXT,
        "size": WHOLE,
        "sha256": SHA256,
        "written_at_ms": _MOMENT,
        "position": POSITION,
    }
    listed = record(
        {**item, "present_on": _REPLICAS},
        {"uuid": UUID, "version": VERSION, "name": TEXT, "content_type": TEXT},
    )
    return {
        "Listing": record(
            {
                "kind": _IDENTITY["kind"],
                "dataset": DATASET,
                "items": {"type": "array", "items": listed},
            },
            {"next": {"type": "string", "description": "The cursor of the next page, if any."}},
        ),
        "Versions": record(
            {
                "kind": _IDENTITY["kind"],
                "dataset": DATASET,
                "uuid": UUID,
                "versions": {"type": "array", "items": record({"version": VERSION, **item})},
            },
            None,
            "Newest first.",
        ),
        "Copies": record(
            {
                **_IDENTITY,
                "size": WHOLE,
                "sha256": SHA256,
                "copies": {"type": "array", "items": _copy()},
            },
            {"is_incomplete": {"type": "boolean"}, "gone": {"type": "array", "items": TEXT}},
            "`gone` is what a manifest names and was redacted.",
        ),
    }


def _hooks() -> Json:
    return {
        "NewHook": {
            "type": "object",
            "required": ["config"],
            "properties": {
                "name": {"const": "web"},
                "active": {"type": "boolean"},
                "events": {"type": "array", "items": TEXT, "minItems": 1},
                "start": {"enum": ["now", "earliest"]},
                "config": {
                    "type": "object",
                    "required": ["url"],
                    "properties": {
                        "url": {"type": "string", "maxLength": 2048},
                        "content_type": {"const": "json"},
                        "secret": {"type": "string", "minLength": 16, "maxLength": 256},
                        "insecure_ssl": {"const": "0"},
                    },
                },
            },
        },
        "Hook": {
            "type": "object",
            "description": "In the shape of GitHub's. The secret is shown once, if we made it.",
            "required": ["id", "name", "active", "events", "config", "dataset", "url"],
            "properties": {
                "id": {"type": "integer"},
                "name": {"const": "web"},
                "active": {"type": "boolean"},
                "events": {"type": "array", "items": TEXT},
                "config": {"type": "object", "required": ["url", "content_type", "secret"]},
                "dataset": DATASET,
                "start_cut": TEXT,
                "url": TEXT,
                "created_at": {"type": "string", "format": "date-time"},
                "updated_at": {"type": "string", "format": "date-time"},
            },
        },
    }


def _registry() -> Json:
    number: Json = {"type": "integer", "minimum": 1}
    return {
        "RegistryError": record({"error_code": {"type": "integer"}, "message": TEXT}),
        "RegistrySchema": record({"schema": TEXT, "schemaType": {"const": "AVRO"}}),
        "RegistryVersion": record(
            {
                "subject": TEXT,
                "id": number,
                "version": number,
                "schemaType": {"const": "AVRO"},
                "schema": TEXT,
            }
        ),
    }
