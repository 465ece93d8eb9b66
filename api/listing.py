"""Listings that lose nothing while writes go on.

Pages go by key. The first page takes a cut of the log, waits until the index holds it, and puts it
into the cursor; whichever gateway gives the next page waits for the same cut first. So what existed
when the listing began is listed exactly once: a key never moves, and a page begins where the last
one ended. What is written meanwhile may or may not appear.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from tidestore.api.auth import READ
from tidestore.api.context import (
    Gateway,
    dataset_of,
    gateway_of,
    number_parameter,
    single_parameter,
    wait_for_position,
)
from tidestore.api.lookup import CopyRow, ObjectRow
from tidestore.schemas.objects import DatasetName, Kind, MalformedError, parse_key
from tidestore.schemas.positions import Cut

PAGE_ITEMS = 100
CURSOR_CHARS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a listing goes on. Opaque to clients, and checked as all that comes from them."""

    dataset: str
    kind: str
    after: str
    cut: str

    def __str__(self) -> str:
        text = json.dumps([self.dataset, self.kind, self.after, self.cut])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what str() wrote; raises MalformedError."""
        hint = "use the `next` of the page before, unchanged"
        if len(text) > CURSOR_CHARS_MAX:
            raise MalformedError("cursor", "is too long", hint=hint)
        try:
            padded = text + "=" * (-len(text) % 4)
            values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (ValueError, binascii.Error, RecursionError):
            raise MalformedError("cursor", "cannot be read", hint=hint) from None
        if (
            not isinstance(values, list)
            or len(values) != 4
            or not all(isinstance(value, str) for value in values)
        ):
            raise MalformedError("cursor", "cannot be read", hint=hint)
        return cls(*values)


def list_objects(kind: Kind) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler for a listing of one kind."""

    async def handler(request: web.Request) -> web.StreamResponse:
        gateway = gateway_of(request)
        dataset = dataset_of(request)
        gateway.auth.require(request, READ, dataset)
        await wait_for_position(request)
        limit = number_parameter(
            request, "limit", PAGE_ITEMS, 1, gateway.settings.limits.page_items_max
        )
        after, cut = await _begin(request, gateway, dataset, kind)
        rows = gateway.index.page(dataset, kind, after, limit + 1)
        page = rows[:limit]
        gone = set(gateway.index.redacted_among([row.key for row in page]))
        copies = gateway.index.copies_of_many([row.key for row in page])
        document: dict[str, Any] = {
            "kind": kind.value,
            "dataset": dataset,
            "items": [
                _item(gateway, kind, row, copies[row.key]) for row in page if row.key not in gone
            ],
        }
        headers = {"Cache-Control": "no-store"}
        if len(rows) > limit:
            cursor = str(Cursor(dataset, kind.plural, page[-1].key, str(cut)))
            document["next"] = cursor
            query = urlencode({"dataset": dataset, "limit": limit, "cursor": cursor})
            headers["Link"] = f'</v1/{kind.plural}?{query}>; rel="next"'
        return web.json_response(document, headers=headers)

    return handler


async def _begin(
    request: web.Request, gateway: Gateway, dataset: DatasetName, kind: Kind
) -> tuple[str, Cut]:
    text = single_parameter(request, "cursor")
    if text is None:
        return "", await gateway.index.now()
    cursor = Cursor.parse(text)
    if (cursor.dataset, cursor.kind) != (dataset, kind.plural):
        raise MalformedError("cursor", "belongs to another listing")
    parts = parse_key(cursor.after)
    if (parts.dataset, parts.kind) != (dataset, kind):
        raise MalformedError("cursor", "belongs to another listing")
    cut = Cut.parse(cursor.cut)
    await gateway.index.reach_cut(cut)
    return cursor.after, cut


def _item(
    gateway: Gateway, kind: Kind, row: ObjectRow, copies: dict[str, CopyRow]
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "key": row.key,
        "size": row.size,
        "sha256": row.sha256,
        "written_at_ms": row.written_at_ms,
        "position": str(gateway.index.position_of(row)),
        "present_on": sorted(gateway.index.present_on(row, copies)),
    }
    if kind is not Kind.BLOB:
        item["uuid"], _, item["version"] = row.key.rsplit("/", 1)[-1].partition(".")
    if kind is Kind.FILE:
        item.update(
            name=row.name,
            content_type=row.link_type,
            size=row.link_size,
            sha256=row.link_sha256,
        )
    return item
