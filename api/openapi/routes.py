"""GET /openapi.json and GET /docs."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from tidestore.api.openapi.page import html_page
from tidestore.api.openapi.parts import Json

OPENAPI: Final = web.AppKey("openapi", dict)

# The page needs its own style and nothing else: whatever got into it could not load or run.
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


async def get_openapi(request: web.Request) -> web.StreamResponse:
    """The OpenAPI 3.1 document of this gateway."""
    return web.json_response(request.app[OPENAPI], headers={"Cache-Control": "no-cache"})


async def get_docs(request: web.Request) -> web.StreamResponse:
    """The same for people."""
    document: Json = request.app[OPENAPI]
    return web.Response(
        text=html_page(document, f"{request.scheme}://{request.host}"),
        content_type="text/html",
        headers={"Cache-Control": "no-cache", "Content-Security-Policy": _POLICY},
    )
