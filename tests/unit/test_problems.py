"""api: every error is problem+json with a code; tokens; JSON bodies; cursors."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from tidestore.api.auth import ANYBODY, HOOKS, READ, WRITE, Authenticator, Principal
from tidestore.api.bodies import _parse
from tidestore.api.listing import Cursor
from tidestore.api.problems import Problem, problem_of, problems_middleware, unavailable
from tidestore.connectors import errors
from tidestore.connectors.kafka import LogRefusedError, LogUnavailableError
from tidestore.schemas.codec import RecordTooLargeError
from tidestore.schemas.objects import PUBLIC, DatasetName, MalformedError

CASES: list[tuple[Exception, int, str]] = [
    (Problem(418, "teapot", "x"), 418, "teapot"),
    (MalformedError("uuid", "is not a uuid", hint="8-4-4-4-12"), 400, "malformed"),
    (RecordTooLargeError("2 MB"), 413, "record_too_large"),
    (errors.ChecksumMismatchError("put", "aws", detail="x"), 422, "checksum_mismatch"),
    (errors.StoreFullError("put", "aws"), 507, "store_full"),
    (errors.StoreUnreachableError("put", "aws"), 503, "store_unavailable"),
    (errors.StoreDeniedError("put", "aws"), 503, "store_unavailable"),
    (errors.UnsupportedError("presign", "aws"), 502, "store_failed"),
    (LogUnavailableError("x"), 503, "log_unavailable"),
    (LogRefusedError("x"), 503, "log_unavailable"),
    (web.HTTPNotFound(), 404, "no_such_path"),
    (web.HTTPMethodNotAllowed("PUT", {"GET"}), 405, "method_not_allowed"),
    (web.HTTPRequestEntityTooLarge(1, 2), 413, "too_large"),
    (web.HTTPBadRequest(), 400, "refused"),
    (RuntimeError("secret detail"), 500, "internal"),
]


# aiohttp would rather have typed keys; the middlewares share this one as a text.
@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")
@pytest.mark.parametrize(("error", "status", "code"), CASES, ids=lambda value: str(value)[:30])
async def test_every_error_has_its_problem(error: Exception, status: int, code: str) -> None:
    """Goal: RFC 9457, no stack trace. Method: raise each below the middleware, read the answer."""

    async def handler(_: web.Request) -> web.StreamResponse:
        raise error

    request = make_mocked_request("GET", "/")
    request["request_id"] = "r-1"
    answer = await problems_middleware(request, handler)
    assert isinstance(answer, web.Response)
    assert answer.status == status
    assert answer.content_type == "application/problem+json"
    assert isinstance(answer.body, bytes)
    document = json.loads(answer.body)
    assert (document["status"], document["code"], document["request_id"]) == (status, code, "r-1")
    assert document["type"].endswith("/" + code)
    assert document["title"]
    assert "Traceback" not in answer.body.decode()
    assert "secret detail" not in answer.body.decode()
    if status == 503:
        assert int(answer.headers["Retry-After"]) >= 1
        assert "again" in document["hint"]


async def test_what_is_no_error_passes_and_a_client_that_left_gets_nothing() -> None:
    """Goal: redirects work. Method: a redirect, a good answer, and a lost connection."""
    request = make_mocked_request("GET", "/")

    async def redirects(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/x")

    async def leaves(_: web.Request) -> web.StreamResponse:
        raise ConnectionResetError

    async def answers(_: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    with pytest.raises(web.HTTPFound):
        await problems_middleware(request, redirects)
    with pytest.raises(ConnectionResetError):
        await problems_middleware(request, leaves)
    assert (await problems_middleware(request, answers)).status == 200


def test_a_problem_carries_hint_members_and_headers() -> None:
    """Goal: a client can act on it. Method: all of them, and a value that is no JSON."""
    problem = Problem(
        409, "conflict", "x", hint="h", headers={"X": "y"}, more={"o": {1}, "u": "\ud800"}
    )
    answer = problem.response()
    assert answer.headers["X"] == "y"
    assert isinstance(answer.body, bytes)
    document = json.loads(answer.body)
    assert (document["hint"], document["title"]) == ("h", "Conflict")
    assert "request_id" not in document
    assert unavailable("x", retry_after=7).headers == {"Retry-After": "7"}
    slow = errors.StoreThrottledError("put", "aws", retry_after_seconds=30.0)
    assert problem_of(slow).headers == {"Retry-After": "30"}
    assert problem_of(MalformedError("f", "r")).more == {"field": "f"}


_AUTH = Authenticator({hashlib.sha256(b"good").hexdigest(): "ana"})


def _request(header: str | None) -> web.Request:
    return make_mocked_request(
        "GET", "/", headers={} if header is None else {"Authorization": header}
    )


def test_a_known_token_stands_for_its_name() -> None:
    """Goal: writes have an author. Method: forms of one good header."""
    for header in ("Bearer good", "bearer good", "BEARER   good "):
        assert _AUTH.require(_request(header), WRITE, PUBLIC) == Principal("ana")
    assert _AUTH.principal_of(_request(None)) == ANYBODY


@pytest.mark.parametrize(
    "header", ["Bearer bad", "Bearer", "Bearer ", "Basic good", "good", "", "Bearer " + "x" * 1_025]
)
def test_a_wrong_token_is_refused_also_for_public_reads(header: str) -> None:
    """Goal: who believes to be somebody learns that he is not. Method: wrong headers on a read."""
    with pytest.raises(Problem) as caught:
        _AUTH.require(_request(header), READ, PUBLIC)
    assert (caught.value.status, caught.value.code) == (401, "unauthorized")
    assert caught.value.headers == {"WWW-Authenticate": "Bearer"}
    assert "Bearer <token>" in caught.value.hint


def test_anybody_may_read_what_is_public_and_nothing_else() -> None:
    """Goal: no write without a token. Method: each action in each dataset."""
    assert _AUTH.require(_request(None), READ, PUBLIC) == ANYBODY
    for action, dataset in ((WRITE, PUBLIC), (HOOKS, PUBLIC), (READ, DatasetName("private"))):
        with pytest.raises(Problem, match="needs a token"):
            _AUTH.require(_request(None), action, dataset)


def test_one_who_may_not_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: the seam for grants answers 403. Method: an authenticator that grants nothing."""
    monkeypatch.setattr(Authenticator, "may", lambda *_: False)
    with pytest.raises(Problem, match="ana may not write") as caught:
        _AUTH.require(_request("Bearer good"), WRITE, PUBLIC)
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'{"a":1,"a":2}', "member twice"),
        (b'{"a":{"b":1,"b":1}}', "member twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":-Infinity}', "Infinity"),
        (b'{"a":' + b"1" * 5_000 + b"}", "too many digits"),
        (b'{"a":' + b"[" * 30 + b"]" * 30 + b"}", "nested more than 20"),
        (b'{"a":' * 30 + b"1" + b"}" * 30, "nested more than 20"),
        (b'{"a":' + b"[" * 200_000, "not JSON"),
    ],
)
def test_a_body_that_is_not_plain_json_is_malformed(data: bytes, reason: str) -> None:
    """Goal: hostile JSON costs nothing. Method: broken, doubled, endless, deep."""
    with pytest.raises(MalformedError, match=reason):
        _parse(data)


def test_plain_json_is_read_as_it_is() -> None:
    """Goal: no value is changed. Method: every type, to the bounds."""
    document: dict[str, Any] = {"a": [1, -(10**17), 10**18, 1.5, None, True, "ü"], "b": {"c": {}}}
    assert _parse(json.dumps(document).encode()) == document


@pytest.mark.parametrize(
    "text", ["", "x", "!!!!", "W10", "WyJhIl0", "e30", "A" * 5_000, "WzEsMiwzLDRd", "é" * 4]
)
def test_a_cursor_that_we_did_not_make_is_refused(text: str) -> None:
    """Goal: what comes from clients is checked. Method: other JSON, other types, too long."""
    with pytest.raises(MalformedError) as caught:
        Cursor.parse(text)
    assert "unchanged" in caught.value.hint
