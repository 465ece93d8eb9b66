"""Comparisons against the truth: what is wrong is found, and nothing else is."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.property.scrub_world import PARTS, ScrubWorld

from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.events import CopyState
from tidestore.schemas.objects import ObjectKey
from tidestore.streams import scrub_view
from tidestore.streams.scrub_compare import Comparison, DisorderError, Duty, Expected

_NAMES = [f"public/blobs/{number:064x}" for number in range(12)]
_FOREIGN = ["notes.txt", "other/prefix/public/blobs/x", ".tidestore/damaged/a@b", "public/blobs/no"]
# What is there: nothing, the right bytes, another size, another checksum.
_THERE = st.sampled_from(["nothing", "right", "size", "md5"])


def _listed(key: str, there: str) -> ObjectInfo:
    size = 7 if there == "size" else 4
    return ObjectInfo(ObjectKey(key), size, "e", 0, {"md5": "bad" if there == "md5" else "good"})


def _truth(duty: Duty | None, there: str) -> str | None:
    """What is wrong, said without any merge."""
    if there == "nothing":
        return "lost" if duty is Duty.PRESENT else None
    if duty is None:
        return "dark"
    if duty is Duty.GONE:
        return "unredacted"
    return "altered" if duty is Duty.PRESENT and there != "right" else None


@given(
    keys=st.dictionaries(
        st.sampled_from(_NAMES), st.tuples(st.sampled_from([None, *Duty]), _THERE), max_size=12
    ),
    foreign=st.sets(st.sampled_from(_FOREIGN)),
)
def test_the_merge_finds_what_is_wrong_and_nothing_else(
    keys: dict[str, tuple[Duty | None, str]], foreign: set[str]
) -> None:
    """Goal: lost, altered, dark, unredacted, exactly. Method: any two sides, judged key by key."""
    expected = [
        Expected(key, duty, 4, "", "good", (1, 2))
        for key, (duty, _) in sorted(keys.items())
        if duty is not None
    ]
    there = [(key, there) for key, (_, there) in keys.items() if there != "nothing"]
    comparison = Comparison(iter(expected))
    for key, what in sorted([*there, *((key, "right") for key in foreign)]):
        comparison.take(_listed(key, what))
    comparison.finish()
    truth = {key: found for key, of in keys.items() if (found := _truth(*of)) is not None}
    assert {item.key: item.kind.value for item in comparison.suspicions} == truth
    counts = comparison.counts
    there_by = {duty: [there for each, there in keys.values() if each is duty] for duty in Duty}
    present, changed = there_by[Duty.PRESENT], there_by[Duty.CHANGED]
    # What is newer than the cut counts when it is there and right, and is owed else.
    assert counts.expected == len(present) + changed.count("right")
    assert counts.equal == counts.by_checksum == (present + changed).count("right")
    assert counts.owed == len(there_by[Duty.OWED]) + len(changed) - changed.count("right")
    assert counts.foreign == len(foreign)
    assert counts.listed == len(there) + len(foreign)


def test_a_listing_out_of_order_is_no_finding() -> None:
    """Goal: such a store would make everything look lost. Method: two keys, the wrong way round."""
    comparison = Comparison(iter(()))
    comparison.take(_listed(_NAMES[1], "right"))
    for key in (_NAMES[0], _NAMES[1]):
        with pytest.raises(DisorderError):
            comparison.take(_listed(key, "right"))


def test_a_gap_of_any_length_leaves_others_their_turns() -> None:
    """Goal: an emptied bucket does not hold up a worker. Method: count what one call does."""
    keys = [f"public/blobs/{number:064x}" for number in range(1_300)]
    wanted = [Expected(key, Duty.PRESENT, 4, "", "good", (1, 2)) for key in keys]
    comparison = Comparison(iter(wanted))
    turns = [len(comparison.suspicions)]
    while not comparison.take(_listed(keys[-1], "right")):
        turns.append(len(comparison.suspicions))
    while not comparison.finish():
        turns.append(len(comparison.suspicions))
    assert max(after - before for before, after in itertools.pairwise(turns)) <= 500
    assert (len(comparison.suspicions), comparison.counts.equal) == (1_299, 1)


@pytest.mark.parametrize("is_origin", [False, True])
def test_a_busy_replica_is_not_blamed_for_what_happens_while_it_is_listed(
    *, is_origin: bool
) -> None:
    """Goal: what was written or changed between the cuts is not judged.

    Method: a store in good order. Each job of the product's (write, copy, redaction, repair) is
    done in two goes, at any two moments of the listing, cut anywhere. The one thing that may be
    found is a write at the origin whose event is still on its way.
    """
    let_go = 0
    for number, first, second, cut in _schedules(is_origin=is_origin):
        world = ScrubWorld("onprem" if is_origin else "aws")
        steps = _jobs(world, is_origin=is_origin)[number]
        moment = itertools.count()

        def between(
            steps: list[Any] = steps,
            moment: Iterator[int] = moment,
            goes: tuple[int, int, int] = (first, second, cut),
        ) -> None:
            now = next(moment)
            for step in steps[: goes[2]] if now == goes[0] else []:
                step()
            for step in steps[goes[2] :] if now == goes[1] else []:
                step()

        world.shown.between = between
        # Rows are read a few at a time, so that some are read after what happened to them.
        with patch.object(scrub_view, "PAGE_ROWS", 2):
            outcome = asyncio.run(world.scrubber().run())
        world.close()
        wrong = {(item.kind, item.key) for item in outcome.findings}
        on_its_way = {("dark", key) for key in _unsaid(world)} if is_origin else set()
        assert wrong <= on_its_way, (number, first, second, cut)
        counts = outcome.counts
        assert counts.equal == counts.expected, "what was let go is not expected either"
        let_go += outcome.report.unjudged
    assert let_go > 5, "nothing ever looked wrong: the moments miss what they are for"


def _schedules(*, is_origin: bool) -> Iterator[tuple[int, int, int, int]]:
    """Every job, every two moments, every cut."""
    world = ScrubWorld("onprem" if is_origin else "aws")
    jobs = _jobs(world, is_origin=is_origin)
    world.close()
    for number, steps in enumerate(jobs):
        for first, second in itertools.combinations_with_replacement(range(9), 2):
            # In one go when both moments are the same.
            for cut in range(1, len(steps)) if first < second else (len(steps),):
                yield number, first, second, cut


def _jobs(world: ScrubWorld, *, is_origin: bool) -> list[list[Any]]:
    """Four objects in good order; then a write, a late copy, redactions and repairs, in steps."""
    old = sorted(world.add(number) for number in range(4))
    new, body = world.body(100)
    jobs: list[list[Any]] = []
    if is_origin:
        jobs.append([lambda: world.put(new, body), lambda: world.say_written(new)])
    else:
        owed, late = world.body(101)
        world.say_written(owed)
        for key, data in ((new, body), (owed, late)):
            jobs.append([
                lambda k=key: world.say_written(k),
                lambda k=key, d=data: world.put(k, d),
                lambda k=key: world.say_copy(k, CopyState.PRESENT),
            ])  # fmt: skip
        del jobs[1][0]
    for redacted, mended in ((old[0], old[1]), (old[-1], old[-2])):
        jobs.append([
            lambda k=redacted: world.say_redacted(k),
            lambda k=redacted: world.drop(k),
            lambda k=redacted: world.say_copy(k, CopyState.REDACTING),
        ])  # fmt: skip
        jobs.append([
            lambda k=mended: world.say_copy(k, CopyState.CORRUPT),
            lambda k=mended: world.drop(k),
            lambda k=mended: world.put(k, world.bodies[k]),
            lambda k=mended: world.say_copy(k, CopyState.PRESENT),
        ])  # fmt: skip
    return jobs


def _unsaid(world: ScrubWorld) -> set[str]:
    """Keys of which the log has no event."""
    said = {record.key for part in range(PARTS) for _, record in world.log.read("log", part, 0)}
    return world.bodies.keys() - said
