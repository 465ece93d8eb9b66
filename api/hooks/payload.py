"""What a hook is told: a change as JSON, the same bytes at every attempt. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tidestore.schemas.events import ChangeAnnounced, HookSaved
from tidestore.schemas.objects import find_key_parts

ALL_EVENTS = "*"
PING = "ping"
_ZEN = "Every shore has the same sea."


def matches(hook: HookSaved, change: ChangeAnnounced) -> bool:
    """Whether a hook wants a change: by dataset and type."""
    parts = find_key_parts(change.key)
    if parts is None or parts.dataset != hook.dataset:
        return False
    return change.type in hook.events or ALL_EVENTS in hook.events


def render(change: ChangeAnnounced, generation: int, partition: int) -> bytes:
    """The body of a delivery: {type, timestamp, data}, as Standard Webhooks have it.

    `data.sequence` counts the changes of the key and `data.log_position` is where its write stands,
    so a receiver can drop what is older than what it has.
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
