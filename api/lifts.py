"""Taking a redaction back within its grace: POST /v1/redactions/lifts.

    audit --1--> redactions (RedactionLifted) --2--> log: the newest write of each key, again
                                                      --3--> workers put back what they kept aside

Killed after 1: a record of something that was not done. After 2: shown again everywhere; what the
log lacks is owed in every index and appended by any gateway. The blobs that went along with a file
come back with it, because a live file names them (redaction_tables.py).
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

from aiohttp import web

from tidestore.api.auth import REDACT
from tidestore.api.bodies import read_json
from tidestore.api.context import gateway_of
from tidestore.api.problems import Problem
from tidestore.api.redaction_lookup import Redaction, Redactions
from tidestore.api.redaction_tables import targets_of
from tidestore.api.redactions import REDACTOR, reason_of
from tidestore.schemas.audit import AuditRecorded
from tidestore.schemas.objects import MalformedError

TARGET_CHARS_MAX: Final = 200
_MEMBERS: Final = {"target", "reason"}
# So long before the grace ends a lift is refused: the workers must hear of it before they purge.
_MARGIN_MS: Final = 5_000


async def lift_redaction(request: web.Request) -> web.StreamResponse:
    """Lift the redaction of a target: a key, or <dataset>/<kind>s/<uuid>."""
    gateway = gateway_of(request)
    for dataset in gateway.settings.datasets:
        gateway.auth.require(request, REDACT, dataset)
    admin = gateway.auth.principal_of(request)
    body = await read_json(request)
    unknown = body.keys() - _MEMBERS
    if unknown:
        raise MalformedError("body", f"has the unknown member {min(unknown)[:50]!r}")
    target = body.get("target")
    if not isinstance(target, str) or not target.isascii() or len(target) > TARGET_CHARS_MAX:
        hint = "a key, or <dataset>/<kind>s/<uuid>"
        raise MalformedError("target", "is no target of a redaction", hint=hint)
    reason = reason_of(body)
    redactor = request.app[REDACTOR]
    await redactor.catch_up()
    redactions = gateway.index.redactions
    standing = _standing(redactions, target)
    record = AuditRecorded(
        actor=admin.name,
        action="lift",
        target=target,
        reason=reason,
        request_id=str(request.get("request_id", "")),
        recorded_at_ms=_now_ms(),
        details=json.dumps({"number": standing.number, "was": standing.reason}),
    )
    await redactor.audit(record)
    await redactor.lift(target, standing.number, admin.name)
    places: dict[str, Any] = {}
    # Twice: what is lifted because a live file names it owes its own write only then.
    for _ in range(2):
        keys = redactions.keys_of(target, limit=gateway.settings.limits.page_items_max)
        wanted = [*keys, *redactions.blobs_of(keys)]
        places.update(await redactor.finish(wanted))
    document = {
        "target": target,
        "keys": sorted(places),
        "positions": [str(places[key]) for key in sorted(places)],
        "lifted_by": admin.name,
    }
    return web.json_response(document, status=202)


def _standing(redactions: Redactions, target: str) -> Redaction:
    """The decision to lift; raises Problem 409 when there is none, or when it is too late."""
    standing = redactions.decision(target)
    if standing is None:
        whole = redactions.decision(targets_of(target)[-1])
        hint = "" if whole is None else f"it is redacted with all of {whole.target}: lift that"
        raise Problem(409, "not_redacted", "no decision on just this target stands", hint=hint)
    if (standing.purge_after_ms or 0) - _MARGIN_MS <= _now_ms():
        raise Problem(
            409,
            "grace_over",
            "its grace is over: the bytes are purged, or about to be",
            hint="write it again under a new version, if that is allowed",
        )
    return standing


def _now_ms() -> int:
    return int(time.time() * 1000)
