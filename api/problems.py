"""Errors as the client sees them: RFC 9457 problem+json, one mapping for all exceptions.

Every problem has a machine `code`, says what is wrong and where, and what to do about it. None
shows a stack trace, a secret or a signed link.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web

from tidestore.connectors.errors import (
    ChecksumMismatchError,
    StoreError,
    StoreFullError,
)
from tidestore.connectors.kafka import LogError
from tidestore.schemas.codec import RecordTooLargeError
from tidestore.schemas.objects import MalformedError

LOGGER: Final = logging.getLogger("tidestore.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_TITLES: Final = {
    400: "Malformed request",
    401: "Authentication needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Request took too long",
    409: "Conflict",
    410: "Gone",
    411: "Length required",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Cannot be processed",
    429: "Too many requests",
    431: "Head too large",
    500: "Internal error",
    501: "Not implemented",
    502: "A store failed",
    503: "Not available now",
    504: "Took too long",
    507: "No room left",
}


class Problem(Exception):  # noqa: N818  the word of RFC 9457
    """An answer that is an error. `headers` are added to it; `more` are extra members."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        headers: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.headers = headers or {}
        self.more = more or {}

    def response(self, request_id: str = "") -> web.Response:
        """The answer itself."""
        document: dict[str, Any] = {
            "type": f"https://tidestore.dev/problems/{self.code}",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.hint:
            document["hint"] = self.hint
        if request_id:
            document["request_id"] = request_id
        document.update(self.more)
        return web.Response(
            status=self.status,
            body=json.dumps(document, ensure_ascii=False, default=str).encode("utf-8", "replace"),
            content_type="application/problem+json",
            headers=self.headers,
        )


def unavailable(detail: str, *, code: str = "unavailable", retry_after: int = 2) -> Problem:
    """503 with a time to come back."""
    return Problem(
        503,
        code,
        detail,
        hint=f"the same request may be sent again after {retry_after} s",
        headers={"Retry-After": str(retry_after)},
    )


def problem_of(error: Exception) -> Problem:
    """The problem that stands for an exception of ours; 500 for one that nobody foresaw."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MalformedError):
        more = {"field": error.field}
        hint = error.hint or "/docs shows the form of every value"
        return Problem(400, "malformed", str(error), hint=hint, more=more)
    if isinstance(error, RecordTooLargeError):
        return Problem(413, "record_too_large", str(error), hint="nothing was stored")
    if isinstance(error, ChecksumMismatchError):
        hint = "the body was not what its address, Digest or length said; nothing was stored"
        return Problem(422, "checksum_mismatch", error.detail, hint=hint)
    if isinstance(error, StoreFullError):
        return Problem(507, "store_full", str(error), hint=error.hint)
    if isinstance(error, StoreError):
        LOGGER.warning("store: %s", error)
        after = max(1, int(error.retry_after_seconds or 2))
        detail = f"the store {error.store} did not do what was asked ({error.error_class})"
        if error.is_retryable:
            return unavailable(detail, code="store_unavailable", retry_after=after)
        return Problem(502, "store_failed", detail, hint="the operator's log says more")
    if isinstance(error, LogError):
        LOGGER.warning("log: %s", error)
        return unavailable("the log is not reachable just now", code="log_unavailable")
    if isinstance(error, web.HTTPException):
        return _problem_of_http(error)
    LOGGER.error("unforeseen", exc_info=error)
    return Problem(500, "internal", "something went wrong here", hint="see the operator's log")


def _problem_of_http(error: web.HTTPException) -> Problem:
    """Aiohttp's own refusals: no route, wrong method, too large."""
    codes = {404: "no_such_path", 405: "method_not_allowed", 413: "too_large"}
    headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    code = codes.get(error.status, "refused")
    hint = "/docs lists every path and method"
    return Problem(error.status, code, error.reason or "refused", hint=hint, headers=headers)


@web.middleware
async def problems_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into a problem. A client that went away gets nothing."""
    try:
        return await handler(request)
    except (ConnectionResetError, ConnectionAbortedError):
        raise
    except Exception as error:
        if isinstance(error, web.HTTPException) and error.status < 400:
            raise
        return problem_of(error).response(request.get("request_id", ""))
