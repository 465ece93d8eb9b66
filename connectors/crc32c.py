"""The crc32c of two pieces of bytes put together, from theirs alone.

A checksum is linear: that of `first + second` is that of `first`, carried over as many zero bytes
as `second` has, and that of `second`, added. Carrying over is a 32 by 32 matrix of bits, kept as 32
columns, which depends on the number of bytes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

# Castagnoli's polynomial, its bits reversed.
_POLYNOMIAL: Final = 0x82F63B78
_BITS: Final = 32


def combine_crc32c(pieces: Iterable[tuple[int, int]]) -> int:
    """The crc32c of pieces in their order, each given by its own crc32c and its size in bytes."""
    total = 0
    for crc32c, size in pieces:
        total = _apply(_carry(size), total) ^ crc32c
    return total


# All parts of an upload but the last have one size, and its groups have few.
@lru_cache(maxsize=64)
def _carry(size: int) -> tuple[int, ...]:
    """The matrix that carries a checksum over `size` zero bytes."""
    carried = tuple(1 << bit for bit in range(_BITS))
    # One bit's step: the register moves down, and takes the polynomial in when a one falls out.
    step: tuple[int, ...] = (_POLYNOMIAL, *(1 << bit for bit in range(_BITS - 1)))
    left = size * 8
    while left:
        if left & 1:
            carried = tuple(_apply(step, column) for column in carried)
        step = tuple(_apply(step, column) for column in step)
        left >>= 1
    return carried


def _apply(matrix: Sequence[int], vector: int) -> int:
    total, bit = 0, 0
    while vector:
        if vector & 1:
            total ^= matrix[bit]
        vector >>= 1
        bit += 1
    return total
