"""What a removal does to a replica, and what it says: every step on a store in memory."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from tests.unit.made import KEY

from tidestore.connectors.errors import ObjectMissingError
from tidestore.connectors.memory import MemoryStore
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import CopyChanged, CopyState
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import redacted_key
from tidestore.streams.decisions import Decision
from tidestore.streams.records import Identity, bare_record, wanted_of
from tidestore.streams.removal import Found, Removal, next_record, with_facts

BODY = b"test"
NOW = int(time.time() * 1000)
KEPT = Decision(is_redacted=True, lifted_number=0, reason="consent", purge_after_ms=2**42)
AT_ONCE = replace(KEPT, purge_after_ms=0)
LIFTED = replace(KEPT, is_redacted=False, lifted_number=1, purge_after_ms=0)
ASIDE = redacted_key(KEY)


def present() -> CopyChanged:
    record = bare_record(Identity("onprem", 1, "copies", 4), KEY, 7, NOW)
    sums = checksums_of(BODY)
    return replace(record, state=CopyState.PRESENT, size=sums.size, sha256=sums.sha256)


async def store_with(*keys: str) -> MemoryStore:
    store = MemoryStore("onprem")
    for key in keys:
        await store.put_if_absent(ObjectKey(key), BODY, checksums_of(BODY), content_type="x")
    return store


def due(record: CopyChanged | None) -> CopyChanged:
    """The record when its time has come."""
    assert record is not None
    assert record.next_try_at_ms is not None
    return replace(record, next_try_at_ms=NOW - 1)


async def holds(store: MemoryStore, key: str) -> bool:
    try:
        await store.head(ObjectKey(key))
    except ObjectMissingError:
        return False
    return True


async def test_a_receipt_comes_only_after_a_second_look_that_finds_nothing() -> None:
    """Goal: `redacted` is true. Method: bytes that a request under way puts back meanwhile."""
    store, removal = await store_with(KEY), Removal(MemoryStore("x"), look_seconds=60)
    removal = Removal(store, look_seconds=60)
    going = await removal.step(present(), AT_ONCE, "")
    assert going is not None
    assert going.state is CopyState.REDACTING
    assert (going.next_try_at_ms or 0) >= NOW + 60_000
    assert await removal.step(going, AT_ONCE, "") is None, "the second look has not come yet"
    await store.put_if_absent(ObjectKey(KEY), BODY, checksums_of(BODY), content_type="x")
    again = await removal.step(due(going), AT_ONCE, "")
    assert again is not None
    assert again.state is CopyState.REDACTING
    assert not await holds(store, KEY)
    gone = await removal.step(due(again), AT_ONCE, "")
    assert gone is not None
    assert (gone.state, gone.next_try_at_ms) == (CopyState.REDACTED, None)
    assert gone.error == "purged: consent"
    assert await removal.step(gone, AT_ONCE, "") is None, "a repeated event changes nothing"


async def test_within_the_grace_it_is_kept_aside_and_purged_at_its_end() -> None:
    """Goal: lifting is possible until the purge. Method: the steps of a removal, grace and end."""
    store = await store_with(KEY)
    removal = Removal(store, look_seconds=1)
    going = await removal.step(present(), KEPT, "")
    assert not await holds(store, KEY)
    assert await holds(store, ASIDE)
    kept = await removal.step(due(going), KEPT, "")
    assert kept is not None
    assert (kept.state, kept.next_try_at_ms) == (CopyState.REDACTED, KEPT.purge_after_ms)
    assert str(kept.error).startswith("kept aside until 2109-")
    assert await removal.step(kept, KEPT, "") is None
    assert await holds(store, ASIDE)
    purged = await removal.step(due(kept), AT_ONCE, "")
    assert purged is not None
    assert (purged.state, purged.next_try_at_ms) == (CopyState.REDACTED, None)
    assert not await holds(store, ASIDE)


async def test_what_is_lifted_is_put_back_as_it_was() -> None:
    """Goal: nothing is lost by a redaction that was wrong. Method: put back, twice, damaged."""
    store = await store_with(KEY)
    removal, wanted = Removal(store, look_seconds=1), wanted_of(present())
    assert await removal.put_back(wanted) is None, "nothing is kept"
    await removal.step(present(), KEPT, "")
    assert await removal.read_aside(wanted) == BODY
    info = await removal.put_back(wanted)
    assert info is not None
    assert info.size == len(BODY)
    assert await removal.put_back(wanted) is None, "killed before forget: it is back already"
    await removal.forget(ObjectKey(KEY))
    assert not await holds(store, ASIDE)
    bad = await store_with()
    await bad.put_if_absent(ASIDE, b"tent", checksums_of(b"tent"), content_type="x")
    removal = Removal(bad, look_seconds=1)
    assert await removal.put_back(wanted) is None, "damaged bytes come back nowhere"
    assert await removal.read_aside(wanted) is None
    assert not await holds(bad, KEY)


@pytest.mark.parametrize(
    "known", [None, replace(KEPT, is_redacted=False, lifted_number=1, purge_after_ms=0)]
)
async def test_without_a_decision_nothing_is_purged(known: Decision | None) -> None:
    """Goal: the log's word alone destroys nothing. Method: a step before the decision is known.

    Also when only the lift of an earlier one is: that once purged what was redacted again.
    """
    store = await store_with(KEY)
    going = await Removal(store, look_seconds=1).step(present(), known, "from the log")
    assert going is not None
    assert going.error == "from the log"
    assert not await holds(store, KEY)
    assert await holds(store, ASIDE)


def test_a_write_tells_a_bare_receipt_what_was_there() -> None:
    """Goal: a lift finds what to bring back. Method: the write, met before the lift is read."""
    bare = bare_record(Identity("aws", 1, "copies", 4), KEY, 7, NOW)
    gone = replace(bare, state=CopyState.REDACTED, next_try_at_ms=NOW, error="kept aside until x")
    event = replace(present(), state=CopyState.PENDING, log_offset=9)
    told = with_facts(gone, event)
    assert told is not None
    assert (told.state, told.next_try_at_ms, told.error) == (gone.state, NOW, gone.error)
    assert (told.sha256, told.size, told.log_offset) == (event.sha256, event.size, 9)
    assert with_facts(told, event) is None
    assert with_facts(gone, bare) is None


@pytest.mark.parametrize("error_class", ["network", "fault"])
def test_a_try_that_failed_is_no_second_look(error_class: str) -> None:
    """Goal: the look is late enough after a removal that was done. Method: a failed one."""
    failed = replace(
        present(), state=CopyState.REDACTING, error_class=error_class, next_try_at_ms=NOW - 1
    )
    record = next_record(failed, Found(0, NOW, 0, 1_000, "consent"))
    assert record is not None
    assert (record.state, record.next_try_at_ms) == (CopyState.REDACTING, NOW + 1_000)
    assert record.error_class is None
