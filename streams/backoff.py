"""When to try again, by error class; and when to stop trying.

Pure: the clock and the dice are given. The answer is written into the copies record, so a restart
neither forgets a wait nor begins the count again.

Two kinds of trouble. What is wrong with the edge (the store is down, full, refuses our keys) says
nothing about the object: such a copy is tried for a week before it is parked, at a pace that a sick
store can bear. What is wrong with the object (its bytes, its source) will not get better by itself:
few tries, then a person should look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOUR_MS: Final = 3_600_000


@dataclass(frozen=True, slots=True)
class Policy:
    """The waits of one error class: first, then doubled up to the greatest, so many tries."""

    first_ms: int
    greatest_ms: int
    attempts_max: int


# 7 days at one try in 5 minutes are 2,016 tries; the doubling before them is lost in that.
_EDGE_ATTEMPTS: Final = 2_016
_EDGE: Final = Policy(500, 5 * 60_000, _EDGE_ATTEMPTS)
POLICIES: Final = {
    "network": _EDGE,
    "throttled": Policy(1_000, 5 * 60_000, _EDGE_ATTEMPTS),
    "auth": Policy(5_000, 5 * 60_000, _EDGE_ATTEMPTS),
    "full": Policy(10_000, 5 * 60_000, _EDGE_ATTEMPTS),
    "bucket": Policy(5_000, 5 * 60_000, _EDGE_ATTEMPTS),
    "log": _EDGE,
    "missing": Policy(1_000, 60_000, 10),
    "checksum": Policy(500, 60_000, 6),
    "fault": Policy(500, 5 * 60_000, 14),
    "defect": Policy(1_000, 60_000, 6),
}
# A class that says that no try will ever help.
_NEVER: Final = frozenset({"unsupported", "poison", "too_large"})


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at this moment, no earlier."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Park the copy: `attempts` tries were enough."""

    attempts: int


def next_try(
    error_class: str,
    attempts: int,
    now_ms: int,
    *,
    dice: float,
    retry_after_seconds: float | None = None,
) -> Retry | GiveUp:
    """What follows the failure of try number `attempts` (from 1).

    `dice` is a random number in [0, 1): waits are spread over 50 to 100 % of their length, so that
    what failed together does not come back together. A store's own Retry-After is a lower bound,
    taken for an hour at most.
    """
    if error_class in _NEVER:
        return GiveUp(attempts)
    policy = POLICIES.get(error_class, POLICIES["fault"])
    if attempts >= policy.attempts_max:
        return GiveUp(attempts)
    # 2 ** 40 x half a second is longer than any bound: the exponent needs one, not the wait.
    wait_ms = min(policy.greatest_ms, policy.first_ms * 2 ** min(attempts - 1, 40))
    spread_ms = int(wait_ms * (0.5 + dice / 2))
    asked_ms = min(HOUR_MS, int((retry_after_seconds or 0.0) * 1000))
    return Retry(now_ms + max(spread_ms, asked_ms))
