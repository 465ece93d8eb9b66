"""One event for each released schema: what the golden bytes beside it mean.

Values are chosen so that a shift shows: no two fields of one type hold the same, numbers are of
several lengths in Avro's variable encoding, texts are not all ASCII. A new .avsc gets a sample
here, and its bytes in `bytes/`, by hand once; neither is ever changed afterwards.
"""

from __future__ import annotations

from typing import Final

from tidestore.schemas.events import (
    ChangeAnnounced,
    CopyChanged,
    CopyPlace,
    CopyState,
    CursorMoved,
    DeliveryAttempted,
    Event,
    HookRemoved,
    HookSaved,
    ObjectRedacted,
    ObjectWritten,
    OriginChosen,
    PartitionClaimed,
    RecordPoisoned,
    RedactionDecided,
    RedactionLifted,
    ReplicaRegistered,
    ReplicaRetired,
    RetryAsked,
    TaskChanged,
    TaskState,
)

_SHA256: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_UUID: Final = "6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d"
_BLOB: Final = f"public/blobs/{_SHA256}"
_FILE: Final = f"public/files/{_UUID}.2026-11-23T120000.000001Z"
_MS: Final = 1_795_435_200_000

SAMPLES: Final[dict[str, Event]] = {
    "object_written.v1": ObjectWritten(
        key=_BLOB,
        size=4,
        sha256=_SHA256,
        sha1="a94a8fe5ccb19ba61c4c0873d391e987982fbbd3",
        crc32c="86a072c0",
        md5="098f6bcd4621d373cade4e832627b4f6",
        content_type="text/plain; charset=utf-8",
        origin="aws",
        origin_epoch=300,
        written_at_ms=_MS,
        written_by="ingest",
        request_id="req-1",
        data=b"test",
    ),
    "object_redacted.v1": ObjectRedacted(
        key=_FILE,
        number=2,
        reason="consent withdrawn",
        decided_by="Zoë",
        decided_at_ms=_MS + 1,
        released_to=f"open/files/{_UUID}.2026-11-23T120000.000001Z",
    ),
    "redaction_decided.v1": RedactionDecided(
        target=f"public/files/{_UUID}",
        number=3,
        reason="同意の撤回",
        decided_by="admin",
        decided_at_ms=_MS + 2,
        purge_after_ms=_MS + 86_400_000,
        released_to=None,
    ),
    "redaction_lifted.v1": RedactionLifted(
        target=_BLOB, number=4, lifted_by="admin", lifted_at_ms=_MS + 3
    ),
    "copy_changed.v1": CopyChanged(
        key=_BLOB,
        replica="onprem",
        incarnation=2,
        state=CopyState.PARKED,
        claim=41,
        log_offset=1_234_567,
        size=5_368_709_120,
        sha256=_SHA256,
        content_type="application/gzip",
        origin="gcp",
        written_at_ms=_MS,
        changed_at_ms=_MS + 4,
        checksums="crc32c:86a072c0,md5:098f6bcd4621d373cade4e832627b4f6",
        attempts=6,
        next_try_at_ms=_MS + 5,
        error_class="checksum",
        error="put onprem: sha256 is other",
        waits_for=_FILE,
        waits_count=9_999,
        is_incomplete=True,
        request_id="req-2",
    ),
    "partition_claimed.v1": PartitionClaimed(worker="onprem-0/77", partition=3, claimed_at_ms=_MS),
    "replica_registered.v1": ReplicaRegistered(
        name="onprem", incarnation=2, url="file:///data/replica", registered_at_ms=_MS + 6
    ),
    "replica_retired.v1": ReplicaRetired(
        name="aws", incarnation=1, reason="closed", retired_at_ms=_MS + 7
    ),
    "origin_chosen.v1": OriginChosen(replica="gcp", epoch=8, chosen_at_ms=_MS + 8),
    "change_announced.v1": ChangeAnnounced(
        id="chg_0123456789abcdef0123456789abcdef",
        type="object.present",
        key=_FILE,
        sequence=3,
        size=270,
        sha256=_SHA256,
        content_type="application/json",
        log_offset=70_000,
        claim=12,
        written_at_ms=_MS,
        announced_at_ms=_MS + 9,
        origin="aws",
        replica="gcp",
        name="読み.fastq.gz",
        reason="",
        is_everywhere=True,
        request_id="req-3",
        expected=("aws", "gcp"),
        copies=(
            CopyPlace("aws", 1, CopyState.PRESENT, "s3://bucket/key", _MS + 10),
            CopyPlace("gcp", 5, CopyState.REDACTING, "gs://other/key", _MS + 11),
        ),
    ),
    "hook_saved.v1": HookSaved(
        hook_id="hook_1",
        url="https://example.org/in",
        events=("object.written", "*"),
        dataset="public",
        secret_sealed=bytes(range(40)),
        is_active=True,
        start_cut="1:5.0.70000",
        created_by="ana",
        created_at_ms=_MS + 12,
        updated_at_ms=_MS + 13,
    ),
    "hook_removed.v1": HookRemoved(hook_id="hook_2", removed_by="ben", removed_at_ms=_MS + 14),
    "cursor_moved.v1": CursorMoved(
        hook_id="hook_3",
        partition=5,
        offset_next=65_536,
        claim=64,
        moved_at_ms=_MS + 15,
        attempt=2,
        next_try_at_ms=_MS + 16,
        last_status=503,
        last_error="answered 503",
        delivered=129,
    ),
    "delivery_attempted.v1": DeliveryAttempted(
        hook_id="hook_4",
        delivery_id="chg_fedcba9876543210fedcba9876543210",
        change_type="object.parked",
        key=_BLOB,
        attempt=7,
        attempted_at_ms=_MS + 17,
        duration_ms=20_000,
        status=None,
        error="TimeoutError: ",
        response="<html>",
    ),
    "task_changed.v1": TaskChanged(
        task_id="task_1",
        state=TaskState.RUNNING,
        lease=2,
        lease_until_ms=_MS + 30_000,
        owner="gateway-1",
        request='{"source_url":"s3://staging/a"}',
        created_at_ms=_MS + 18,
        changed_at_ms=_MS + 19,
        bytes_done=1_048_576,
        bytes_total=6_291_456,
        cause="",
        result=None,
    ),
    "record_poisoned.v1": RecordPoisoned(
        topic="tidestore.log",
        partition=2,
        offset=17,
        key=_BLOB,
        reason="3 bytes are left over",
        met_by="aws-0",
        met_at_ms=_MS + 20,
        raw=b"\x00\x00\x00\x00\x01\xff\xfe",
    ),
    "retry_asked.v1": RetryAsked(
        key=_BLOB,
        replica="onprem",
        incarnation=3,
        changed_at_ms=_MS + 21,
        asked_by="Zoë",
        asked_at_ms=_MS + 22,
        reason="the source is mended",
    ),
}
