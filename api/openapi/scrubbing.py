"""The documents about comparisons of replicas with the log."""

from __future__ import annotations

from tidestore.api.openapi.parts import TEXT, WHOLE, Json, answer, problems, record, ref
from tidestore.schemas.findings import Verdict

_COUNTS = (
    "expected", "equal", "owed", "listed", "lost", "altered", "dark", "unredacted", "foreign",
)  # fmt: skip
_VERDICT: Json = {"enum": [verdict.value for verdict in Verdict]}


def scrubbing_paths() -> Json:
    """The operations by path and method."""
    listing = {
        "tags": ["read"],
        "operationId": "listStatements",
        "summary": "What was found when each replica was last compared with the log, signed.",
        "description": "The signature is Ed25519 over the UTF-8 of `statement`, which is JSON.",
        "security": [],
        "parameters": [],
        "responses": {"200": answer("The statements.", ref("Statements")), **problems()},
    }
    return {"/v1/statements": {"get": listing}}


def scrubbing_schemas(moment: Json) -> Json:
    """The documents that these paths give."""
    statement = record(
        {
            "replica": TEXT,
            "incarnation": WHOLE,
            "verdict": _VERDICT,
            "reason": TEXT,
            "ended_at_ms": moment,
            "statement": TEXT,
            "signature": TEXT,
            "public_key": TEXT,
        }
    )
    return {"Statements": record({"items": {"type": "array", "items": statement}})}


def scrub_members(moment: Json) -> Json:
    """What a replica's status says of its comparison and of the reading back of its bytes."""
    counts: Json = dict.fromkeys(_COUNTS, WHOLE)
    compared = record(
        {
            "verdict": _VERDICT, "reason": TEXT, "said": TEXT, "is_signed": {"type": "boolean"},
            "cut": TEXT, "ended_at_ms": moment, **counts,
        },
        None,
        "The last comparison with the log.",
    )  # fmt: skip
    read = record(
        {
            "round": WHOLE, "objects": WHOLE, "bytes": WHOLE, "rotten": WHOLE,
            "moved_at_ms": moment, "all_since_ms": {"oneOf": [moment, {"type": "null"}]},
        },
        None,
        "How far this round of reading back has come.",
    )  # fmt: skip
    nothing: Json = {"type": "null"}
    return {"scrub": {"oneOf": [compared, nothing]}, "read_back": {"oneOf": [read, nothing]}}
