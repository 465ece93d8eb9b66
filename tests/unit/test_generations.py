"""schemas/generations.py: which generation is in use, and what old positions mean in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tidestore.schemas.generations import (
    GenerationChanged,
    PositionAheadError,
    PositionLostError,
    carried,
    carried_position,
    generation_key,
    step_ahead,
    topics_now,
)
from tidestore.schemas.objects import MalformedError, find_key_parts
from tidestore.schemas.positions import Cut, Position
from tidestore.schemas.topics import ORIGIN_KEY, Topics

FIRST = Topics(prefix="t.", partitions=2)
SECOND = replace(FIRST, generation=2, partitions=3)
THIRD = replace(FIRST, generation=3, partitions=5)
TO_SECOND = GenerationChanged(2, 3, "open", 1, 2, "r", 1, "1:10.20", "2:7.8.15")
TO_THIRD = GenerationChanged(3, 5, "open", 2, 3, "r", 2, "2:70.80.90", "3:1.2.3.4.5")
MOVES = [TO_SECOND, TO_THIRD]


def test_the_newest_open_generation_is_used_whatever_the_file_says() -> None:
    """Goal: no file need change. Method: files of each generation, records in every state."""
    assert topics_now(FIRST, []) == FIRST
    assert topics_now(FIRST, [replace(TO_SECOND, state="building")]) == FIRST
    assert topics_now(FIRST, [replace(TO_SECOND, state="closing")]) == FIRST
    assert topics_now(FIRST, [TO_SECOND]) == SECOND
    assert topics_now(FIRST, MOVES) == THIRD
    # A file that was half brought up to date.
    assert topics_now(replace(FIRST, generation=2), [TO_SECOND]) == SECOND


def test_a_file_ahead_of_the_records_begins_a_generation() -> None:
    """Goal: a recovery's generation is not overruled. Method: a file with a later number."""
    recovered = replace(FIRST, generation=4, partitions=12)
    assert topics_now(recovered, MOVES) == recovered


def test_the_step_ahead_is_that_of_a_later_generation() -> None:
    """Goal: processes follow what concerns them. Method: own, earlier and later generations."""
    assert step_ahead(FIRST, []) is None
    assert step_ahead(SECOND, [TO_SECOND]) is None
    assert step_ahead(FIRST, [TO_SECOND]) == TO_SECOND
    assert step_ahead(FIRST, MOVES) == TO_THIRD


def test_a_cut_of_this_generation_is_what_it_is() -> None:
    """Goal: nothing is lost in translation where there is none. Method: own cut and position."""
    cut = Cut(2, (1, 2, 3))
    assert carried(cut, SECOND, MOVES) == cut
    assert carried_position(Position(2, 1, 5), SECOND, MOVES) is None


def test_an_old_cut_leads_to_where_all_of_it_was_carried() -> None:
    """Goal: an old listing goes on. Method: one move and two; inside, and just at the end."""
    assert carried(Cut(1, (10, 20)), SECOND, [TO_SECOND]) == Cut(2, (7, 8, 15))
    assert carried(Cut(1, (0, 0)), SECOND, [TO_SECOND]) == Cut(2, (7, 8, 15))
    assert carried(Cut(1, (3, 4)), THIRD, MOVES) == Cut(3, (1, 2, 3, 4, 5))


def test_an_old_position_is_understood_up_to_the_end_of_its_log() -> None:
    """Goal: acknowledged writes can be waited for. Method: the last record, and one behind it."""
    assert carried_position(Position(1, 1, 19), SECOND, [TO_SECOND]) == Cut(2, (7, 8, 15))
    assert carried_position(Position(1, 0, 0), THIRD, MOVES) == Cut(3, (1, 2, 3, 4, 5))
    for lost in (Position(1, 1, 20), Position(1, 0, 10)):
        with pytest.raises(PositionLostError):
            carried_position(lost, SECOND, [TO_SECOND])
    with pytest.raises(MalformedError):
        carried_position(Position(1, 2, 0), SECOND, [TO_SECOND])


def test_a_generation_without_a_record_is_lost() -> None:
    """Goal: a position of a lost log is refused, not misread. Method: after a recovery."""
    recovered = replace(FIRST, generation=4)
    for position in (Position(1, 0, 0), Position(2, 0, 0), Position(3, 1, 1)):
        with pytest.raises(PositionLostError):
            carried_position(position, recovered, MOVES)
    with pytest.raises(PositionLostError):
        carried(Cut(1, (0, 0)), SECOND, [replace(TO_SECOND, state="closing", cut="", from_cut="")])


def test_a_later_generation_is_told_from_a_lost_one() -> None:
    """Goal: a gateway that is late says so. Method: a position of the next generation."""
    with pytest.raises(PositionAheadError):
        carried_position(Position(3, 0, 0), SECOND, MOVES)
    with pytest.raises(PositionAheadError):
        carried(Cut(2, (0, 0, 0)), FIRST, [replace(TO_SECOND, state="building")])
    with pytest.raises(MalformedError):
        carried_position(Position(9, 0, 0), SECOND, MOVES)


def test_no_replica_can_have_the_key_of_a_generation() -> None:
    """Goal: a step never overwrites a replica's record. Method: our own keys."""
    assert generation_key(2) not in (ORIGIN_KEY, generation_key(3))
    assert find_key_parts(generation_key(2)) is None
