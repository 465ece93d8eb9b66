"""What is parked, and asking that it be tried again.

The gateway does not try anything itself: it appends RetryAsked, and the worker that holds the
copy's partition carries it out (docs/decisions/0010). Each request names the parked record that it
is about, so a request that comes twice, or late, does nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiohttp import web

from tidestore.api.auth import OPERATE, Principal
from tidestore.api.bodies import read_json
from tidestore.api.context import Gateway, gateway_of, number_parameter, single_parameter
from tidestore.api.listing import CURSOR_CHARS_MAX, PAGE_ITEMS
from tidestore.api.lookup import CopyRow
from tidestore.schemas.events import CopyState, RetryAsked
from tidestore.schemas.objects import MalformedError
from tidestore.schemas.topics import retry_key

LOGGER: Final = logging.getLogger("tidestore.api")

# One call appends at most so many requests, or names so many keys: all are in the broker within a
# second, and a caller that dies has asked for part of it, which may be asked for again.
ASKED_MAX: Final = 500
# Rows that one call looks at to find those that fit: some milliseconds of the event loop. The
# cursor goes on from there, so a page may be empty before the last one.
SCANNED_MAX: Final = 5_000
_PORTION: Final = 500
# 30 years; more is a typing error.
AGE_SECONDS_MAX: Final = 999_999_999
REASON_CHARS_MAX: Final = 500
KEY_CHARS_MAX: Final = 1_024
ERROR_CLASS: Final = re.compile(r"[a-z_]{1,40}", re.ASCII)
_MEMBERS: Final = {"replica", "error_class", "older_than_seconds", "keys", "reason", "cursor"}

# Replica and key after which a listing goes on.
Place = tuple[str, str]
_BEGIN: Final[Place] = ("", "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parked copies are meant. `parked_until_ms` leaves out those parked later than that."""

    replicas: tuple[str, ...]
    error_class: str | None = None
    parked_until_ms: int | None = None

    def fits(self, row: CopyRow) -> bool:
        """Whether a copy is one of them."""
        return (
            row.state is CopyState.PARKED
            and row.replica in self.replicas
            and self.error_class in (None, row.error_class)
            and (self.parked_until_ms is None or row.changed_at_ms <= self.parked_until_ms)
        )


class ParkedRows(Protocol):
    """Where parked copies are found."""

    def parked(self, replica: str, after: str, limit: int) -> list[CopyRow]:
        """The next parked copies of a replica after a key, in key order."""
        ...


def find_parked(
    index: ParkedRows, wanted: Wanted, after: Place, limit: int
) -> tuple[list[CopyRow], Place | None]:
    """Up to `limit` parked copies that fit, and where to go on; None when that was all."""
    found: list[CopyRow] = []
    scanned = 0
    for replica in sorted(wanted.replicas):
        if replica < after[0]:
            continue
        last = after[1] if replica == after[0] else ""
        while rows := index.parked(replica, last, _PORTION):
            for row in rows:
                last = row.key
                scanned += 1
                if wanted.fits(row):
                    found.append(row)
                if len(found) == limit or scanned == SCANNED_MAX:
                    return found, (replica, last)
    return found, None


def cursor_text(place: Place) -> str:
    """A place as clients carry it, opaque to them."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def read_cursor(text: str | None) -> Place:
    """Read what cursor_text wrote; raises MalformedError."""
    if text is None:
        return _BEGIN
    refusal = MalformedError("cursor", "cannot be read", hint="use `next` as it was answered")
    if len(text) > CURSOR_CHARS_MAX:
        raise refusal
    try:
        padded = text + "=" * (-len(text) % 4)
        values = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise refusal from None
    match values:
        case [str(replica), str(key)]:
            return replica, key
        case _:
            raise refusal


async def list_parked(request: web.Request) -> web.StreamResponse:
    """Parked copies by replica, error class and age, page by page."""
    gateway, _ = _operator(request)
    older = single_parameter(request, "older_than_seconds")
    seconds = number_parameter(request, "older_than_seconds", 0, 0, AGE_SECONDS_MAX)
    wanted = _wanted(
        gateway,
        single_parameter(request, "replica"),
        single_parameter(request, "error_class"),
        None if older is None else seconds,
    )
    limit = number_parameter(
        request, "limit", PAGE_ITEMS, 1, gateway.settings.limits.page_items_max
    )
    after = read_cursor(single_parameter(request, "cursor"))
    rows, place = find_parked(gateway.index, wanted, after, limit)
    document: dict[str, Any] = {"items": [parked_document(row) for row in rows]}
    if place is not None:
        document["next"] = cursor_text(place)
    return web.json_response(document, headers={"Cache-Control": "no-store"})


def parked_document(row: CopyRow) -> dict[str, Any]:
    """One parked copy as the API shows it."""
    more = {"error_class": row.error_class, "error": row.error, "waits_for": row.waits_for}
    return {
        "key": row.key,
        "replica": row.replica,
        "incarnation": row.incarnation,
        "attempts": row.attempts,
        "parked_at_ms": row.changed_at_ms,
        **{name: value for name, value in more.items() if value is not None},
    }


async def ask_retries(request: web.Request) -> web.StreamResponse:
    """Ask that parked copies be tried again: 202 when the brokers have the requests."""
    gateway, principal = _operator(request)
    body = await read_json(request)
    unknown = body.keys() - _MEMBERS
    if unknown:
        hint = "known are " + ", ".join(sorted(_MEMBERS))
        raise MalformedError("body", f"has the unknown member {min(unknown)[:50]!r}", hint=hint)
    wanted = _wanted(
        gateway,
        _text(body, "replica", KEY_CHARS_MAX),
        _text(body, "error_class", KEY_CHARS_MAX),
        _seconds(body),
    )
    reason = _text(body, "reason", REASON_CHARS_MAX)
    document: dict[str, Any] = {}
    if "keys" in body:
        keys = _keys(body)
        rows, place = _of_keys(gateway, wanted, keys), None
        document["not_parked"] = sorted(set(keys) - {row.key for row in rows})
    else:
        after = read_cursor(_text(body, "cursor", CURSOR_CHARS_MAX))
        rows, place = find_parked(gateway.index, wanted, after, ASKED_MAX)
    await _append(gateway, principal, rows, reason)
    document.update(asked=len(rows), more=place is not None)
    if place is not None:
        document["next"] = cursor_text(place)
    LOGGER.info("%s asked for a retry of %d parked copies", principal.name, len(rows))
    return web.json_response(document, status=202)


async def _append(
    gateway: Gateway, principal: Principal, rows: Sequence[CopyRow], reason: str | None
) -> None:
    """Append all requests at once; raises LogError when one was not acknowledged.

    Killed or failed in the middle: some were asked for, and asking again for all is harmless.
    """
    now_ms = int(time.time() * 1000)
    topic = gateway.settings.topics.retries
    events = [
        RetryAsked(
            key=row.key,
            replica=row.replica,
            incarnation=row.incarnation,
            changed_at_ms=row.changed_at_ms,
            asked_by=principal.name,
            asked_at_ms=now_ms,
            reason=reason,
        )
        for row in rows
    ]
    appends = [
        gateway.writer.append(
            topic, 0, retry_key(event.replica, event.incarnation, event.key), event
        )
        for event in events
    ]
    await asyncio.gather(*appends)


def _operator(request: web.Request) -> tuple[Gateway, Principal]:
    """Errors may show what is inside, and keys of every dataset are listed: operators alone."""
    gateway = gateway_of(request)
    for dataset in gateway.settings.datasets:
        gateway.auth.require(request, OPERATE, dataset)
    return gateway, gateway.auth.principal_of(request)


def _wanted(
    gateway: Gateway, replica: str | None, error_class: str | None, seconds: int | None
) -> Wanted:
    replicas = gateway.replica_names if replica is None else [gateway.check_replica(replica)]
    if error_class is not None and not ERROR_CLASS.fullmatch(error_class):
        hint = "docs/operations.md lists them: network, checksum, missing, ..."
        raise MalformedError("error_class", "is no error class", hint=hint)
    until_ms = None if seconds is None else int(time.time() * 1000) - seconds * 1000
    return Wanted(tuple(replicas), error_class, until_ms)


def _of_keys(gateway: Gateway, wanted: Wanted, keys: Sequence[str]) -> list[CopyRow]:
    found = gateway.index.copies_of_many(keys)
    return [row for copies in found.values() for row in copies.values() if wanted.fits(row)]


def _text(body: dict[str, Any], field: str, chars_max: int) -> str | None:
    value = body.get(field)
    if field not in body:
        return None
    if not isinstance(value, str) or len(value) > chars_max or "\0" in value:
        raise MalformedError(field, f"is not a text of up to {chars_max} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MalformedError(field, "holds half a character") from None
    return value


def _seconds(body: dict[str, Any]) -> int | None:
    if "older_than_seconds" not in body:
        return None
    value = body["older_than_seconds"]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= AGE_SECONDS_MAX:
        hint = f"0 to {AGE_SECONDS_MAX}"
        raise MalformedError("older_than_seconds", "is not a whole number in its range", hint=hint)
    return value


def _keys(body: dict[str, Any]) -> list[str]:
    keys = body["keys"]
    if not isinstance(keys, list) or not 1 <= len(keys) <= ASKED_MAX:
        raise MalformedError("keys", f"is not a list of 1 to {ASKED_MAX} keys")
    if "cursor" in body:
        raise MalformedError("cursor", "does not go with keys")
    found = [_text({"keys": key}, "keys", KEY_CHARS_MAX) for key in keys]
    return sorted({key for key in found if key is not None})
