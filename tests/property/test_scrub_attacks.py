"""Comparisons under attack: stores that list badly, stores full of other things, and bad moments.

Of each the question is the same: is anything told that is not so, or said that nobody has seen?
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest
from tests.property.scrub_world import ScrubWorld

from tidestore.connectors.errors import StoreDeniedError, StoreError, StoreThrottledError
from tidestore.connectors.layers import LayeredStore
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import CopyState
from tidestore.schemas.findings import FindingKind, FindingReported, Verdict
from tidestore.schemas.objects import PUBLIC, ObjectKey, blob_key
from tidestore.streams import scrub, scrub_view
from tidestore.streams.scrub import Outcome
from tidestore.streams.scrub_judge import Rules
from tidestore.streams.scrub_spool import PORTION, Spool, Suspicion, TooManyError

_DAY_MS = 24 * 3_600_000


@pytest.fixture
def world() -> Iterator[ScrubWorld]:
    found = ScrubWorld()
    yield found
    found.close()


class OddStore(LayeredStore):
    """Lists what it is told to beside its objects, fails where it is told to, counts its pages."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.odd: list[str] = []
        self.failures: list[StoreError] = []
        self.fails_after = 3
        self.listings: list[str] = []

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        self.listings.append(after)
        odd = iter(self.odd)
        count = 0
        async for info in super().list(prefix, after=after):
            if self.failures and count == self.fails_after:
                raise self.failures.pop()
            if (key := next(odd, None)) is not None:
                yield ObjectInfo(ObjectKey(key), 0, "e", 0)
            yield info
            count += 1


async def no_wait(seconds: float) -> None:
    del seconds
    await asyncio.sleep(0)


def compare(world: ScrubWorld, store: LayeredStore | None = None, **more: Any) -> Outcome:
    if store is not None:
        world.shown = store  # type: ignore[assignment]
    return asyncio.run(world.scrubber(sleep=no_wait, **more).run())


def kinds(outcome: Outcome) -> dict[str, str]:
    return {item.key: item.kind for item in outcome.findings}


def damage(world: ScrubWorld) -> dict[str, str]:
    """Forty objects, one lost, one altered, one dark, one redacted and still there."""
    keys = sorted(world.add(number) for number in range(40))
    world.drop(keys[3])
    world.put(keys[20], b"short")
    world.say_redacted(keys[30])
    dark, body = world.body(1_000)
    world.put(dark, body)
    world.put("notes.txt", b"a person's")
    return {keys[3]: "lost", keys[20]: "altered", keys[30]: "unredacted", dark: "dark"}


def test_a_persons_odd_names_in_any_order_are_none_of_our_business(world: ScrubWorld) -> None:
    """Goal: one odd key of somebody's does not end every comparison. Method: names out of order.

    obstore gives the folder marker `public/` as `public`, behind what begins with `public-`; Azure
    sorts by code units. What is wrong with ours is found all the same, and nothing else.
    """
    wrong = damage(world)
    store = OddStore(world.store)
    store.odd = ["zzz", "public", "", "a//b", "\U0001f600", "../x", ".tidestore/tmp/y", "\uff5e"]
    outcome = compare(world, store)
    assert kinds(outcome) == wrong
    assert outcome.counts.foreign == len(store.odd) + 1
    assert not outcome.report.reason


def test_ranges_find_what_one_listing_finds(
    world: ScrubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: a large store, listed in parallel. Method: the same damage, both ways; and counts."""
    wrong = damage(world)
    one = compare(world)
    monkeypatch.setattr(scrub_view, "_ONE_RANGE_ROWS", 10)
    store = OddStore(world.store)
    many = compare(world, store, ranges_at_once=4)
    assert len(store.listings) == 17
    assert kinds(one) == kinds(many) == wrong
    assert one.counts == many.counts
    monkeypatch.setattr(scrub_view, "_ONE_RANGE_ROWS", 1_000)
    store.listings.clear()
    compare(world, store, ranges_at_once=4)
    assert store.listings == [""], "a small store is worth one listing"


def test_a_page_that_is_refused_is_asked_for_again(world: ScrubWorld) -> None:
    """Goal: an hour's listing survives a refusal. Method: two throttled pages; one denied for good.

    It goes on behind the last key, so nothing is counted twice; what will not pass by itself ends
    the comparison with the store's own words, and nothing is said of the replica.
    """
    wrong = damage(world)
    store = OddStore(world.store)
    store.failures = [StoreThrottledError("list", "onprem", retry_after_seconds=2.0) for _ in "ab"]
    outcome = compare(world, store)
    assert kinds(outcome) == wrong
    assert outcome.counts.listed == 41
    assert len(store.listings) == 3
    said = world.log.end("scrubs", 0)
    store.failures = [StoreDeniedError("list", "onprem")]
    with pytest.raises(StoreDeniedError):
        compare(world, store)
    store.fails_after = 0
    store.failures = [StoreThrottledError("list", "onprem") for _ in range(20)]
    with pytest.raises(StoreThrottledError):
        compare(world, store)
    assert len(store.failures) == 14, "six in a row are enough"
    assert world.log.end("scrubs", 0) == said


def test_a_great_many_findings_are_handed_over_in_portions(
    world: ScrubWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: no bound of memory ends a repair. Method: more than a portion, nearly all in a file."""
    monkeypatch.setattr(scrub, "Spool", partial(Spool, held_max=50))
    monkeypatch.setattr(scrub, "FINDINGS_SHOWN", 10)
    keys = [world.add(number) for number in range(PORTION + 60)]
    for key in keys[1:]:
        world.drop(key)
    outcome = compare(world)
    assert outcome.report.verdict == Verdict.FINDINGS
    assert (outcome.report.lost, world.log.end("findings", 0)) == (PORTION + 59, PORTION + 59)
    assert (len(outcome.findings), outcome.findings_left_out) == (10, PORTION + 49)


def test_what_is_written_to_the_file_comes_back_as_it_was() -> None:
    """Goal: nothing is lost between memory and file. Method: two held, the others not; twice."""
    spool = Spool(held_max=2, suspicions_max=5)
    made = [
        Suspicion(FindingKind.LOST, f"k\n{number}", (1, number), "why\t\u00e9", 1, "e", 2)
        for number in range(4)
    ] + [Suspicion(FindingKind.DARK, "d", None, "")]
    for item in made:
        spool.add(item)
    assert list(spool) == list(spool) == made
    assert all(isinstance(item.kind, FindingKind) for item in spool)
    with pytest.raises(TooManyError):
        spool.add(made[0])
    spool.close()


def test_what_nobody_has_looked_at_is_not_vouched_for(world: ScrubWorld) -> None:
    """Goal: the signed sentence is true. Method: lost; another comparison's owner is quicker.

    Its record is another one at the second cut, so it is let go. It is corrupt by then: `all 20
    objects are here and equal` would be a lie.
    """
    keys = sorted(world.add(number) for number in range(21))
    world.drop(keys[5])
    calls = iter(range(1_000))

    def between() -> None:
        if next(calls) == 30:
            world.say_copy(keys[5], CopyState.CORRUPT)

    world.shown.between = between
    outcome = compare(world)
    assert outcome.findings == []
    assert (outcome.report.verdict, outcome.report.owed) == (Verdict.INCOMPLETE, 1)
    assert (outcome.report.expected, outcome.report.equal) == (20, 20)
    assert '"said":"20 of 20 objects' in outcome.report.statement


@pytest.mark.parametrize("is_there", [True, False])
def test_a_copy_that_is_newer_than_the_cut_counts_if_it_was_seen(
    world: ScrubWorld, *, is_there: bool
) -> None:
    """Goal: `up to cut P` holds for all up to P. Method: said again while the listing goes on.

    A record that is written again (an owner's answer to a late one) proves nothing about bytes.
    """
    keys = sorted(world.add(number) for number in range(20))
    if not is_there:
        world.drop(keys[-1])
    calls = iter(range(1_000))

    def between() -> None:
        if next(calls) == 4:
            world.say_copy(keys[-1], CopyState.PRESENT)

    world.shown.between = between
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scrub_view, "PAGE_ROWS", 2)
        report = compare(world).report
    wanted = (Verdict.EQUAL, 20, 0) if is_there else (Verdict.INCOMPLETE, 19, 1)
    assert (report.verdict, report.equal, report.owed) == wanted


def test_what_is_dark_where_gateways_write_now_is_never_moved(world: ScrubWorld) -> None:
    """Goal: design point 1 holds after the origin was moved. Method: found a day ago, then moved.

    The worker that compares was started before, and believes another replica to be the origin.
    """
    key = blob_key(PUBLIC, checksums_of(b"dark").sha256)
    world.put(key, b"dark")
    (first,) = compare(world).findings
    values = {name: getattr(first, name) for name in FindingReported.__slots__}
    values["first_found_at_ms"] -= _DAY_MS + 1
    world.log.append("findings", 0, f"onprem.1/{key}", FindingReported(**values))
    assert kinds(compare(world)) == {key: "quarantine"}
    world.say_origin("onprem")
    assert kinds(compare(world)) == {key: "dark"}


def test_two_comparisons_at_once_say_the_same_and_age_nothing(world: ScrubWorld) -> None:
    """Goal: a person's beside the timer's. Method: both at once, over the same damage."""
    wrong = damage(world)

    async def both() -> tuple[Outcome, Outcome]:
        return await asyncio.gather(world.scrubber().run(), world.scrubber().run())

    one, other = asyncio.run(both())
    assert kinds(one) == kinds(other) == wrong
    assert all(item.kind != "quarantine" for item in compare(world).findings)


def test_a_replica_without_objects_and_a_log_without_events_are_in_order(
    world: ScrubWorld,
) -> None:
    """Goal: nothing at all is nothing wrong. Method: both empty; then a log that lost its events.

    A replica full of objects beside an empty log is a wrong log: told, stopped, and nothing moved.
    """
    report = compare(world).report
    assert (report.verdict, report.expected, report.listed) == (Verdict.EQUAL, 0, 0)
    for number in range(9):
        key, body = world.body(number)
        world.put(key, body)
    world.rules = Rules()
    outcome = compare(world)
    assert outcome.report.verdict == Verdict.STOPPED
    assert world.log.end("findings", 0) == 0


def test_a_replica_that_is_being_filled_owes_and_has_no_damage(world: ScrubWorld) -> None:
    """Goal: a comparison during a backfill. Method: some not there, some there and not yet said.

    A replica of another life may hold all of it: that is owed until it is said, never dark.
    """
    for number in range(30):
        key, body = world.body(number)
        world.say_written(key)
        if number % 3:
            world.put(key, body)
        if number % 3 == 2:
            world.say_copy(key, CopyState.PENDING)
    outcome = compare(world)
    assert outcome.findings == []
    assert (outcome.report.verdict, outcome.report.owed) == (Verdict.INCOMPLETE, 30)
