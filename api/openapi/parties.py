"""The paths of third parties who keep a replica of their own, and of who invites them."""

from __future__ import annotations

from tidestore.api.openapi.parts import (
    DATASET,
    SHA256,
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
from tidestore.api.receipts import (
    BATCH_BYTES_MAX,
    KEY_CHARS_MAX,
    RECEIPTS_MAX,
    RECEIPTS_PAGE,
)
from tidestore.schemas.objects import NAME_CHARS_MAX
from tidestore.schemas.parties import ReceiptState, Verdict

_NAME: Json = {
    "type": "string",
    "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
    "maxLength": NAME_CHARS_MAX,
}
_KEY: Json = {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX}


def party_paths() -> Json:
    """The operations by path and method."""
    name = path("name", TEXT, "The party's name.")
    inviting = {
        **_operation("inviteParty", "Let somebody keep a replica of their own (administrators)."),
        "description": "The token in the answer is shown nowhere else, and kept nowhere. Refused "
        "with 409 `name_taken`, `too_many_parties` or `changed_meanwhile`.",
        "requestBody": _body("Invitation"),
        "responses": {
            "201": answer("Invited.", ref("Invited"), "Location"),
            **problems(400, 401, 403, 408, 409, 413, 415, 503),
        },
    }
    listing = {
        **_operation("listParties", "Everybody who is invited, and how much each claims to hold."),
        "responses": {"200": answer("The parties.", ref("Parties")), **problems(401, 403, 503)},
    }
    one = {
        **_operation("getParty", "One party: for itself, and for who runs the store.", name),
        "responses": {"200": answer("The party.", ref("Party")), **problems(401, 403, 404, 503)},
    }
    removing = {
        **_operation("removeParty", "Send a party away; or leave, with its own token.", name),
        "responses": {
            "204": answer("Its token opens nothing any more.", None),
            **problems(401, 403, 404, 503),
        },
    }
    claims = {
        **_operation(
            "listReceipts",
            "What a party claims to hold, in order of key.",
            name,
            query("after", {**_KEY, "minLength": 0}, "The `next` of the page before."),
            query("limit", {"type": "integer", "minimum": 1, "maximum": RECEIPTS_MAX,
                            "default": RECEIPTS_PAGE}, "Receipts of one page."),
        ),
        "responses": {
            "200": answer("One page.", ref("Receipts")),
            **problems(400, 401, 403, 404, 503),
        },
    }  # fmt: skip
    reporting = {
        **_operation(
            "reportReceipts", "Say what one's own replica holds; the party's token.", name
        ),
        "description": f"All of a batch is written, or nothing of it: at most {RECEIPTS_MAX} "
        f"receipts in {BATCH_BYTES_MAX:,} bytes. Size and sha256 must be the log's, else 422 "
        "`receipt_mismatch`. Saying the same again changes nothing.",
        "requestBody": _body("ReceiptBatch"),
        "responses": {
            "200": answer("Written down, as claimed.", ref("ReceiptsRecorded")),
            **problems(400, 401, 403, 404, 408, 413, 415, 422, 503),
        },
    }
    return {
        "/v1/parties": {"get": listing, "post": inviting},
        "/v1/parties/{name}": {"get": one, "delete": removing},
        "/v1/replicas/{name}/receipts": {"get": claims, "post": reporting},
    }


def party_schemas(moment: Json) -> Json:
    """The documents that these paths take and give. `moment` is the schema of a moment."""
    state, verdict = {"enum": [*map(str, ReceiptState)]}, {"enum": [*map(str, Verdict)]}
    datasets = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    counted = record({"state": state, "verdict": verdict, "objects": WHOLE, "bytes": WHOLE})
    party = {
        "name": TEXT,
        "life": WHOLE,
        "datasets": datasets,
        "invited_by": TEXT,
        "invited_at_ms": moment,
        "deployment": TEXT,
        "receipts": {"type": "array", "items": counted},
    }
    said = {"key": _KEY, "state": state, "size": WHOLE, "sha256": SHA256}
    judged = {"verdict": verdict, "judged_at_ms": {"type": ["integer", "null"]}, "detail": TEXT}
    batch = {"type": "array", "items": record(said), "minItems": 1, "maxItems": RECEIPTS_MAX}
    return {
        "Party": record(party),
        "Invited": record({**party, "token": TEXT}),
        "Parties": record({"parties": {"type": "array", "items": ref("Party")}}),
        "Invitation": record(
            {"name": _NAME},
            {"datasets": {"type": "array", "items": DATASET, "minItems": 1}},
        ),
        "ReceiptBatch": record({"receipts": batch}),
        "ReceiptsRecorded": record({"recorded": WHOLE, "unchanged": WHOLE}),
        "Receipts": record(
            {
                "items": {
                    "type": "array",
                    "items": record({**said, "claimed_at_ms": moment, **judged}),
                }
            },
            {"next": TEXT},
            "`verdict`: `claimed` is the party's word; `proved` and `refuted` are what reading the "
            "bytes back has shown.",
        ),
    }


def _operation(name: str, summary: str, *parameters: Json) -> Json:
    return {
        "tags": ["operate"],
        "operationId": name,
        "summary": summary,
        "security": TOKEN_NEEDED,
        "parameters": list(parameters),
    }


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}
