"""What a store asks us to wait, read from its answer.

`Retry-After` is a number of seconds or a date (RFC 9110, section 10.2.3).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

# A store that asks for more is asked again after this: a wrong clock or a joke must not stop an
# edge for days.
WAIT_SECONDS_MAX: Final = 3_600.0


def wait_of(headers: Mapping[str, str] | None, now: float | None = None) -> float | None:
    """The seconds that an answer asks us to wait; None when it names none that can be read."""
    text = next((v for k, v in (headers or {}).items() if k.lower() == "retry-after"), "").strip()
    if not text.isascii() or not text:
        return None
    if text.isdigit():
        return min(WAIT_SECONDS_MAX, float(text))
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except ValueError:
        return None
    left = moment - (time.time() if now is None else now)
    return min(WAIT_SECONDS_MAX, max(0.0, left))
