"""Copies records in their several states. Pure: the moment is stamped when a record is sent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import Checksums, checksums_from, checksums_text
from tidestore.schemas.events import CopyChanged, CopyState, ObjectWritten
from tidestore.schemas.filters import EVERYTHING, ReplicaFilter
from tidestore.schemas.objects import ObjectKey, Sha256


@dataclass(frozen=True, slots=True)
class Identity:
    """Which replica, in which life, and where its copies are recorded."""

    replica: str
    incarnation: int
    topic: str
    partitions: int
    # What the replica is to have, in this life.
    chosen: ReplicaFilter = EVERYTHING


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to be here: enough to find the bytes elsewhere and to prove them."""

    key: ObjectKey
    size: int
    sha256: str
    content_type: str
    origin: str
    sums: Checksums | None
    log_offset: int = 0
    written_at_ms: int = 0


def record_of(identity: Identity, event: ObjectWritten, log_offset: int) -> CopyChanged:
    """A pending record for an event; claim and moment are filled in when it is sent."""
    sums = sums_of(event)
    return CopyChanged(
        key=event.key,
        replica=identity.replica,
        incarnation=identity.incarnation,
        state=CopyState.PENDING,
        claim=0,
        log_offset=log_offset,
        size=event.size,
        sha256=event.sha256,
        content_type=event.content_type,
        origin=event.origin,
        written_at_ms=event.written_at_ms,
        changed_at_ms=0,
        checksums=checksums_text(sums),
        request_id=event.request_id,
    )


def bare_record(identity: Identity, key: str, log_offset: int, now_ms: int) -> CopyChanged:
    """A record for a key of which nothing but the key is known."""
    return CopyChanged(
        key=key,
        replica=identity.replica,
        incarnation=identity.incarnation,
        state=CopyState.PENDING,
        claim=0,
        log_offset=log_offset,
        size=0,
        sha256="",
        content_type="",
        origin="",
        written_at_ms=now_ms,
        changed_at_ms=0,
    )


def fresh(record: CopyChanged, state: CopyState) -> CopyChanged:
    """The record in a new state, without what belonged to the old one.

    An open upload belongs to the pending copy, whatever happened to its last try.
    """
    is_pending = state is CopyState.PENDING
    return replace(
        record,
        state=state,
        next_try_at_ms=None,
        error_class=None,
        error=None,
        waits_for=None,
        waits_count=0,
        is_incomplete=False,
        upload=record.upload if is_pending else "",
        bytes_done=record.bytes_done if is_pending else None,
    )


def brought_record(record: CopyChanged, chosen: ReplicaFilter, now_ms: int) -> CopyChanged:
    """The record of a copy that is to come after all, if it may: due at once, so it is durable."""
    if not chosen.may_hold(record.key):
        return fresh(record, CopyState.EXCLUDED)
    return replace(fresh(record, CopyState.PENDING), next_try_at_ms=now_ms)


def present_record(record: CopyChanged, info: ObjectInfo, *, is_incomplete: bool) -> CopyChanged:
    """The record of a copy that is there, with what its store says of the bytes."""
    said = ",".join(f"{name}:{hex_}" for name, hex_ in sorted(info.checksums.items()))
    present = fresh(record, CopyState.PRESENT)
    return replace(present, checksums=said, is_incomplete=is_incomplete)


def sums_of(event: ObjectWritten) -> Checksums:
    """The checksums that an event announces."""
    return Checksums(event.size, Sha256(event.sha256), event.sha1, event.crc32c, event.md5)


def wanted_of(record: CopyChanged) -> Wanted:
    """What a record says has to be here."""
    return Wanted(
        key=ObjectKey(record.key),
        size=record.size,
        sha256=record.sha256,
        content_type=record.content_type,
        origin=record.origin,
        sums=checksums_from(record.size, record.sha256, record.checksums),
        log_offset=record.log_offset,
        written_at_ms=record.written_at_ms,
    )
