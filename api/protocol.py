"""What never becomes a request: broken HTTP, a head that is too large. Refused as a problem too.

aiohttp answers these below the application, in plain text and with a stack trace in the log for
each; a stranger could fill the disk with those. Here they get problem+json, one line in the log,
and the connection is closed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from tidestore.api.problems import Handler, Problem

LOGGER: Final = logging.getLogger("tidestore.api")

# A head larger than this is refused while it comes: a line of it, and the number of its fields.
LINE_BYTES_MAX: Final = 8_190
HEADERS_MAX: Final = 128


class GatewayProtocol(RequestHandler):
    """One connection."""

    __slots__ = ("_is_refused",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See RequestHandler."""
        self._is_refused = False
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See RequestHandler. After the first refusal nothing more is read or parsed.

        aiohttp 3.14 goes on parsing until the refusal is answered: each piece that comes is one
        more error whose traceback keeps the piece. A head without an end cost 300 MB that way;
        test_oversized_heads_take_no_memory fails when this goes.
        """
        if self._is_refused:
            return
        super().data_received(data)
        if not self._messages:
            return
        exc = getattr(self._messages[-1][0], "exc", None)
        if exc is not None:
            self._is_refused = True
            exc.__traceback__ = None
            if isinstance(self.transport, asyncio.ReadTransport):
                self.transport.pause_reading()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """See RequestHandler: the answer to what the parser refused, or to a defect of ours."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already") from exc
        if status >= 500:
            LOGGER.error("unforeseen, below the application", exc_info=exc)
            problem = Problem(status, "internal", "something went wrong here")
        else:
            LOGGER.info("refused before it was a request: %s", type(exc).__name__)
            problem = _refusal(exc, message or "")
        response = problem.response()
        response.force_close()
        return response


def _refusal(exc: BaseException | None, message: str) -> Problem:
    if isinstance(exc, LineTooLong) or "Too many" in message:
        hint = f"lines of up to {LINE_BYTES_MAX} bytes, at most {HEADERS_MAX} header fields"
        return Problem(431, "head_too_large", "the request's head is too large", hint=hint)
    # The parser's own message quotes what it could not read, which may be a token.
    hint = "check the request line, the header lines and the lengths"
    return Problem(400, "bad_http", "this is no HTTP/1.1 request that can be read", hint=hint)


class GatewayServer(web.Server):
    """Makes the connections of a gateway."""

    def __call__(self) -> RequestHandler:
        """See Server."""
        return GatewayProtocol(self, loop=self._loop, **self._kwargs)


class GatewayRunner(web.AppRunner):
    """Runs a handler behind our own server. test_bad_input_http.py holds that it still does.

    `app` makes the requests and is otherwise a shell: which application answers is the handler's.

    The hook is not public in aiohttp 3.14: should it go, answers below the application are plain
    text again, and those tests fail.
    """

    def __init__(self, app: web.Application, handler: Handler, **more: Any) -> None:
        super().__init__(app, **more)
        self._handler = handler

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return GatewayServer(
            cast("Any", self._handler), request_factory=plain.request_factory, **plain._kwargs
        )
