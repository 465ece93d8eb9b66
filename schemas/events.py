"""Every record that is written to a topic, as a frozen value.

One class per Avro record; a test proves that its fields match the newest .avsc of the same name.
Moments are milliseconds since 1970 UTC (`_ms`), by the clock of who wrote the record.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import get_args

from tidestore.schemas.audit import AuditRecorded
from tidestore.schemas.canaries import CanaryProved, CanarySent
from tidestore.schemas.datasets import DatasetRegistered
from tidestore.schemas.findings import FindingReported, ReadbackMoved, ScrubReported
from tidestore.schemas.generations import GenerationChanged
from tidestore.schemas.objectives import ObjectiveChanged
from tidestore.schemas.parties import PartyRemoved, PartySaved, ReceiptClaimed
from tidestore.schemas.ticks import PartitionTicked


class CopyState(StrEnum):
    """The state of one object on one replica; design section 1."""

    PENDING = "pending"
    WAITING = "waiting"
    PRESENT = "present"
    PARKED = "parked"
    CORRUPT = "corrupt"
    EXCLUDED = "excluded"
    REDACTING = "redacting"
    REDACTED = "redacted"

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is to come, so that what refers to this copy may appear (R5)."""
        return self in _SETTLED


_SETTLED = frozenset({CopyState.PRESENT, CopyState.EXCLUDED, CopyState.REDACTED})


class TaskState(StrEnum):
    """The life of a task: `running` is owned by a gateway until its lease ends."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether the task will not change again."""
        return self in (TaskState.SUCCEEDED, TaskState.FAILED)


class ChangeType(StrEnum):
    """What a change on the feed says; the names that hooks subscribe to."""

    WRITTEN = "object.written"
    PRESENT = "object.present"
    PRESENT_EVERYWHERE = "object.present_everywhere"
    PARKED = "object.parked"
    REDACTED = "object.redacted"
    REDACTED_EVERYWHERE = "object.redacted_everywhere"
    LIFTED = "object.lifted"


@dataclass(frozen=True, slots=True)
class ObjectWritten:
    """An object lies at the origin, verified (R1). `data` holds its bytes when they are few."""

    key: str
    size: int
    sha256: str
    sha1: str
    crc32c: str
    md5: str
    content_type: str
    origin: str
    origin_epoch: int
    written_at_ms: int
    written_by: str
    request_id: str
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class ObjectRedacted:
    """An object goes away, everywhere. `number` counts the decisions on this target."""

    key: str
    number: int
    reason: str
    decided_by: str
    decided_at_ms: int
    released_to: str | None = None


@dataclass(frozen=True, slots=True)
class RedactionDecided:
    """The truth about a redaction, written before anything else happens.

    `target` is an object key, or `<dataset>/<kind>s/<uuid>` for all versions, future ones too.
    `because_of` is the file that took this blob along; None when the target itself was named.
    """

    target: str
    number: int
    reason: str
    decided_by: str
    decided_at_ms: int
    purge_after_ms: int
    released_to: str | None = None
    because_of: str | None = None


@dataclass(frozen=True, slots=True)
class RedactionLifted:
    """A redaction was taken back within its grace period."""

    target: str
    number: int
    lifted_by: str
    lifted_at_ms: int


@dataclass(frozen=True, slots=True)
class CopyChanged:
    """One object's copy on one replica got a new state.

    `claim` is the offset of the claim under which the writer held the partition: a record with an
    older claim than the partition's newest came late and is ignored by every view.

    `upload` is how the store finds the copy's open upload again, "" when it has none; `bytes_done`
    how much of it was stored when the record was written. Both belong to a pending copy.
    """

    key: str
    replica: str
    incarnation: int
    state: CopyState
    claim: int
    log_offset: int
    size: int
    sha256: str
    content_type: str
    origin: str
    written_at_ms: int
    changed_at_ms: int
    checksums: str = ""
    attempts: int = 0
    next_try_at_ms: int | None = None
    error_class: str | None = None
    error: str | None = None
    waits_for: str | None = None
    waits_count: int = 0
    is_incomplete: bool = False
    request_id: str = ""
    upload: str = ""
    bytes_done: int | None = None


@dataclass(frozen=True, slots=True)
class PartitionClaimed:
    """A worker took a partition; this record's own offset is the claim."""

    worker: str
    partition: int
    claimed_at_ms: int


@dataclass(frozen=True, slots=True)
class ReplicaRegistered:
    """A replica exists, in this life since `registered_at_ms`, at this address: no secrets.

    `filter` says which objects it is to have (filters.py); it stays the same within a life.
    """

    name: str
    incarnation: int
    url: str
    registered_at_ms: int
    options: str = ""
    credential: str = ""
    is_paused: bool = False
    changed_by: str = ""
    reason: str = ""
    filter: str = ""


@dataclass(frozen=True, slots=True)
class ReplicaRetired:
    """A replica is no longer served."""

    name: str
    incarnation: int
    reason: str
    retired_at_ms: int


@dataclass(frozen=True, slots=True)
class OriginChosen:
    """The replica that gateways write to. Only the newest epoch may be written under."""

    replica: str
    epoch: int
    chosen_at_ms: int


@dataclass(frozen=True, slots=True)
class CopyPlace:
    """One copy as a change shows it. `url` is the cloud's own address, without credentials."""

    replica: str
    incarnation: int
    state: CopyState
    url: str
    changed_at_ms: int


@dataclass(frozen=True, slots=True)
class ChangeAnnounced:
    """One thing happened to one object; carries the object's whole present state.

    `sequence` counts the changes of this key. `id` is the same after any crash, so a repeat is
    known; a record whose `claim` is older than its partition's newest came from a frozen worker
    and is passed over. `type` is a ChangeType, kept as text: an older reader passes over a type it
    does not know, it need not stop for it. `expected` are the replicas that were enabled when the
    write was folded. `redacted_at_ms` is the moment of the newest decision that hid it, 0 if none
    ever did; while it is hidden, `is_everywhere` says that it is gone from all that are expected.
    """

    id: str
    type: str
    key: str
    sequence: int
    size: int
    sha256: str
    content_type: str
    log_offset: int
    claim: int
    written_at_ms: int
    announced_at_ms: int
    origin: str
    replica: str | None = None
    name: str | None = None
    reason: str | None = None
    is_everywhere: bool = False
    request_id: str = ""
    expected: tuple[str, ...] = ()
    copies: tuple[CopyPlace, ...] = ()
    is_redacted: bool = False
    redacted_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class HookSaved:
    """A webhook as it stands. The secret is sealed; the start cut is resolved when it is made."""

    hook_id: str
    url: str
    events: tuple[str, ...]
    dataset: str
    secret_sealed: bytes
    is_active: bool
    start_cut: str
    created_by: str
    created_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class HookRemoved:
    """A webhook was deleted; nothing more is sent to it."""

    hook_id: str
    removed_by: str
    removed_at_ms: int


@dataclass(frozen=True, slots=True)
class CursorMoved:
    """How far one hook has come on one partition of the feed, and what it is waiting for."""

    hook_id: str
    partition: int
    offset_next: int
    claim: int
    moved_at_ms: int
    attempt: int = 0
    next_try_at_ms: int | None = None
    last_status: int | None = None
    last_error: str | None = None
    delivered: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryAttempted:
    """One HTTP try of one delivery."""

    hook_id: str
    delivery_id: str
    change_type: str
    key: str
    attempt: int
    attempted_at_ms: int
    duration_ms: int
    status: int | None = None
    error: str | None = None
    response: str = ""


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """A long write that a gateway carries out; any gateway can answer for it and take it over.

    `lease` grows with each owner: a record with an older lease than the newest came late.
    """

    task_id: str
    state: TaskState
    lease: int
    lease_until_ms: int
    owner: str
    request: str
    created_at_ms: int
    changed_at_ms: int
    bytes_done: int = 0
    bytes_total: int | None = None
    cause: str | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class RecordPoisoned:
    """A record that broke under a known schema: set aside, so that its partition goes on."""

    topic: str
    partition: int
    offset: int
    key: str
    reason: str
    met_by: str
    met_at_ms: int
    raw: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class RetryAsked:
    """Somebody asks that a parked copy be tried again.

    `changed_at_ms` is that of the parked record which is meant: once the copy has another record,
    the request is done. It is compared for equality alone, so no two clocks are.
    """

    key: str
    replica: str
    incarnation: int
    changed_at_ms: int
    asked_by: str
    asked_at_ms: int
    reason: str | None = None


Event = (
    ObjectWritten
    | ObjectRedacted
    | RedactionDecided
    | RedactionLifted
    | CopyChanged
    | PartitionClaimed
    | ReplicaRegistered
    | ReplicaRetired
    | OriginChosen
    | ChangeAnnounced
    | HookSaved
    | HookRemoved
    | CursorMoved
    | DeliveryAttempted
    | TaskChanged
    | RecordPoisoned
    | RetryAsked
    | FindingReported
    | ScrubReported
    | ReadbackMoved
    | ObjectiveChanged
    | PartitionTicked
    | CanarySent
    | CanaryProved
    | GenerationChanged
    | DatasetRegistered
    | AuditRecorded
    | PartySaved
    | PartyRemoved
    | ReceiptClaimed
)

EVENT_TYPES: tuple[type[Event], ...] = get_args(Event)
