"""A step of something long that is tried again at once, since the whole cannot be begun again.

A call that can be repeated is repeated by layers.RetryingStore, outside of what throttles it. One
part of an upload is inside of a call that cannot: a stream is not sent twice. So a part has a few
tries of its own. What outlasts them ends the upload, and its class decides what follows.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tidestore.connectors.errors import StoreError

T = TypeVar("T")

PASSING: Final = frozenset({"network", "throttled", "fault"})
TRIES_MAX: Final = 4
_PAUSE_SECONDS: Final = 0.2
# A store that names a longer time means it: the upload ends, and its edge hears of that.
_WAIT_SECONDS_MAX: Final = 5.0


async def tried_again(
    call: Callable[[], Awaitable[T]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """What the call answers, at the latest at its fourth try; raises its last StoreError."""
    for attempt in range(1, TRIES_MAX):
        try:
            return await call()
        except StoreError as error:
            named = error.retry_after_seconds or 0.0
            if error.error_class not in PASSING or named > _WAIT_SECONDS_MAX:
                raise
            own = _PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311  jitter
            await sleep(max(own, named))
    return await call()
