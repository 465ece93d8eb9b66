"""The paths of replicas: which there are, how far they are, adding, pausing and retiring them."""

from __future__ import annotations

from tidestore.api.openapi.lateness import lateness_members
from tidestore.api.openapi.parts import (
    TEXT,
    TOKEN_NEEDED,
    WHOLE,
    Json,
    answer,
    path,
    problems,
    query,
    record,
    ref,
)
from tidestore.api.openapi.scrubbing import scrub_members
from tidestore.api.replica_admin import CREDENTIAL_CHARS_MAX, REASON_CHARS_MAX, URL_CHARS_MAX
from tidestore.schemas.filters import FILTER_CHARS_MAX
from tidestore.schemas.objects import NAME_CHARS_MAX

_NAME: Json = {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
    "maxLength": NAME_CHARS_MAX,
}
_REASON: Json = {"type": "string", "maxLength": REASON_CHARS_MAX}
_FILTER: Json = {
    "type": "string",
    "pattern": "^((dataset|kind)=[a-z0-9,-]+( (dataset|kind)=[a-z0-9,-]+)*)?$",
    "maxLength": FILTER_CHARS_MAX,
    "default": "",
}
_INCARNATION: Json = {"type": "integer", "minimum": 1}


def replica_paths() -> Json:
    """The operations by path and method."""
    name = path("name", TEXT, "The replica's name.")
    listing = {
        **_operation("listReplicas", "Every replica: its place, its gaps, its lag, how far it is."),
        "responses": {"200": answer("The replicas.", ref("Replicas")), **problems()},
    }
    adding = {
        **_operation("addReplica", "Examine a place and make it a replica; it fills from then on."),
        "description": "Refused with 409 `name_taken`, `replica_overlaps`, `foreign_content`, "
        "`not_empty`, `configured`, `too_many_replicas` or `changed_meanwhile`, or with 422 "
        "`credential_unknown`, `credentials_refused`, `bucket_missing` or `store_unreachable`. "
        "Nothing is registered then.",
        "security": TOKEN_NEEDED,
        "requestBody": _body("NewReplica"),
        "responses": {
            "201": answer("It is a replica now.", ref("ReplicaAdded"), "Location"),
            **problems(400, 401, 403, 408, 409, 413, 415, 422, 503),
        },
    }
    one = {
        **_operation("getReplica", "One replica.", name),
        "responses": {"200": answer("The replica.", ref("Replica")), **problems(404)},
    }
    changing, retiring, losing = _changes(name)
    return {
        "/v1/replicas/{name}/losses": {"post": losing},
        "/v1/replicas": {"get": listing, "post": adding},
        "/v1/replicas/{name}": {"get": one, "patch": changing, "delete": retiring},
    }


def _changes(name: Json) -> tuple[Json, Json, Json]:
    """What changes one replica: pause and resume, retire, lose."""
    changing = {
        **_operation("changeReplica", "Let a replica's workers stand still, or go on.", name),
        "security": TOKEN_NEEDED,
        "requestBody": _body("ReplicaChange"),
        "responses": {
            "200": answer("It is so now; workers follow at once.", ref("ReplicaChanged")),
            **problems(400, 401, 403, 404, 408, 409, 413, 415, 503),
        },
    }
    retiring = {
        **_operation(
            "retireReplica",
            "Serve it no more; its objects stay where they are.",
            name,
            query("reason", _REASON, "Why, for people who wonder later."),
        ),
        "security": TOKEN_NEEDED,
        "responses": {
            "204": answer("It is retired.", None),
            **problems(400, 401, 403, 404, 409, 503),
        },
    }
    losing = {
        **_operation(
            "loseReplica", "Its content is gone: it begins again and is filled from others.", name
        ),
        "description": "`incarnation` is that of the life that is lost, so that a request that is "
        "sent twice loses one life. Refused with 409 `is_origin`, `changed_meanwhile` or "
        "`foreign_content`, or with 422 `credentials_refused`, `bucket_missing` or "
        "`store_unreachable`: it cannot be filled before its place can be written.",
        "security": TOKEN_NEEDED,
        "requestBody": _body("ReplicaLoss"),
        "responses": {
            "200": answer("Its next life; workers follow at once.", ref("ReplicaLife")),
            **problems(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
        },
    }
    return changing, retiring, losing


def replica_schemas(moment: Json) -> Json:
    """The documents that these paths take and give. `moment` is the schema of a moment."""
    retired = record(
        {"name": TEXT, "incarnation": _INCARNATION, "reason": TEXT, "retired_at_ms": moment}
    )
    added = {
        "name": TEXT, "incarnation": _INCARNATION, "url": TEXT, "filter": TEXT,
        "registered_at_ms": moment,
    }  # fmt: skip
    return {
        "Replica": _replica(moment),
        "Replicas": record(
            {
                "replicas": {"type": "array", "items": ref("Replica")},
                "objects": WHOLE,
                "retired": {"type": "array", "items": retired},
            }
        ),
        "NewReplica": record(
            {
                "name": _NAME,
                "url": {
                    "type": "string",
                    "pattern": "^[a-z][a-z0-9+.-]*://[!-~]*$",
                    "maxLength": URL_CHARS_MAX,
                },
            },
            {
                "credential": {
                    "type": "string",
                    "pattern": "^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$",
                    "maxLength": CREDENTIAL_CHARS_MAX,
                },
                "adopt": {"type": "boolean", "default": False},
                "filter": _FILTER,
            },
            "`url` holds no secret; `credential` names one that each process reads by itself. "
            "`filter` chooses roots, as `dataset=lab kind=bundle`; all that they refer to comes "
            "along, and the rest is `excluded`.",
        ),
        "ReplicaAdded": record(added),
        "ReplicaChange": record({"paused": {"type": "boolean"}}, {"reason": _REASON}),
        "ReplicaLoss": record({"incarnation": _INCARNATION}, {"reason": _REASON}),
        "ReplicaLife": record({"name": TEXT, "incarnation": _INCARNATION}),
        "ReplicaChanged": record({"name": TEXT, "is_paused": {"type": "boolean"}}),
    }


def _replica(moment: Json) -> Json:
    under_way = record(
        {"key": TEXT, "size": WHOLE, "bytes_done": WHOLE, "changed_at_ms": moment},
        description="A large copy: how much of it was stored at `changed_at_ms`.",
    )
    lag = record(
        {
            "objects": WHOLE,
            "bytes": WHOLE,
            "seconds": {"type": "number", "minimum": 0},
            "oldest_key": {"type": ["string", "null"]},
        }
    )
    progress = record(
        {
            "done": WHOLE,
            "total": WHOLE,
            "per_second": {"type": "number", "minimum": 0},
            "seconds_left": {"type": ["number", "null"], "minimum": 0},
            "is_backfill": {"type": "boolean"},
        },
        None,
        "`is_backfill`: objects that are older than the replica are still owed to it.",
    )
    return record(
        {
            "name": TEXT,
            "incarnation": _INCARNATION,
            "url": TEXT,
            "is_origin": {"type": "boolean"},
            "is_paused": {"type": "boolean"},
            "filter": TEXT,
            "registered_at_ms": moment,
            "gaps": {"type": "array", "items": TEXT},
            "present": WHOLE,
            "excluded": WHOLE,
            "lag": lag,
            "waiting": WHOLE,
            "parked": WHOLE,
            "progress": progress,
            **lateness_members(),
            **scrub_members(moment),
            "under_way": {"type": "array", "items": under_way},
        }
    )


def _operation(name: str, summary: str, *parameters: Json) -> Json:
    return {
        "tags": ["operate"],
        "operationId": name,
        "summary": summary,
        "security": [],
        "parameters": list(parameters),
    }


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}
