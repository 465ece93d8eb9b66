"""DELETE of the four kinds: redaction, for administrators."""

from __future__ import annotations

from tidestore.api.lifts import TARGET_CHARS_MAX
from tidestore.api.openapi.parts import (
    DATASET_PARAMETER,
    SHA256,
    TEXT,
    TOKEN_NEEDED,
    UUID,
    VERSION,
    WHOLE,
    Json,
    answer,
    path,
    problems,
    query,
    record,
    ref,
)
from tidestore.api.redaction_preview import TOKEN_CHARS_MAX
from tidestore.api.redactions import REASON_CHARS_MAX
from tidestore.schemas.objects import Kind

_REFUSALS = (400, 401, 403, 404, 408, 409, 413, 415, 422, 503)


def redacting_paths() -> Json:
    """The operations by path and method."""
    found: Json = {}
    for kind in Kind:
        word = kind.value
        if kind is Kind.BLOB:
            place = [path("sha256", SHA256, "The blob's sha256.")]
            url, steps = "/v1/blobs/{sha256}", ""
        else:
            place = [
                path("uuid", UUID, f"The {word}'s uuid."),
                query("version", VERSION, "Only this one; else all, future ones too."),
            ]
            url = f"/v1/{kind.plural}/{{uuid}}"
            steps = (
                " Without `version` the whole uuid is meant, in two steps: a call without `token` "
                "answers the preview and a token, which the second call must carry."
            )
        found[url] = {
            "delete": {
                "tags": ["redact"],
                "operationId": f"redact{word.capitalize()}",
                "summary": f"Take a {word} away for ever, everywhere, with a reason.",
                "description": "For administrators. Hidden at once and answered with 410 from then "
                "on; removed on every replica, each of which says so in /copies; kept aside for "
                f"the grace period, in which it can be lifted.{steps} Sent again it changes "
                "nothing.",
                "security": TOKEN_NEEDED,
                "parameters": [
                    *place,
                    DATASET_PARAMETER,
                    query("preview", {"type": "boolean"}, "Only say what would be done."),
                ],
                "requestBody": {
                    "required": False,
                    "description": "Needed unless it is a preview.",
                    "content": {"application/json": {"schema": ref("RedactionRequest")}},
                },
                "responses": {
                    "200": answer(
                        "A preview, with its token; or redacted before, nothing changed.",
                        {"oneOf": [ref("RedactionPreview"), ref("Redacted")]},
                    ),
                    "202": answer("Hidden; the replicas remove it.", ref("Redacted")),
                    **problems(*_REFUSALS),
                },
            }
        }
    found["/v1/redactions/lifts"] = {"post": _lift()}
    return found


def _lift() -> Json:
    return {
        "tags": ["redact"],
        "operationId": "liftRedaction",
        "summary": "Take a redaction back, within its grace.",
        "description": "For administrators. `target` is a key, or `<dataset>/<kind>s/<uuid>` "
        "for a whole uuid; what went along with a file comes back with it. Each replica puts "
        "back what it kept aside.",
        "security": TOKEN_NEEDED,
        "parameters": [],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref("LiftRequest")}},
        },
        "responses": {
            "202": answer("Shown again; the replicas put it back.", ref("Lifted")),
            **problems(400, 401, 403, 408, 409, 413, 415, 422, 503),
        },
    }


def redacting_schemas(moment: Json) -> Json:
    """The documents that these paths take and give. `moment` is the schema of a moment."""
    names: Json = {"type": "array", "items": TEXT}
    kept = record({"key": TEXT, "named_by": names})
    preview: Json = {
        "target": TEXT,
        "kind": {"enum": [kind.value for kind in Kind]},
        "dataset": TEXT,
        "keys": names,
        "keys_count": WHOLE,
        "takes_along": names,
        "takes_along_count": WHOLE,
        "keeps": {"type": "array", "items": kept},
        "referred_by": names,
        "referred_by_count": WHOLE,
        "is_complete": {"type": "boolean"},
        "beyond_our_hand": names,
    }
    return {
        "LiftRequest": record(
            {
                "target": {"type": "string", "maxLength": TARGET_CHARS_MAX},
                "reason": {"type": "string", "minLength": 1, "maxLength": REASON_CHARS_MAX},
            }
        ),
        "Lifted": record({"target": TEXT, "keys": names, "positions": names, "lifted_by": TEXT}),
        "RedactionRequest": record(
            {"reason": {"type": "string", "minLength": 1, "maxLength": REASON_CHARS_MAX}},
            {
                "grace_seconds": {
                    **WHOLE,
                    "description": "How long it can be lifted; at most the replay window.",
                },
                "token": {"type": "string", "maxLength": TOKEN_CHARS_MAX},
            },
            "Readers are shown the reason with every 410.",
        ),
        "RedactionPreview": record({**preview, "token": TEXT, "token_seconds": WHOLE}),
        "Redacted": record(
            {
                **preview,
                "number": WHOLE,
                "reason": TEXT,
                "decided_by": TEXT,
                "redacted_at_ms": moment,
                "purge_after_ms": {"oneOf": [moment, {"type": "null"}]},
                "positions": names,
            },
            None,
            "`keys` are hidden; `takes_along` with them; `keeps` stay, with who names them.",
        ),
    }
