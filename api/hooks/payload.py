"""What a hook is told: a change as JSON, the same bytes at every attempt. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tidestore.schemas.events import ChangeAnnounced, ChangeType, CopyState, HookSaved
from tidestore.schemas.objects import find_key_parts

ALL_EVENTS = "*"
PING = "ping"
_ZEN = "Every shore has the same sea."


def matches(hook: HookSaved, change: ChangeAnnounced, *, is_summary: bool = False) -> bool:
    """Whether a hook wants a change: by dataset and type.

    A summary stands for all that was said of its key before, and may be all that compaction left:
    it is for everyone who asked for any of that.
    """
    parts = find_key_parts(change.key)
    if parts is None or parts.dataset != hook.dataset:
        return False
    types = _types_told(change) if is_summary else {change.type}
    return ALL_EVENTS in hook.events or not types.isdisjoint(hook.events)


def _types_told(change: ChangeAnnounced) -> set[str]:
    """The types of all that must have been announced of a key for its state to be this one."""
    states = {place.state for place in change.copies}
    told: set[str] = {change.type, ChangeType.WRITTEN}
    if CopyState.PRESENT in states:
        told.add(ChangeType.PRESENT)
    if CopyState.PARKED in states:
        told.add(ChangeType.PARKED)
    if change.redacted_at_ms:
        told.add(ChangeType.REDACTED)
        if not change.is_redacted:
            told.add(ChangeType.LIFTED)
    if change.is_everywhere and change.is_redacted:
        told.add(ChangeType.REDACTED_EVERYWHERE)
    elif change.is_everywhere:
        told.add(ChangeType.PRESENT_EVERYWHERE)
    return told


def render(
    change: ChangeAnnounced, generation: int, partition: int, *, is_summary: bool = False
) -> bytes:
    """The body of a delivery: {type, timestamp, data}, as Standard Webhooks have it.

    `data.sequence` counts the changes of the key and `data.log_position` is where its write stands,
    so a receiver can drop what is older than what it has. `data.summary` says that changes before
    this one may be missing (R9).
    """
    parts = find_key_parts(change.key)
    data: dict[str, object] = {
        "id": change.id,
        "key": change.key,
        "sequence": change.sequence,
        "size": change.size,
        "sha256": change.sha256,
        "content_type": change.content_type,
        "origin": change.origin,
        "log_position": f"{generation}.{partition}.{change.log_offset}",
        "written_at_ms": change.written_at_ms,
        "request_id": change.request_id,
        "is_everywhere": change.is_everywhere,
        "copies": [
            {
                "replica": place.replica,
                "state": place.state.value,
                "url": place.url,
                "changed_at_ms": place.changed_at_ms,
            }
            for place in change.copies
        ],
    }
    if parts is not None:
        data["kind"], data["dataset"] = parts.kind.value, parts.dataset
        if parts.uuid:
            data["uuid"], data["version"] = parts.uuid, parts.version
    if change.redacted_at_ms:
        data["is_redacted"], data["redacted_at_ms"] = change.is_redacted, change.redacted_at_ms
    if is_summary:
        data["summary"] = True
    for name in ("replica", "name", "reason"):
        value = getattr(change, name)
        if value is not None:
            data[name] = value
    return _encode(
        {"type": change.type, "timestamp": _moment(change.announced_at_ms), "data": data}
    )


def render_ping(hook: dict[str, object], now_ms: int) -> bytes:
    """The body of a ping: GitHub's members, and Standard Webhooks' `type`, `timestamp`, `data`."""
    facts: dict[str, object] = {"zen": _ZEN, "hook_id": hook["id"], "hook": hook}
    return _encode({"type": PING, "timestamp": _moment(now_ms), **facts, "data": facts})


def _moment(moment_ms: int) -> str:
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _encode(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
