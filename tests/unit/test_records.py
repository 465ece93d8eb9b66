"""streams/records.py: what a record of a copy carries from state to state."""

from __future__ import annotations

from dataclasses import fields

from tests.unit.made import KEY, copy, written

from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import CopyState
from tidestore.streams.records import (
    Identity,
    bare_record,
    fresh,
    record_of,
    sums_of,
    wanted_of,
)

_IDENTITY = Identity("onprem", 3, "copies.onprem.3", 6)


def test_a_record_of_an_event_is_enough_to_copy_it_later() -> None:
    """Goal: the durable lane needs no log. Method: from event to record to what is wanted."""
    event = written(b"test")
    record = record_of(_IDENTITY, event, 17)
    assert (record.state, record.log_offset, record.incarnation) == (CopyState.PENDING, 17, 3)
    assert (record.claim, record.changed_at_ms) == (0, 0), "stamped when it is sent"
    assert record.request_id == "r1"
    wanted = wanted_of(record)
    assert wanted.sums == checksums_of(b"test") == sums_of(event)
    assert (wanted.key, wanted.size, wanted.origin) == (event.key, 4, "aws")
    assert (wanted.sha256, wanted.content_type) == (event.sha256, "text/plain")


def test_a_record_without_all_checksums_still_names_its_bytes() -> None:
    """Goal: an old record can be copied. Method: one with a store's own checksum alone."""
    wanted = wanted_of(copy(checksums="md5:x"))
    assert wanted.sums is None
    assert wanted.sha256 == checksums_of(b"test").sha256


def test_a_bare_record_holds_the_key_alone() -> None:
    """Goal: a poisoned record's key gets a state. Method: what is known of it."""
    record = bare_record(_IDENTITY, KEY, 5, 123)
    assert (record.key, record.replica, record.log_offset) == (KEY, "onprem", 5)
    assert (record.written_at_ms, record.size, record.sha256) == (123, 0, "")


def test_a_new_state_keeps_the_object_and_the_count_and_nothing_of_the_old_state() -> None:
    """Goal: no stale reason stays. Method: fill everything, change the state, compare."""
    before = copy(
        state=CopyState.PARKED,
        attempts=4,
        next_try_at_ms=1,
        error_class="child",
        error="x",
        waits_for="y",
        waits_count=2,
        is_incomplete=True,
        checksums="md5:x",
        request_id="r",
    )
    after = fresh(before, CopyState.PENDING)
    cleared = {"next_try_at_ms", "error_class", "error", "waits_for"}
    assert {name for name in cleared if getattr(after, name) is None} == cleared
    assert (after.waits_count, after.is_incomplete) == (0, False)
    assert after.state is CopyState.PENDING
    kept = {item.name for item in fields(before)} - cleared
    for name in kept - {"state", "waits_count", "is_incomplete"}:
        assert getattr(after, name) == getattr(before, name)
