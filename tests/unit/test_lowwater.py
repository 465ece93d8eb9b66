"""streams/lowwater.py: the story in its docstring, and what a reader that goes back does."""

from __future__ import annotations

from tidestore.streams.lowwater import LowWater


def test_gaps_of_compaction_do_not_stop_the_mark() -> None:
    """Goal: R6 on a compacted log. Method: the docstring's own example."""
    mark = LowWater()
    for offset in (12, 13, 17, 18, 21):
        assert mark.receive(offset)
    for offset in (13, 17, 21):
        mark.finish(offset)
    assert (mark.committable, mark.unfinished) == (12, 2)
    mark.finish(12)
    assert mark.committable == 18
    mark.finish(18)
    assert (mark.committable, mark.unfinished) == (22, 0)


def test_nothing_is_committed_before_the_first_record() -> None:
    """Goal: a new owner commits no guess. Method: an empty mark, and an end without a record."""
    mark = LowWater()
    assert mark.committable is None
    mark.finish(5)
    assert (mark.committable, mark.unfinished) == (None, 0)


def test_a_reader_that_goes_back_changes_nothing() -> None:
    """Goal: a seek is harmless. Method: receive and finish old offsets again."""
    mark = LowWater()
    assert mark.receive(3)
    assert not mark.receive(3)
    assert not mark.receive(1)
    mark.finish(3)
    mark.finish(3)
    mark.finish(1)
    assert mark.committable == 4
    assert mark.receive(4)
    assert mark.committable == 4
