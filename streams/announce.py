"""What is to be announced about one object, given what was announced before.

Pure. The state of a key is its last announcement: it carries the whole present state, so that a
consumer who sees only the newest record of a compacted topic knows everything, and so do we after a
crash. Same inputs, same announcements, same ids and sequences.

    nothing yet   + ObjectWritten           -> written, then present on the origin
    written ...   + a copy became present   -> present on that replica
                  + a copy was parked       -> parked on that replica
                  + all expected settled    -> present everywhere, once
                  + ObjectRedacted          -> redacted: hidden, at once
    redacted      + all expected removed it -> redacted everywhere, once
                  + ObjectWritten, lifted   -> lifted, then present on each replica anew

What is hidden is named by its key alone: the file's name goes from the feed with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tidestore.schemas.events import (
    ChangeAnnounced,
    ChangeType,
    CopyPlace,
    CopyState,
    ObjectRedacted,
    ObjectWritten,
)


@dataclass(frozen=True, slots=True)
class KnownCopy:
    """One copy as its replica's worker last said."""

    replica: str
    incarnation: int
    state: CopyState
    changed_at_ms: int
    error: str | None = None


def first_announcement(
    event: ObjectWritten, log_offset: int, *, name: str | None, expected: tuple[str, ...]
) -> ChangeAnnounced:
    """The announcement that an object was written. Claim and moment are stamped when it is sent."""
    return ChangeAnnounced(
        id=change_id(ChangeType.WRITTEN, event.key),
        type=ChangeType.WRITTEN,
        key=event.key,
        sequence=1,
        size=event.size,
        sha256=event.sha256,
        content_type=event.content_type,
        log_offset=log_offset,
        claim=0,
        written_at_ms=event.written_at_ms,
        announced_at_ms=0,
        origin=event.origin,
        name=name,
        request_id=event.request_id,
        expected=expected,
    )


def redacted(last: ChangeAnnounced, event: ObjectRedacted) -> ChangeAnnounced | None:
    """The announcement that an object is hidden; None when this decision was announced already.

    A decision is known by its moment, which is only compared for being the same: its number counts
    the decisions on its target, and a key and its whole uuid are two targets.
    """
    if last.redacted_at_ms == event.decided_at_ms:
        return None
    return replace(
        last,
        id=change_id(ChangeType.REDACTED, last.key, number=event.decided_at_ms),
        type=ChangeType.REDACTED,
        sequence=last.sequence + 1,
        replica=None,
        name=None,
        reason=event.reason,
        is_everywhere=False,
        is_redacted=True,
        redacted_at_ms=event.decided_at_ms,
    )


def lifted(last: ChangeAnnounced, *, name: str | None) -> ChangeAnnounced:
    """The announcement that a hidden object may be read again; its copies are told of anew."""
    return replace(
        last,
        id=change_id(ChangeType.LIFTED, last.key, number=last.redacted_at_ms),
        type=ChangeType.LIFTED,
        sequence=last.sequence + 1,
        replica=None,
        name=name,
        reason=None,
        is_everywhere=False,
        is_redacted=False,
        copies=(),
    )


def announcements(
    last: ChangeAnnounced, copies: Iterable[KnownCopy], urls: Mapping[str, str]
) -> list[ChangeAnnounced]:
    """What is to be announced now; `last` is the key's last announcement.

    `urls` gives each replica's native address of the object.
    """
    known = {copy.replica: copy for copy in copies}
    if last.origin not in known:
        # The log's own record is the proof of the origin's copy (R1).
        known[last.origin] = KnownCopy(last.origin, 0, CopyState.PRESENT, last.written_at_ms)
    found: list[ChangeAnnounced] = []
    for name in sorted(known, key=lambda name: (name != last.origin, name)):
        copy = known[name]
        before = next((place for place in last.copies if place.replica == name), None)
        if before is not None and (before.state, before.incarnation) == (
            copy.state,
            copy.incarnation,
        ):
            continue
        if not (copy.state.is_settled or copy.state is CopyState.PARKED):
            continue
        if last.is_redacted and copy.state is CopyState.PRESENT:
            continue  # on its way out; when that is lifted it is told of
        place = CopyPlace(
            name, copy.incarnation, copy.state, urls.get(name, ""), copy.changed_at_ms
        )
        others = tuple(other for other in last.copies if other.replica != name)
        places = tuple(sorted((*others, place), key=lambda item: item.replica))
        kind = _TYPES.get(copy.state)
        if kind is None:  # excluded, redacted: part of the state, and no event of its own
            last = replace(last, copies=places)
            continue
        last = _next(last, kind, copy, places)
        found.append(last)
    if is_everywhere(last) and not last.is_everywhere:
        kind = ChangeType.REDACTED_EVERYWHERE if last.is_redacted else ChangeType.PRESENT_EVERYWHERE
        last = _next(last, kind, None, last.copies)
        found.append(replace(last, is_everywhere=True))
    return found


def is_everywhere(last: ChangeAnnounced) -> bool:
    """Whether every replica that was expected when the object was written is settled.

    What is redacted anywhere is on its way out: that it was everywhere is not said any more. Of
    what is hidden: whether every such replica has removed it.
    """
    states = {place.replica: place.state for place in last.copies}
    if last.is_redacted:
        return all(states.get(name) in _GONE for name in last.expected)
    return CopyState.REDACTED not in states.values() and all(
        name in states and states[name].is_settled for name in last.expected
    )


_GONE = frozenset({CopyState.REDACTED, CopyState.EXCLUDED})
_TYPES = {CopyState.PRESENT: ChangeType.PRESENT, CopyState.PARKED: ChangeType.PARKED}


def _next(
    last: ChangeAnnounced,
    kind: ChangeType,
    copy: KnownCopy | None,
    places: tuple[CopyPlace, ...],
) -> ChangeAnnounced:
    replica = copy.replica if copy is not None else None
    life = copy.incarnation if copy is not None else 0
    # A copy can be parked more than once; each time is another event. So is each return of an
    # object whose redaction was lifted.
    is_parked = copy is not None and kind is ChangeType.PARKED
    moment = copy.changed_at_ms if copy is not None and is_parked else last.redacted_at_ms
    return replace(
        last,
        id=change_id(kind, last.key, replica or "", life, moment),
        type=kind,
        sequence=last.sequence + 1,
        replica=replica,
        reason=copy.error if copy is not None and is_parked else None,
        copies=places,
    )


def change_id(kind: str, key: str, replica: str = "", incarnation: int = 0, number: int = 0) -> str:
    """The same for the same change after any crash; no `.` in it, as Standard Webhooks demand."""
    text = "\0".join([kind, key, replica, str(incarnation), str(number)])
    return "chg_" + hashlib.sha256(text.encode()).hexdigest()[:32]
