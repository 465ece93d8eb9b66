"""A large copy's journal: what it writes, when, and what becomes of an upload that is given up."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.unit.made import copy, written

from tidestore.connectors.azure import AZURE_CAPABILITIES
from tidestore.connectors.azure_upload import BlockUpload
from tidestore.connectors.errors import ObjectTooLargeError, StoreUnreachableError
from tidestore.connectors.gcs import GCS_CAPABILITIES
from tidestore.connectors.gcs_upload import GcsUpload
from tidestore.connectors.memory import MEMORY_CAPABILITIES, MemoryStore
from tidestore.connectors.parts import GIB, TIB, PartedUpload, part_size
from tidestore.connectors.s3 import S3_CAPABILITIES
from tidestore.connectors.s3_upload import S3Upload
from tidestore.connectors.store import Capabilities
from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.schemas.objects import ObjectKey
from tidestore.streams.asking import Asking
from tidestore.streams.records import Identity, fresh, record_of, wanted_of
from tidestore.streams.sources import Sources, refuse_too_large
from tidestore.streams.uploads import (
    PROGRESS_SECONDS,
    RESUMABLE_BYTES_MIN,
    CopyJournal,
    OpenUploads,
    PartitionLostError,
    journal_of,
)

PENDING = copy(state=CopyState.PENDING, size=RESUMABLE_BYTES_MIN, attempts=3)


class _Log:
    """Takes records; can be slow, or refuse because the partition is lost."""

    def __init__(self) -> None:
        self.records: list[CopyChanged] = []
        self.is_held = True
        self.gate = asyncio.Event()
        self.gate.set()
        self.now = 100.0

    async def write(self, record: CopyChanged) -> bool:
        await self.gate.wait()
        if self.is_held:
            self.records.append(record)
        return self.is_held

    def journal(self, record: CopyChanged = PENDING) -> CopyJournal:
        return CopyJournal(record, self.write, lambda: self.now)


async def test_the_token_is_confirmed_before_anything_is_sent() -> None:
    """Goal: the next owner finds the upload. Method: the record that `begun` wrote."""
    log = _Log()
    journal = log.journal()
    assert journal.token == ""
    await journal.begun("u1")
    (said,) = log.records
    assert (said.state, said.upload, said.bytes_done) == (CopyState.PENDING, "u1", 0)
    assert said.attempts == 3, "tries are not forgotten"
    assert said.next_try_at_ms is not None, "due for whoever takes the partition over"
    assert log.journal(said).token == "u1"


async def test_a_worker_that_lost_the_partition_stops() -> None:
    """Goal: no upload that nobody names. Method: a log that refuses the record."""
    log = _Log()
    log.is_held = False
    with pytest.raises(PartitionLostError):
        await log.journal().begun("u1")


async def test_progress_is_told_now_and_then_and_never_behind_the_outcome() -> None:
    """Goal: a bounded number of records. Method: a thousand parts, a slow log, a given clock."""
    log = _Log()
    journal = log.journal()
    await journal.begun("u1")
    for part in range(1, 1001):
        journal.stored(part)
    await asyncio.sleep(0)
    assert len(log.records) == 1
    log.now += PROGRESS_SECONDS
    log.gate.clear()
    journal.stored(1001)
    log.now += PROGRESS_SECONDS
    journal.stored(1002)  # one at a time
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    assert not closing.done()
    log.gate.set()
    await closing
    assert [record.bytes_done for record in log.records] == [0, 1001]
    assert log.records[-1].upload == "u1"


async def test_only_large_copies_have_a_journal() -> None:
    """Goal: a small copy costs no record more. Method: sizes at the bound and below."""
    log = _Log()
    async with journal_of(PENDING, log.write) as journal:
        assert journal is not None
    smaller = copy(state=CopyState.PENDING, size=RESUMABLE_BYTES_MIN - 1)
    async with journal_of(smaller, log.write) as journal:
        assert journal is None


@pytest.mark.parametrize("state", list(CopyState))
def test_only_a_pending_copy_has_an_upload(state: CopyState) -> None:
    """Goal: no settled copy keeps an upload from the sweep. Method: every state."""
    before = copy(state=CopyState.PENDING, upload="u1", bytes_done=7)
    after = fresh(before, state)
    is_kept = state is CopyState.PENDING
    assert (after.upload, after.bytes_done) == (("u1", 7) if is_kept else ("", None))


class _Target(MemoryStore):
    """Notes aborts; may not be there."""

    def __init__(self) -> None:
        super().__init__("onprem")
        self.aborted: list[tuple[str, str]] = []
        self.is_down = False

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        if self.is_down:
            raise StoreUnreachableError("abort", self.name, key)
        self.aborted.append((key, token))


class _Known:
    """The newest record of every key."""

    def __init__(self, newest: CopyChanged | None) -> None:
        self._newest = newest

    def find_record(self, key: str) -> CopyChanged | None:
        del key
        return self._newest


async def test_what_is_given_up_is_aborted_by_its_newest_token() -> None:
    """Goal: a parked copy leaves no parts. Method: a token that was begun after the first look."""
    target = _Target()
    newest = copy(state=CopyState.PENDING, upload="u2", bytes_done=9)
    uploads = OpenUploads(target, _Known(newest))  # type: ignore[arg-type]
    assert uploads.remember(PENDING).upload == "u2"
    assert uploads.remember(PENDING).attempts == 3
    await uploads.abort(PENDING)
    assert target.aborted == [(PENDING.key, "u2")]
    target.is_down = True
    await uploads.abort(PENDING)  # the sweep's, then
    nothing = OpenUploads(_Target(), _Known(None))  # type: ignore[arg-type]
    assert nothing.remember(newest) == newest


async def test_what_a_store_does_not_take_is_refused_before_a_byte_is_read() -> None:
    """Goal: parked with its reason, not tried for a week. Method: at the limit and at limit + 1."""
    most = 10
    target = MemoryStore("onprem", replace(MEMORY_CAPABILITIES, object_bytes_max=most))
    source = MemoryStore("aws")
    asking = Asking(target.name, {store.name: store for store in (target, source)})
    sources = Sources(asking, copies_in_flight=1, copy_bytes_in_flight=100, large_in_flight=1)
    identity = Identity("onprem", 1, "copies.onprem.1", 4)
    for size in (most, most + 1):
        event = written(bytes(size))
        wanted = wanted_of(record_of(identity, event, 0))
        await source.put_if_absent(wanted.key, bytes(size), wanted.sums, content_type="x/y")  # type: ignore[arg-type]
        if size == most:
            assert (await sources.copy(target, wanted)).size == most
            continue
        with pytest.raises(ObjectTooLargeError) as caught:
            await sources.copy(target, wanted)
        assert f"{most + 1} bytes" in str(caught.value)
        assert caught.value.error_class == "too_large"


@pytest.mark.parametrize(
    ("upload", "capabilities", "most"),
    [
        (S3Upload, S3_CAPABILITIES, 10_000 * GIB),
        (GcsUpload, GCS_CAPABILITIES, 5 * TIB),
        (BlockUpload, AZURE_CAPABILITIES, 50_000 * GIB),
    ],
)
def test_each_cloud_refuses_one_byte_more_than_it_takes(
    upload: type[PartedUpload], capabilities: Capabilities, most: int
) -> None:
    """Goal: each adapter says its own limit, and keeps to it. Method: limit and limit + 1.

    S3 and Azure would take more than this in parts that are too large to be held in memory.
    """
    assert capabilities.object_bytes_max == most
    target = MemoryStore("cloud", capabilities)
    wanted = wanted_of(record_of(Identity("cloud", 1, "copies", 4), written(b""), 0))
    refuse_too_large(target, replace(wanted, size=most))
    with pytest.raises(ObjectTooLargeError):
        refuse_too_large(target, replace(wanted, size=most + 1))
    assert part_size(most, upload.limits) * upload.limits.parts_max >= most
    with pytest.raises(ValueError, match=str(most)):
        part_size(most + 1, upload.limits)
