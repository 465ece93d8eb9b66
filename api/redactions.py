"""DELETE of objects, and lifting: the admin's side of redaction (docs/redaction.md).

One version or one blob goes in one step; a whole uuid, future versions included, in two: the first
call answers a preview and its token, the second must carry it. Sending any of them again is safe.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from tidestore.api.auth import REDACT
from tidestore.api.bodies import read_json
from tidestore.api.context import (
    Gateway,
    dataset_of,
    flag_parameter,
    gateway_of,
    single_parameter,
)
from tidestore.api.problems import Problem
from tidestore.api.redaction_lookup import Redaction
from tidestore.api.redaction_preview import (
    TOKEN_CHARS_MAX,
    TOKEN_SECONDS,
    Preview,
    fits,
    make_token,
    preview_of,
)
from tidestore.api.redactor import Redactor
from tidestore.api.references import References
from tidestore.schemas.audit import AuditRecorded
from tidestore.schemas.objects import (
    DatasetName,
    Kind,
    MalformedError,
    blob_key,
    check_sha256,
    check_uuid,
    check_version,
    versioned_key,
)

REDACTOR: Final = web.AppKey("redactor", Redactor)
REFERENCES: Final = web.AppKey("references", References)

REASON_CHARS_MAX: Final = 500
_MEMBERS: Final = {"reason", "grace_seconds", "token"}
# A blob that goes along with its file is kept aside for at least this long: longer than a commit
# takes that found the blob there, so that what it names can come back.
TAKEN_SECONDS_MIN: Final = 60


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request to redact, checked."""

    gateway: Gateway
    redactor: Redactor
    admin: str
    request_id: str
    secret: str
    dataset: DatasetName
    kind: Kind
    target: str
    is_whole_uuid: bool


@dataclass(frozen=True, slots=True)
class _Order:
    """What the body says."""

    reason: str
    purge_after_ms: int
    token: str | None


def redact_object(kind: Kind) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler for DELETE of one kind."""

    async def handler(request: web.Request) -> web.StreamResponse:
        asked = _read_request(request, kind)
        is_preview = flag_parameter(request, "preview")
        order = None if is_preview else _read_order(asked.gateway, await read_json(request))
        await asked.redactor.catch_up()
        preview = await _look(request, asked)
        standing = asked.gateway.index.redactions.find(asked.target)
        if not preview.keys and standing is None:
            raise Problem(404, "not_found", f"there is no such {kind.value}")
        if order is None or (asked.is_whole_uuid and order.token is None):
            return _answer_preview(asked, preview)
        if asked.is_whole_uuid and not fits(order.token or "", preview, asked.secret):
            raise Problem(
                409,
                "preview_changed",
                "this token is not of what would be done now",
                hint="look at the preview again, and send its token",
            )
        return await _carry_out(asked, order, preview)

    return handler


def _read_request(request: web.Request, kind: Kind) -> _Asked:
    gateway, dataset = gateway_of(request), dataset_of(request)
    principal = gateway.auth.require(request, REDACT, dataset)
    is_whole_uuid = False
    if kind is Kind.BLOB:
        target: str = blob_key(dataset, check_sha256(request.match_info["sha256"]))
    else:
        uuid = check_uuid(request.match_info["uuid"])
        text = single_parameter(request, "version")
        is_whole_uuid = text is None
        target = (
            f"{dataset}/{kind.plural}/{uuid}"
            if text is None
            else versioned_key(dataset, kind, uuid, check_version(text))
        )
    return _Asked(
        gateway=gateway,
        redactor=request.app[REDACTOR],
        admin=principal.name,
        request_id=str(request.get("request_id", "")),
        secret=request.headers.get("Authorization", "").rpartition(" ")[2],
        dataset=dataset,
        kind=kind,
        target=target,
        is_whole_uuid=is_whole_uuid,
    )


def _read_order(gateway: Gateway, body: dict[str, Any]) -> _Order:
    unknown = body.keys() - _MEMBERS
    if unknown:
        hint = "known are " + ", ".join(sorted(_MEMBERS))
        raise MalformedError("body", f"has the unknown member {min(unknown)[:50]!r}", hint=hint)
    reason = reason_of(body)
    greatest = grace_seconds_max(gateway)
    grace = body.get("grace_seconds", min(gateway.settings.limits.grace_seconds, greatest))
    if isinstance(grace, bool) or not isinstance(grace, int) or not 0 <= grace <= greatest:
        hint = f"0 to {greatest}: for longer the log does not keep what a lift needs"
        raise MalformedError("grace_seconds", "is not a whole number in its range", hint=hint)
    token = body.get("token")
    if token is not None and (not isinstance(token, str) or len(token) > TOKEN_CHARS_MAX):
        raise MalformedError("token", "is not a token", hint="the preview gives one")
    return _Order(reason, _now_ms() + grace * 1000, token)


def reason_of(body: dict[str, Any]) -> str:
    """The reason that a body gives; raises MalformedError when there is none."""
    reason = body.get("reason")
    if not isinstance(reason, str) or not reason.strip() or len(reason) > REASON_CHARS_MAX:
        hint = "readers are shown it with every 410"
        raise MalformedError(
            "reason", f"is not a text of 1 to {REASON_CHARS_MAX} characters", hint=hint
        )
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise MalformedError("reason", "holds half a character") from None
    return reason


def grace_seconds_max(gateway: Gateway) -> int:
    """The longest grace.

    A lift appends the object's event again, which compaction must not have taken; it takes nothing
    that was superseded within the replay window.
    """
    return gateway.settings.topics.windows.replay_ms // 1000


def _keys_of(asked: _Asked) -> list[str]:
    index = asked.gateway.index
    if asked.is_whole_uuid:
        uuid = check_uuid(asked.target.rsplit("/", 1)[-1])
        return [str(row.key) for row in index.versions(asked.dataset, asked.kind, uuid)]
    return [asked.target] if index.find(asked.target) is not None else []


async def _look(request: web.Request, asked: _Asked) -> Preview:
    index, keys = asked.gateway.index, _keys_of(asked)
    named = [*keys, *index.redactions.blobs_of(keys)]
    parents, is_complete = await request.app[REFERENCES].parents_of(named)
    return preview_of(
        index,
        asked.target,
        asked.kind,
        asked.dataset,
        keys,
        parents=parents,
        is_complete=is_complete,
    )


def _answer_preview(asked: _Asked, preview: Preview) -> web.Response:
    document = {
        **preview.document(),
        "token": make_token(preview, asked.secret),
        "token_seconds": TOKEN_SECONDS,
    }
    return web.json_response(document, headers={"Cache-Control": "no-store"})


async def _carry_out(asked: _Asked, order: _Order, preview: Preview) -> web.Response:
    """Audit, decide, take the blobs along, append. Each await is a crash point: redactor.py."""
    redactor = asked.redactor
    before = asked.gateway.index.redactions.decision(asked.target)
    if before is None or preview.takes_along:
        details = {
            "keys": len(preview.keys),
            "takes_along": list(preview.takes_along[:20]),
            "purge_after_ms": order.purge_after_ms,
        }
        await redactor.audit(_audit_record(asked, "redact", order.reason, details))
    redaction = await redactor.decide(
        asked.target, reason=order.reason, by=asked.admin, purge_after_ms=order.purge_after_ms
    )
    for blob in preview.takes_along:
        await redactor.decide(
            blob,
            reason=redaction.reason,
            by=asked.admin,
            purge_after_ms=max(order.purge_after_ms, _now_ms() + TAKEN_SECONDS_MIN * 1000),
            because_of=preview.keys[0] if preview.keys else asked.target,
        )
    places = await redactor.finish([*preview.keys, *preview.takes_along])
    is_new = before is None or bool(preview.takes_along) or bool(places)
    document = {
        **preview.document(),
        **_redaction_document(redaction),
        "positions": [str(places[key]) for key in sorted(places)],
    }
    return web.json_response(document, status=202 if is_new else 200)


def _redaction_document(redaction: Redaction) -> dict[str, Any]:
    return {
        "number": redaction.number,
        "reason": redaction.reason,
        "decided_by": redaction.decided_by,
        "redacted_at_ms": redaction.decided_at_ms,
        "purge_after_ms": redaction.purge_after_ms,
    }


def _audit_record(
    asked: _Asked, action: str, reason: str, details: dict[str, Any]
) -> AuditRecorded:
    return AuditRecorded(
        actor=asked.admin,
        action=action,
        target=asked.target,
        reason=reason,
        request_id=asked.request_id,
        recorded_at_ms=_now_ms(),
        details=json.dumps(details, sort_keys=True),
    )


def with_receipts(problem: Problem, gateway: Gateway) -> Problem:
    """The same problem; one about something redacted says what each replica has done about it."""
    if problem.code == "redacted":
        problem.more["receipts"] = receipts_of(gateway, problem.more["key"])
    return problem


async def gone_from(request: web.Request, kind: Kind, key: str) -> list[str] | None:
    """What a manifest names and is redacted; None when that is not known yet."""
    gateway = gateway_of(request)
    if kind in (Kind.BLOB, Kind.FILE) or not gateway.index.redactions.are_any():
        return []
    seconds = gateway.settings.limits.catch_up_seconds_max
    known = gateway.index.known_ends()
    return await request.app[REFERENCES].gone_from(key, known, seconds)


def receipts_of(gateway: Gateway, target: str) -> list[dict[str, Any]]:
    """What each replica says about each key that a target covers, as far as it has said it."""
    index = gateway.index
    keys = index.redactions.keys_of(target, limit=gateway.settings.limits.page_items_max)
    found: list[dict[str, Any]] = []
    for key in keys:
        for name in gateway.replica_names:
            copy = index.copies(key).get(name)
            receipt: dict[str, Any] = {"key": key, "replica": name}
            if copy is None:  # nothing said yet
                receipt["state"] = "redacting"
            else:
                receipt["state"] = copy.state.value
                receipt["changed_at_ms"] = copy.changed_at_ms
                if copy.error:
                    receipt["detail"] = copy.error
            found.append(receipt)
    return found


def _now_ms() -> int:
    return int(time.time() * 1000)
