"""schemas/positions.py: where a record stands, and what a cut holds."""

from __future__ import annotations

import pytest

from tidestore.schemas.objects import MalformedError
from tidestore.schemas.positions import Cut, Position


def test_a_position_is_spelled_and_read_back() -> None:
    """Goal: a writer's position can be sent back. Method: there and back, at the bounds."""
    for position in (Position(1, 0, 0), Position(999_999_999, 5, 10**18 - 1)):
        assert Position.parse(str(position)) == position
    assert str(Position(1, 2, 3)) == "1.2.3"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2",
        "1.2.3.4",
        "1.2.-3",
        "a.b.c",
        "1.2.3\n",
        "1.2." + "9" * 19,
        "\u0661.\u0662.\u0663",
    ],
)
def test_what_a_write_never_returned_is_no_position(text: str) -> None:
    """Goal: no surprise in a query. Method: near misses, too long numbers, other digits."""
    with pytest.raises(MalformedError) as caught:
        Position.parse(text)
    assert caught.value.field == "position"


def test_a_cut_is_spelled_and_read_back() -> None:
    """Goal: a cursor can carry its cut. Method: there and back."""
    for cut in (Cut(1, (0,)), Cut(2, (5, 0, 10**17))):
        assert Cut.parse(str(cut)) == cut
    assert str(Cut(2, (5, 0))) == "2:5.0"


@pytest.mark.parametrize("text", ["", "1", "1:", "1:a", "1:1.", ":1", "1:1\n", "1:-1"])
def test_what_an_answer_never_gave_is_no_cut(text: str) -> None:
    """Goal: a tampered cursor is refused. Method: near misses."""
    with pytest.raises(MalformedError, match="is not a cut"):
        Cut.parse(text)


def test_a_cut_holds_what_is_before_its_offsets() -> None:
    """Goal: a record at the next offset is not in yet. Method: both sides."""
    cut = Cut(1, (5, 0))
    assert cut.holds(Position(1, 0, 4))
    assert not cut.holds(Position(1, 0, 5))
    assert not cut.holds(Position(1, 1, 0))


def test_other_generations_and_partitions_are_refused_not_misread() -> None:
    """Goal: an old position after growth is an error. Method: another generation, no partition."""
    cut = Cut(2, (5, 5))
    with pytest.raises(MalformedError, match="another log generation") as caught:
        cut.holds(Position(1, 0, 0))
    assert "generation 2" in caught.value.hint
    with pytest.raises(MalformedError, match="does not have"):
        cut.holds(Position(2, 2, 0))


def test_a_cut_reaches_another_when_no_partition_is_behind() -> None:
    """Goal: a page waits for all partitions. Method: equal, ahead, behind in one, another shape."""
    cut = Cut(1, (5, 7))
    assert cut.reaches(cut)
    assert cut.reaches(Cut(1, (5, 0)))
    assert not cut.reaches(Cut(1, (0, 8)))
    for other in (Cut(2, (0, 0)), Cut(1, (0,))):
        with pytest.raises(MalformedError, match="another log generation"):
            cut.reaches(other)
