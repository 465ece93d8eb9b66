"""The crc32c of pieces put together, from theirs alone."""

from __future__ import annotations

import google_crc32c
from hypothesis import given
from hypothesis import strategies as st

from tidestore.connectors.crc32c import combine_crc32c


@given(st.lists(st.binary(max_size=300), max_size=9))
def test_the_checksum_of_pieces_is_that_of_the_whole(pieces: list[bytes]) -> None:
    """Goal: what is composed can be compared. Method: cut at random, against Google's library."""
    parts = [(google_crc32c.value(piece), len(piece)) for piece in pieces]
    assert combine_crc32c(parts) == google_crc32c.value(b"".join(pieces))


def test_pieces_of_many_megabytes_are_put_together_as_well() -> None:
    """Goal: no size overflows. Method: two of 5 MiB and a byte, against Google's library."""
    pieces = [bytes([number]) * (5 * 1024 * 1024) for number in (7, 9)] + [b"x"]
    parts = [(google_crc32c.value(piece), len(piece)) for piece in pieces]
    assert combine_crc32c(parts) == google_crc32c.value(b"".join(pieces))
    assert combine_crc32c(reversed(parts)) != combine_crc32c(parts)
