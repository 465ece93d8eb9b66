"""What one replica must do about one object.

Pure: the same event, copy and rules always give the same plan. The mover carries it out.

    what the log says            and the copy is          plan
    ---------------------------  -----------------------  -----------------------------------
    ObjectWritten                written here (origin)    Nothing: the event is the proof (R1)
    ObjectWritten                any state at all         Nothing: a repeated event
    ObjectWritten                redacted by decision     Remove: whatever came late
    ObjectWritten, lifted        going or gone            CopyLater: bring it back
    ObjectWritten, no root here  none yet                 Exclude, until a root refers to it
    ObjectWritten, small         none yet                 CopyNow
    ObjectWritten, large         none yet                 CopyLater: the durable lane
    ObjectRedacted               going or gone            Nothing: a repeated event
    ObjectRedacted, lifted       anything                 Nothing: an older word than the lift
    ObjectRedacted               anything else            Remove
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tidestore.schemas.events import CopyState, ObjectRedacted, ObjectWritten
from tidestore.schemas.filters import EVERYTHING, ReplicaFilter

# A larger object goes through the durable lane. What is at most this large is held in memory
# whole, so it also bounds what one small copy can cost.
SMALL_BYTES_MAX: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is nothing to do; the record is finished."""


@dataclass(frozen=True, slots=True)
class CopyNow:
    """Copy at once, out of memory."""


@dataclass(frozen=True, slots=True)
class CopyLater:
    """Write a pending record; the lane for large objects takes it from there."""


@dataclass(frozen=True, slots=True)
class Remove:
    """Make the object go away here."""

    reason: str


@dataclass(frozen=True, slots=True)
class Exclude:
    """Say that the replica is not to have it."""


Plan = Nothing | CopyNow | CopyLater | Remove | Exclude


def plan_object(
    event: ObjectWritten | ObjectRedacted,
    *,
    replica: str,
    state: CopyState | None,
    is_redacted: bool,
    is_lifted: bool = False,
    chosen: ReplicaFilter = EVERYTHING,
) -> Plan:
    """The plan for one event. `state` is the copy's on this replica, None when it has none.

    `is_lifted`: a redaction of the key, of the event's own number or a later one, was taken back.
    `chosen`: what the replica is to have.
    """
    is_going = state in (CopyState.REDACTING, CopyState.REDACTED)
    if isinstance(event, ObjectRedacted):
        # What is going goes on by its own record; what is gone stays so.
        if is_going or (is_lifted and not is_redacted):
            return Nothing()
        return Remove(event.reason)
    if is_redacted:
        # A gateway that was frozen may append after the redaction; the decision wins.
        return Remove("redacted before this write was folded")
    if is_lifted and is_going:
        # Whether anything referred to it before is not known any more: what may be here comes back.
        return CopyLater() if chosen.may_hold(event.key) else Exclude()
    if event.origin == replica:
        return Nothing()
    if state is not None:
        # Every other state is driven by its own record: a due time, an awaited child, a person's
        # retry. The log's record was finished when that state was written.
        return Nothing()
    if not chosen.is_root(event.key):
        return Exclude()
    if event.data is None and event.size > SMALL_BYTES_MAX:
        return CopyLater()
    return CopyNow()
