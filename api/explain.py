"""An object's whole story, for who runs the store: its event, every copy, and what each waits for.

copy --waits_for--> child's copy --waits_for--> ... --> the root cause: a copy with an error,
                                                        or one that is on its way
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from aiohttp import web

from tidestore.api.auth import OPERATE
from tidestore.api.context import gateway_of, single_parameter
from tidestore.api.lookup import CopyRow, Index, ObjectRow
from tidestore.api.problems import Problem
from tidestore.schemas.objects import MalformedError, find_key_parts

# Collections may name collections; this deep none is by accident, and the way down must end.
_STEPS_MAX: Final = 32
_KEY_CHARS_MAX: Final = 1_024


class KnownCopies(Protocol):
    """What is known of objects and copies."""

    def find(self, key: str) -> ObjectRow | None:
        """The object under a key."""
        ...

    def copies(self, key: str) -> dict[str, CopyRow]:
        """Its copies by replica."""
        ...


async def explain_key(request: web.Request) -> web.StreamResponse:
    """The whole story of a key."""
    gateway = gateway_of(request)
    # Which dataset a stranger's key belongs to is unknown, and errors may show what is inside.
    for dataset in gateway.settings.datasets:
        gateway.auth.require(request, OPERATE, dataset)
    key = single_parameter(request, "key")
    if not key or len(key) > _KEY_CHARS_MAX or "\0" in key:
        raise MalformedError("key", "is missing or no key", hint="<dataset>/<kind>s/<name>")
    parts = find_key_parts(key)
    if parts is not None:
        await gateway.index.catch_up([key])
    index = gateway.index
    row, copies, redaction = index.find(key), index.copies(key), index.redaction(key)
    if row is None and not copies and redaction is None:
        hint = "a key is <dataset>/<kind>s/<sha256, or uuid.version>; nobody has written this one"
        raise Problem(404, "not_found", "the log has no such key", hint=hint)
    document: dict[str, Any] = {
        "key": key,
        "event": None if row is None else _event(index, row),
        "redaction": None
        if redaction is None
        else {"reason": redaction.reason, "released_to": redaction.released_to},
        "readable_on": []
        if row is None or redaction is not None
        else sorted(index.present_on(row, copies)),
        "copies": [
            copy_story(index, key, row, name, copies.get(name)) for name in gateway.replica_names
        ],
    }
    return web.json_response(document, headers={"Cache-Control": "no-store"})


def _event(index: Index, row: ObjectRow) -> dict[str, Any]:
    return {
        "position": str(index.position_of(row)),
        "written_at_ms": row.written_at_ms,
        "written_by": row.written_by,
        "request_id": row.request_id,
        "origin": row.origin,
        "size": row.size,
        "sha256": row.sha256,
        "content_type": row.content_type,
    }


def copy_story(
    index: KnownCopies, key: str, row: ObjectRow | None, replica: str, copy: CopyRow | None
) -> dict[str, Any]:
    """One copy, and the chain of what it waits for, down to the root cause."""
    steps: list[dict[str, Any]] = []
    story = {"replica": replica, **_step(key, row, replica, copy), "because": steps}
    seen, waits_for = {key}, copy.waits_for if copy is not None else None
    while waits_for is not None and waits_for not in seen and len(steps) < _STEPS_MAX:
        seen.add(waits_for)
        child = index.copies(waits_for).get(replica)
        steps.append(_step(waits_for, index.find(waits_for), replica, child))
        waits_for = child.waits_for if child is not None else None
    return story


def _step(key: str, row: ObjectRow | None, replica: str, copy: CopyRow | None) -> dict[str, Any]:
    is_origin = row is not None and row.origin == replica
    if copy is None:
        # No record: at its origin the event is the proof; else no worker has come to it yet.
        state = "present" if is_origin else "pending" if row is not None else "unknown"
        return {"key": key, "state": state, "is_origin": is_origin, "attempts": 0}
    more = {
        "changed_at_ms": copy.changed_at_ms,
        "next_try_at_ms": copy.next_try_at_ms,
        "error_class": copy.error_class,
        "error": copy.error,
        "waits_for": copy.waits_for,
        "waits_count": copy.waits_count or None,
        "is_incomplete": copy.is_incomplete or None,
        "store_checksums": copy.checksums or None,
        "bytes_done": copy.bytes_done,
    }
    return {
        "key": key,
        "state": copy.state.value,
        "is_origin": is_origin,
        "attempts": copy.attempts,
        **{name: value for name, value in more.items() if value is not None},
    }
