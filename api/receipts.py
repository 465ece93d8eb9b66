"""/v1/parties and the receipts of third parties: inviting, sending away, and what they claim.

    POST receipts --whose? known? granted? the log's own hash? --all or none--> [ receipts ]

A receipt is a claim. It goes to a topic and a view of its own; nothing here touches what reads,
waits or copies look at. See docs/run-a-replica.md.
"""

from __future__ import annotations

import time
from typing import Any, Final

from aiohttp import web

from tidestore.api.auth import ANYBODY, INVITE, OPERATE
from tidestore.api.bodies import read_json
from tidestore.api.context import gateway_of, number_parameter, single_parameter
from tidestore.api.parties import PARTY_BOOK, PartyBook
from tidestore.api.problems import Problem
from tidestore.api.replica_book import REPLICA_BOOK
from tidestore.schemas.objects import (
    PUBLIC,
    DatasetName,
    MalformedError,
    check_dataset,
    check_replica,
    check_sha256,
    find_key_parts,
)
from tidestore.schemas.parties import PartySaved, ReceiptClaimed, ReceiptState

# One batch: a second's work of a kit, and a bound on what one request writes.
RECEIPTS_MAX: Final = 500
# 500 receipts of the longest keys take 150 KB.
BATCH_BYTES_MAX: Final = 256 * 1024
RECEIPTS_PAGE: Final = 100
KEY_CHARS_MAX: Final = 200
_RECEIPT: Final = {"key", "state", "size", "sha256"}
_NO_STORE: Final = {"Cache-Control": "no-store"}
_SHAPE: Final = '{"receipts": [{"key": "...", "state": "stored", "size": 4, "sha256": "..."}]}'


async def invite_party(request: web.Request) -> web.StreamResponse:
    """Let somebody keep a replica; the answer is the only one that shows the token."""
    gateway = gateway_of(request)
    who = gateway.auth.require(request, INVITE, PUBLIC)
    body = await read_json(request)
    unknown = body.keys() - {"name", "datasets"}
    if unknown:
        hint = '{"name": "mirror", "datasets": ["public"]}'
        raise MalformedError("body", f"has the unknown member {min(unknown)[:50]!r}", hint=hint)
    name = body.get("name")
    if not isinstance(name, str):
        raise MalformedError("name", "is missing", hint="a name for the replica, like one of ours")
    name = check_replica(name)
    datasets = _read_datasets(request, body.get("datasets", [PUBLIC]))
    if name in request.app[REPLICA_BOOK].known():
        raise Problem(
            409, "name_taken", f"{name} is, or was, a replica of this store",
            hint="choose another name",
        )  # fmt: skip
    book = request.app[PARTY_BOOK]
    party, token = await book.invite(name, datasets, who.name, str(request.get("request_id", "")))
    document = {**await _document(book, party), "token": token}
    headers = {**_NO_STORE, "Location": f"/v1/parties/{name}"}
    return web.json_response(document, status=201, headers=headers)


async def list_parties(request: web.Request) -> web.StreamResponse:
    """Everybody who is invited, and how much each claims."""
    gateway_of(request).auth.require(request, OPERATE, PUBLIC)
    book = request.app[PARTY_BOOK]
    await book.catch_up()
    found = [await _document(book, party) for party in book.all()]
    return web.json_response({"parties": found}, headers=_NO_STORE)


async def get_party(request: web.Request) -> web.StreamResponse:
    """One party: for itself, and for who runs the store."""
    party = await _known(request, may_operate=True)
    return web.json_response(await _document(request.app[PARTY_BOOK], party), headers=_NO_STORE)


async def remove_party(request: web.Request) -> web.StreamResponse:
    """Send a party away, or leave: its token opens nothing any more, what it said is forgotten."""
    auth = gateway_of(request).auth
    principal = auth.principal_of(request)
    name = request.match_info["name"]
    if principal == ANYBODY or (principal.party != name):
        auth.require(request, INVITE, PUBLIC)
    book = request.app[PARTY_BOOK]
    await book.catch_up()
    party = book.find(name)
    if party is None:
        raise _unknown()
    await book.remove(party, principal.name, str(request.get("request_id", "")))
    return web.Response(status=204, headers=_NO_STORE)


async def list_receipts(request: web.Request) -> web.StreamResponse:
    """What a party claims, in order of key."""
    party = await _known(request, may_operate=True)
    after = single_parameter(request, "after") or ""
    if len(after) > KEY_CHARS_MAX:
        raise MalformedError("after", "is too long", hint="`next` of a page, unchanged")
    limit = number_parameter(request, "limit", RECEIPTS_PAGE, 1, RECEIPTS_MAX)
    found = request.app[PARTY_BOOK].page(party, after, limit)
    document: dict[str, Any] = {"items": [_receipt(item) for item in found]}
    if len(found) == limit:
        document["next"] = found[-1].key
    return web.json_response(document, headers=_NO_STORE)


async def report_receipts(request: web.Request) -> web.StreamResponse:
    """Take a party's word about objects on its replica: all of a batch, or none of it."""
    party = await _known(request, may_operate=False)
    length = request.content_length
    if length is None or length > BATCH_BYTES_MAX:
        raise Problem(
            413, "too_large", f"a batch of receipts has at most {BATCH_BYTES_MAX} bytes",
            hint="nothing was written; send it in several requests, with their Content-Length",
        )  # fmt: skip
    book, now_ms = request.app[PARTY_BOOK], int(time.time() * 1000)
    body = await read_json(request)
    items = body.get("receipts")
    if body.keys() != {"receipts"} or not isinstance(items, list) or not items:
        raise MalformedError("body", "is no batch of receipts", hint=_SHAPE)
    if len(items) > RECEIPTS_MAX:
        detail = f"a batch has at most {RECEIPTS_MAX} receipts"
        raise Problem(413, "too_many", detail, hint="nothing was written; send several batches")
    claims = [_read_receipt(party, item, number, now_ms) for number, item in enumerate(items)]
    by_key = {claim.key: claim for claim in claims}
    if len(by_key) != len(claims):
        raise MalformedError("receipts", "names a key twice", hint="only the newest counts")
    await _compare(request, list(by_key.values()))
    known = book.receipts(party, list(by_key))
    news = [claim for claim in claims if not _is_said(known.get(claim.key), claim)]
    await book.record(news)
    document = {"recorded": len(news), "unchanged": len(claims) - len(news)}
    return web.json_response(document, headers=_NO_STORE)


def _read_datasets(request: web.Request, datasets: object) -> tuple[DatasetName, ...]:
    known = gateway_of(request).settings.datasets
    hint = "a list of " + ", ".join(known)
    if not isinstance(datasets, list) or not datasets:
        raise MalformedError("datasets", "is not a list of datasets", hint=hint)
    found: list[DatasetName] = []
    for name in datasets:
        if not isinstance(name, str) or check_dataset(name) not in known:
            raise MalformedError("datasets", "names a dataset that does not exist", hint=hint)
        found.append(DatasetName(name))
    return tuple(dict.fromkeys(found))


def _read_receipt(party: PartySaved, item: object, number: int, now_ms: int) -> ReceiptClaimed:
    field = f"receipts[{number}]"
    if not isinstance(item, dict) or item.keys() != _RECEIPT:
        hint = "with " + ", ".join(sorted(_RECEIPT)) + " and nothing else"
        raise MalformedError(field, "is no receipt", hint=hint)
    key, state, size, sha256 = (item[name] for name in ("key", "state", "size", "sha256"))
    parts = find_key_parts(key) if isinstance(key, str) and len(key) <= KEY_CHARS_MAX else None
    if parts is None:
        raise MalformedError(f"{field}.key", "is no key of an object")
    if parts.dataset not in party.datasets:
        raise Problem(
            403, "not_allowed", f"{field}.key is of a dataset that {party.name} was not invited to",
            hint="nothing was written",
        )  # fmt: skip
    if not isinstance(state, str) or state not in set(ReceiptState):
        hint = "one of " + ", ".join(ReceiptState)
        raise MalformedError(f"{field}.state", "is not known", hint=hint)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise MalformedError(f"{field}.size", "is not a size in bytes")
    if not isinstance(sha256, str):
        raise MalformedError(f"{field}.sha256", "is not 64 hexadecimal digits")
    digest = check_sha256(sha256, f"{field}.sha256")
    return ReceiptClaimed(party.name, party.life, key, state, size, digest, now_ms)


async def _compare(request: web.Request, claims: list[ReceiptClaimed]) -> None:
    """Raise Problem 422 when one of them is about something that the log does not have."""
    index = gateway_of(request).index
    keys = [claim.key for claim in claims]
    rows = index.find_many(keys)
    missing = [key for key in keys if key not in rows]
    if missing:  # it may have been written a moment ago, through another gateway
        await index.catch_up(missing)
        rows |= index.find_many(missing)
    for number, claim in enumerate(claims):
        row = rows.get(claim.key)
        if row is None or (row.size, row.sha256) != (claim.size, claim.sha256):
            what = "there is no such object" if row is None else "the object has other content"
            raise Problem(
                422, "receipt_mismatch", f"receipts[{number}]: {what}",
                hint="size and sha256 are those of the feed; nothing was written",
            )  # fmt: skip


def _is_said(known: ReceiptClaimed | None, claim: ReceiptClaimed) -> bool:
    """Whether this is what the party said last: a repeat after a crash writes nothing."""
    return known is not None and (known.state, known.size, known.sha256) == (
        claim.state,
        claim.size,
        claim.sha256,
    )


async def _known(request: web.Request, *, may_operate: bool) -> PartySaved:
    """The party that a path names, for itself or for who runs the store; up to date."""
    book, name = request.app[PARTY_BOOK], request.match_info["name"]
    _refuse_others(request, name, may_operate=may_operate)
    # Whoever was sent away through another gateway a moment ago is away here, too.
    await book.catch_up()
    _refuse_others(request, name, may_operate=may_operate)
    party = book.find(name)
    if party is None:
        raise _unknown()
    return party


def _refuse_others(request: web.Request, name: str, *, may_operate: bool) -> None:
    auth = gateway_of(request).auth
    principal = auth.principal_of(request)
    if not may_operate or principal.party:
        auth.require_party(request, name)
    else:
        auth.require(request, OPERATE, PUBLIC)


async def _document(book: PartyBook, party: PartySaved) -> dict[str, Any]:
    return {
        "name": party.name,
        "life": party.life,
        "datasets": list(party.datasets),
        "invited_by": party.invited_by,
        "invited_at_ms": party.invited_at_ms,
        "deployment": await book.deployment(),
        "receipts": book.counts(party),
    }


def _receipt(item: ReceiptClaimed) -> dict[str, Any]:
    return {
        "key": item.key,
        "state": item.state,
        "size": item.size,
        "sha256": item.sha256,
        "claimed_at_ms": item.claimed_at_ms,
        "verdict": item.verdict,
        "judged_at_ms": item.judged_at_ms,
        "detail": item.detail,
    }


def _unknown() -> Problem:
    return Problem(404, "unknown_party", "nobody is invited under this name")
