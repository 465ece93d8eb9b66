"""In which order sources are asked for an object, and whether a cheaper one is worth a moment.

Pure: prices, health and latency are given. Why each source stands where it does can be printed
(`tidestore plan`), because the worker and the command ask the same functions.

    healthy before broken; then the expected price; then the origin, which surely has it; then the
    latency that was measured; then the order of the configuration
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tidestore.streams.prices import ASKS_IN_VAIN, Prices

# How long the source in the tree may take for its own copy: what it needs to begin with, and the
# pace that a healthy edge between two clouds has.
_FIRST_SECONDS: Final = 10.0
_BYTES_PER_SECOND: Final = 25_000_000
# To wait for less than a tenth of the price is not what anybody wants.
_SHARE_MIN: Final = 0.1
# Latencies that differ by less than a factor of two are the same: noise must not turn the order.
_LATENCY_STEP: Final = 2.0
_LATENCY_SECONDS_MIN: Final = 0.001


@dataclass(frozen=True, slots=True)
class Candidate:
    """A store that may have the object. Latency is None until it has been asked once."""

    name: str
    expected_price: float
    is_open: bool = False
    is_origin: bool = False
    latency_seconds: float | None = None


def order_sources(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates, the one to ask first before all others."""
    # A millionth of a dollar for a million objects: prices that differ by less are the same.
    return sorted(
        candidates,
        key=lambda item: (
            item.is_open,
            round(item.expected_price * 1e12),
            not item.is_origin,
            _latency_class(item.latency_seconds),
        ),
    )


def _latency_class(seconds: float | None) -> int:
    """One that was never asked comes first: only so does it get a latency."""
    if seconds is None:
        return -1
    return int(math.log(max(1.0, seconds / _LATENCY_SECONDS_MIN), _LATENCY_STEP))


def wait_seconds(
    prices: Prices, target: str, *, cheap: str, instead: str, size: int, seconds_max: float
) -> float:
    """For how long to wait until `cheap` has the object, rather than to read it at `instead`.

    0 when the difference is small, or would not pay for the questions meanwhile.
    """
    dear = prices.read_price(instead, target, size)
    saved = dear - prices.read_price(cheap, target, size)
    if saved <= ASKS_IN_VAIN * prices.get_price(cheap) or saved < _SHARE_MIN * dear:
        return 0.0
    return min(seconds_max, _FIRST_SECONDS + size / _BYTES_PER_SECOND)
