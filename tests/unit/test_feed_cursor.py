"""api/feed_cursor.py: where a reader of the feed is, and what a page tells it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.made import written

from tidestore.api.feed_cursor import CURSOR_CHARS_MAX, FeedCursor, identity_of, read_news
from tidestore.connectors.feed_pages import FeedPage
from tidestore.connectors.feed_reader import FeedRecord
from tidestore.schemas.events import ChangeAnnounced, Event, PartitionClaimed, RedactionDecided
from tidestore.schemas.objects import MalformedError
from tidestore.streams.announce import first_announcement

FEED, DECISIONS = "changes.public", "redactions"
OFFSETS = st.integers(0, 10**18 - 1)
FIRST = FeedCursor.first(1, "0badcafe", 2)


@given(
    st.integers(1, 10**9 - 1),
    OFFSETS,
    st.lists(st.tuples(OFFSETS, OFFSETS), min_size=1, max_size=200),
)
def test_a_cursor_comes_back_as_it_went(
    generation: int, redactions: int, places: list[tuple[int, int]]
) -> None:
    """Goal: no place is lost on the way. Method: any cursor of up to 200 partitions, and back."""
    offsets, claims = zip(*places, strict=True)
    cursor = FeedCursor(generation, identity_of(["a"]), redactions, offsets, claims)
    assert FeedCursor.parse(str(cursor)) == cursor
    assert len(str(cursor)) <= CURSOR_CHARS_MAX


@pytest.mark.parametrize(
    "text",
    ["", "x", "1.0badcafe.0", "1.0badcafe.0.1", "1.0badcafe.0.1-", "1.0badcafe.0.1-2_",
     "-1.0badcafe.0.1-2", "1.0badcafe.0.1-2\n", "1.0BADCAFE.0.1-2", "1.0badcafe.0.\u0661-2",
     "1.0badcafe.0." + "_".join(["1-2"] * 4_000)],
)  # fmt: skip
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Goal: nothing but our own words is read. Method: texts that are nearly cursors."""
    with pytest.raises(MalformedError):
        FeedCursor.parse(text)


def test_a_cursor_of_other_topics_is_known() -> None:
    """Goal: an offset is never read in another log. Method: each part that names it changed."""
    assert FIRST.is_of(replace(FIRST, redactions_next=9, offsets_next=(3, 4)))
    assert not FIRST.is_of(replace(FIRST, generation=2))
    assert not FIRST.is_of(replace(FIRST, identity=identity_of(["renewed"])))
    assert not FIRST.is_of(FeedCursor.first(1, "0badcafe", 3))


def announced(claim: int = 0) -> ChangeAnnounced:
    """A change under a claim."""
    return replace(first_announcement(written(), 9, name=None, expected=()), claim=claim)


def page_of(*records: tuple[int, int, Event | None], decisions: tuple[Event, ...] = ()) -> FeedPage:
    """A page with these records: partition, offset, event; None is one of a newer release."""
    page = FeedPage()
    for partition, offset, event in records:
        place = (FEED, partition)
        page.records.append((place, FeedRecord(offset, event, event is None)))
        page.offsets_next[place] = offset + 1
    for offset, event in enumerate(decisions):
        page.records.append(((DECISIONS, 0), FeedRecord(offset, event)))
        page.offsets_next[DECISIONS, 0] = offset + 1
    return page


def test_late_words_are_left_out_also_when_the_claim_was_on_an_earlier_page() -> None:
    """Goal: a frozen feeds worker misleads nobody (design point 4).

    Method: a claim on one page, a word under the older one on the next; the other
    partition goes on.
    """
    claim = PartitionClaimed("feeds-1", 0, 1)
    news = read_news(FIRST, page_of((0, 7, announced(claim=3)), (0, 8, claim)), FEED, DECISIONS)
    assert [change.claim for _, change in news.changes] == [3]
    after = news.cursor
    assert (after.offsets_next, after.claims) == ((9, 0), (8, 0))
    late, right, other = announced(claim=3), announced(claim=8), announced(claim=0)
    page = page_of((0, 9, late), (0, 10, right), (1, 0, other))
    news = read_news(FeedCursor.parse(str(after)), page, FEED, DECISIONS)
    assert [(partition, change.claim) for partition, change in news.changes] == [(0, 8), (1, 0)]


def test_nobody_goes_past_a_record_of_a_newer_release() -> None:
    """Goal: nothing is skipped in a rolling upgrade (design point 9).

    Method: an unknown schema between two changes of one partition; decisions and the other
    partition are told all the same.
    """
    decision = RedactionDecided("public/files/x", 1, "r", "admin", 1, 2)
    page = page_of((0, 4, announced()), (0, 5, None), (0, 6, announced()), (1, 2, announced()),
                   decisions=(decision,))  # fmt: skip
    news = read_news(FIRST, page, FEED, DECISIONS)
    assert news.is_held
    assert [partition for partition, _ in news.changes] == [0, 1]
    assert news.cursor.offsets_next == (5, 3)
    assert news.decisions == [decision]
    assert news.cursor.redactions_next == 1
