"""One id from the PUT to the last copy and the hook's delivery: the request id (decision 0013).

    PUT X-Request-Id --> ObjectWritten.request_id --> CopyChanged.request_id
                                                 '--> ChangeAnnounced.request_id --> X-Request-Id

Each task that works for an object says so here, and every line that is logged meanwhile carries the
id. For tracing systems the same id is a trace's: both W3C headers and spans are derived from it, so
nothing else needs to be kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

_REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
_TRACE_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
# W3C Trace Context, version 00; a later version may only add fields behind these.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", re.ASCII)

# What happens to objects, one line each: written, copied, delivered. Switched on by the log's
# format (cli/telemetry.py), so that who does not want the lines does not pay for them.
STORY: Final = logging.getLogger("tidestore.story")


def current_id() -> str:
    """The request that this task works for; "" when there is none."""
    return _REQUEST_ID.get()


@contextlib.contextmanager
def correlated(request_id: str) -> Iterator[None]:
    """Work for a request; its id is on every line that is logged inside."""
    token = _REQUEST_ID.set(request_id)
    try:
        yield
    finally:
        _REQUEST_ID.reset(token)


def enter_request(request_id: str) -> None:
    """The whole rest of this task works for a request."""
    _REQUEST_ID.set(request_id)


def tell(what: str, **fields: object) -> None:
    """One line of an object's story; see docs/operations.md for the fields."""
    if STORY.isEnabledFor(logging.INFO):
        STORY.info(what, extra={"fields": fields})


def trace_of(request_id: str) -> str:
    """The trace id that stands for a request: 32 hexadecimal digits, not all zero."""
    if _TRACE_ID.fullmatch(request_id) and request_id.strip("0"):
        return request_id
    return hashlib.sha256(request_id.encode()).hexdigest()[:32]


def span_of(request_id: str, *parts: object) -> str:
    """The id of one span of a request's trace: the same for the same parts, 16 digits."""
    text = "\0".join([request_id, *map(str, parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def traceparent(request_id: str, *parts: object, is_sampled: bool = False) -> str:
    """The header that puts a receiver's work into the request's trace."""
    flags = "01" if is_sampled else "00"
    return f"00-{trace_of(request_id)}-{span_of(request_id, *parts)}-{flags}"


def parent_in(header: str) -> tuple[str, str] | None:
    """The trace and span of a traceparent header; None when it is none."""
    match = _TRACEPARENT.match(header)
    if match is None or not match[1].strip("0") or not match[2].strip("0"):
        return None
    return match[1], match[2]
