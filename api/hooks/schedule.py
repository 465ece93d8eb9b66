"""When a delivery is tried again, and when it is let go. Pure.

Nine steps over a week: quick ones for a receiver that restarts, long ones for one that is away over
a weekend. Waits are spread by 20 %, and a receiver's Retry-After is honoured up to the step that
would follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HOUR: Final = 3600.0
STEPS_SECONDS: Final = (5.0, 30.0, 300.0, 1800.0, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR)
_LAST_STEP_SECONDS: Final = 12 * _HOUR
_GIVE_UP_SECONDS: Final = 7 * 24 * _HOUR
# Answers that say "not now" although they are 4xx; all other 4xx say "not this one".
_PASSING: Final = frozenset({408, 409, 423, 425, 429})
_REFUSALS_MAX: Final = 5
_SPREAD: Final = 0.2


@dataclass(frozen=True, slots=True)
class Again:
    """Try again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LetGo:
    """Go on to the next event; this one is written down as not delivered."""

    reason: str


@dataclass(frozen=True, slots=True)
class SwitchOff:
    """The receiver is gone for good: 410."""


Verdict = Again | LetGo | SwitchOff


def after_failure(
    attempt: int, status: int | None, retry_after_seconds: float | None, *, dice: float
) -> Verdict:
    """What follows failed attempt number `attempt` (from 1); `dice` is random in [0, 1)."""
    if status == 410:
        return SwitchOff()
    is_refusal = status is not None and 400 <= status < 500 and status not in _PASSING
    if is_refusal and attempt >= _REFUSALS_MAX:
        return LetGo(f"refused {attempt} times with {status}")
    if _span_before(attempt) >= _GIVE_UP_SECONDS:
        return LetGo("not delivered within a week")
    step = _step(attempt)
    spread = step * (1 + _SPREAD * (2 * dice - 1))
    return Again(max(spread, min(retry_after_seconds or 0.0, _step(attempt + 1))))


def _step(attempt: int) -> float:
    return STEPS_SECONDS[attempt - 1] if attempt <= len(STEPS_SECONDS) else _LAST_STEP_SECONDS


def _span_before(attempt: int) -> float:
    """How long the attempts so far took, waits alone."""
    steps = STEPS_SECONDS[: attempt - 1]
    rest = max(0, attempt - 1 - len(STEPS_SECONDS))
    return sum(steps) + rest * _LAST_STEP_SECONDS
