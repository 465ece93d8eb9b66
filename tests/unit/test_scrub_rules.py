"""The rules of a comparison: when it stops, what it is called, when it is due, who signed it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.property.scrub_world import ScrubWorld
from tests.unit.made import copy

from tidestore.connectors.credentials import Secret
from tidestore.connectors.signing import Signer, canonical, is_signed
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import CopyState
from tidestore.schemas.findings import FindingReported, ReadbackMoved, ScrubReported, Verdict
from tidestore.schemas.objects import PUBLIC, blob_key
from tidestore.streams.readback import Readback
from tidestore.streams.scrub_compare import Counts
from tidestore.streams.scrub_judge import Judgement, Rules, reason_to_stop, verdict_of
from tidestore.streams.scrub_timer import is_comparison_due, is_reading_due
from tidestore.streams.scrub_view import ScrubRows

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@pytest.fixture
def world() -> Iterator[ScrubWorld]:
    found = ScrubWorld(rules=Rules())
    yield found
    found.close()


@pytest.mark.parametrize("kind", ["lost", "altered", "dark", "rotten", "unredacted"])
@pytest.mark.parametrize(
    ("total", "wrong", "stops"),
    [(100, 10, False), (100, 11, True), (5, 3, False), (5, 4, True), (1_000_000, 100_000, False)],
)
def test_more_than_a_tenth_of_anything_stops(
    kind: str, total: int, wrong: int, *, stops: bool
) -> None:
    """Goal: the brake. Method: each kind, at the bound and above it; three never stop."""
    counts = Counts(expected=total, listed=total)
    assert bool(reason_to_stop(counts, {kind: wrong}, Rules())) is stops
    assert not reason_to_stop(counts, {kind: wrong}, Rules(stop_percent=100))


def test_an_empty_listing_stops_even_a_small_store() -> None:
    """Goal: an unmounted disk is not repaired. Method: one object expected, none of ours listed.

    What lies on the empty mount point, or in the wrong bucket, is nothing of ours.
    """
    for counts in (Counts(expected=1, listed=0), Counts(expected=1, listed=9, foreign=9)):
        assert "no object of ours" in reason_to_stop(counts, {"lost": 1}, Rules())
    assert not reason_to_stop(Counts(expected=0, listed=0), {}, Rules())


def test_a_stopped_comparison_hands_nothing_over(world: ScrubWorld) -> None:
    """Goal: before anything is changed. Method: half of a replica gone, and the topics read."""
    keys = [world.add(number) for number in range(20)]
    for key in keys[:10]:
        world.drop(key)
    outcome = asyncio.run(world.scrubber().run())
    assert outcome.report.verdict == Verdict.STOPPED
    assert outcome.report.lost == 10
    assert world.log.end("findings", 0) == 0
    assert world.log.end("scrubs", 0) == 1, "it is said all the same"


def test_a_dry_run_says_nothing_to_anybody(world: ScrubWorld) -> None:
    """Goal: --dry-run. Method: one lost, and nothing appended."""
    keys = [world.add(number) for number in range(20)]
    world.drop(keys[0])
    outcome = asyncio.run(world.scrubber().run(is_dry=True))
    assert [item.kind for item in outcome.findings] == ["lost"]
    assert world.log.end("findings", 0) == world.log.end("scrubs", 0) == 0


def test_equal_needs_all_that_has_to_be_there(world: ScrubWorld) -> None:
    """Goal: no statement beyond the truth. Method: one that is still owed, and dark ones."""
    for number in range(20):
        world.add(number)
    key, body = world.body(50)
    world.put("public/blobs/" + "0" * 64, b"dark")
    assert asyncio.run(world.scrubber().run()).report.verdict == Verdict.EQUAL
    world.say_written(key)
    report = asyncio.run(world.scrubber().run()).report
    assert (report.verdict, report.owed, report.expected) == (Verdict.INCOMPLETE, 1, 20)
    world.put(key, body)
    world.say_copy(key, CopyState.PRESENT)
    report = asyncio.run(world.scrubber().run()).report
    assert (report.verdict, report.expected, report.equal) == (Verdict.EQUAL, 21, 21)


def test_the_verdict_names_the_worst() -> None:
    """Goal: one word. Method: all of them."""
    whole = Counts(expected=2, equal=2)
    assert verdict_of(whole, Judgement(), "why") is Verdict.STOPPED
    assert verdict_of(whole, _judgement(_finding("lost")), "") is Verdict.FINDINGS
    assert verdict_of(whole, _judgement(_finding("dark")), "") is Verdict.EQUAL
    assert verdict_of(whole, Judgement(unexpected=1), "") is Verdict.INCOMPLETE
    assert verdict_of(Counts(expected=2, equal=2, owed=1), Judgement(), "") is Verdict.INCOMPLETE
    assert verdict_of(whole, Judgement(), "") is Verdict.EQUAL


def _judgement(finding: FindingReported) -> Judgement:
    judgement = Judgement()
    judgement.found(finding)
    return judgement


def _finding(kind: str) -> FindingReported:
    record = copy()
    return FindingReported(
        record.key, "onprem", 1, kind, 0, 0, 4, record.sha256, "", "", "aws", 0, "s", 0, 0
    )


def test_a_dark_object_is_moved_aside_after_a_day_and_never_at_the_origin() -> None:
    """Goal: the quarantine's clock. Method: found first a day ago, a moment less, and changed."""
    for origin, age_ms, etag, kind in (
        ("aws", _DAY_MS - 60_000, "m1", "dark"),
        ("aws", _DAY_MS + 1, "m1", "quarantine"),
        ("aws", _DAY_MS + 1, "m0", "dark"),
        ("onprem", _DAY_MS + 1, "m1", "dark"),
    ):
        world = ScrubWorld(origin, rules=Rules())
        key = blob_key(PUBLIC, checksums_of(b"dark").sha256)
        world.put(key, b"dark")
        (first,) = asyncio.run(world.scrubber().run()).findings
        assert first.kind == "dark"
        values = {name: getattr(first, name) for name in FindingReported.__slots__}
        values["first_found_at_ms"] -= age_ms
        values["seen_etag"] = etag
        earlier = FindingReported(**values)
        world.log.append("findings", 0, f"onprem.1/{key}", earlier)
        (again,) = asyncio.run(world.scrubber().run()).findings
        assert again.kind == kind, (origin, age_ms, etag)
        world.close()


def test_reading_back_goes_on_where_it_stood_and_finds_rot_of_the_same_size(
    world: ScrubWorld,
) -> None:
    """Goal: oldest check first, by budget. Method: two objects a turn, one rotten behind its sums.

    The round ends only when all were read; the next one begins at the first key again.
    """
    keys = sorted(world.add(number) for number in range(20))
    rotten = keys[7]
    stored = world.store._objects[rotten]  # type: ignore[index]
    world.store._objects[rotten] = type(stored)(b"x" * len(stored.body), stored.info)  # type: ignore[index]
    assert asyncio.run(world.scrubber().run()).report.verdict == Verdict.EQUAL
    budget = len(world.bodies[keys[0]]) + 1
    seen: list[ReadbackMoved] = []
    for _ in range(11):
        seen.append(asyncio.run(Readback(world.scrubber()).run(budget)))
        if seen[-1].round > 1:
            break
    assert [place.objects for place in seen[:3]] == [2, 4, 6]
    assert seen[0].after_key == keys[1]
    assert (seen[-1].round, seen[-1].after_key) == (2, "")
    rows = ScrubRows(world.view, "onprem")
    assert rows.first_found(rotten, "rotten", stored.info.etag) is not None
    assert world.log.end("findings", 0) == 1


def test_what_is_due_is_told_by_what_was_published() -> None:
    """Goal: a restart neither repeats nor puts off. Method: at the moment, before it, and off."""
    assert is_comparison_due(None, 24, 5)
    last = ScrubReported(
        "s", "onprem", 1, "equal", "1:0", 0, 1_000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    )
    assert not is_comparison_due(last, 24, 1_000 + _DAY_MS - 1)
    assert is_comparison_due(last, 24, 1_000 + _DAY_MS)
    assert not is_comparison_due(None, 0, 5)
    within = ReadbackMoved("onprem", 1, 2, 9_000, 8_000, "public/a", 1, 1, 0, 9_500)
    between = ReadbackMoved("onprem", 1, 2, 9_000, 8_000, "", 0, 0, 0, 9_500)
    assert is_reading_due(None, 0)
    assert is_reading_due(within, 9_600)
    assert not is_reading_due(between, 8_000 + 7 * _DAY_MS - 1)
    assert is_reading_due(between, 8_000 + 7 * _DAY_MS)


def test_a_signature_holds_for_these_words_and_this_key_alone() -> None:
    """Goal: what we vouch for cannot be changed. Method: other words, other keys, noise."""
    signer = Signer(Secret("one"))
    text = canonical({"b": 1, "a": "ä"})
    assert text == '{"a":"ä","b":1}'
    signature = signer.sign(text)
    assert is_signed(text, signature, signer.public_key)
    assert not is_signed(text + " ", signature, signer.public_key)
    assert not is_signed(text, signature, Signer(Secret("two")).public_key)
    assert not is_signed(text, "", signer.public_key)
    assert not is_signed(text, "zz", "zz")
    nobody = Signer(Secret(""))
    assert (nobody.sign(text), nobody.public_key) == ("", "")
