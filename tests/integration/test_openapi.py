"""The API's description: complete, true, and readable."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest

from tests.http_calls import Calls
from tests.world import TOKEN
from tidestore.api.routes import all_routes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

_METHODS: Final = {"get", "head", "put", "post", "patch", "delete"}
_CHECKS: Final = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance,negative_data_rejection"
)


class _Page(HTMLParser):
    """What a page refers to, and whether its elements are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "iframe", "object", "embed", "link", "img"}, tag
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "action"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def document_of(calls: Calls) -> dict[str, Any]:
    answer = await calls.get("/openapi.json")
    assert answer.headers["Content-Type"].startswith("application/json")
    found: dict[str, Any] = answer.json
    return found


async def names_of_replicas(calls: Calls) -> list[tuple[str, bool]]:
    """Which replicas there are, and whether each is paused."""
    answer = await calls.get("/v1/replicas")
    return [(one["name"], one["is_paused"]) for one in answer.json["replicas"]]


async def test_every_route_is_described_and_every_description_is_a_route(calls: Calls) -> None:
    """Goal: the document is complete. Method: compare it with the application's own routes."""
    document = await document_of(calls)
    described = {
        (method, path)
        for path, operations in document["paths"].items()
        for method in operations.keys() & _METHODS
    }
    served = {(route.method.lower(), route.path) for route in all_routes()}
    # aiohttp answers HEAD wherever it answers GET.
    served |= {("head", path) for method, path in served if method == "get"}
    assert described == served
    names = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    assert len(names) == len(set(names))


async def test_every_path_parameter_and_reference_is_there(calls: Calls) -> None:
    """Goal: a generator can use it. Method: resolve all references, match the paths' names."""
    document = await document_of(calls)
    for path, operations in document["paths"].items():
        wanted = set(re.findall(r"{(\w+)}", path))
        for operation in operations.values():
            given = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
            assert given == wanted, (path, operation["operationId"])
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references == document["components"]["schemas"].keys()


async def test_writes_need_the_token_that_the_document_says(calls: Calls) -> None:
    """Goal: the security scheme is true. Method: call each operation that names it without one."""
    document = await document_of(calls)
    values = {
        "sha256": "0" * 64,
        "uuid": "00000000-0000-0000-0000-000000000000",
        "hook_id": "1",
        "name": "nobody",
    }
    needing = [
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["security"] == [{"token": []}]
    ]
    assert {("put", "/v1/blobs/{sha256}"), ("post", "/v1/hooks")} <= set(needing)
    for method, path in needing:
        version = "2026-01-01T000000.000000Z" if "uuid" in path else None
        answer = await calls(method.upper(), path.format(**values), token=None, version=version)
        assert answer.status == 401, (method, path, answer.body)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_answers_are_what_the_document_says(calls: Calls, tmp_path: Path) -> None:
    """Goal: the document is true.

    Method: schemathesis, right and wrong values, fixed examples. `at` and `wait` are left out: a
    position that never comes is answered after five seconds, each time. It learns names from
    answers, so what would pause, lose or retire the replicas of all other tests is called for one
    that is not there.
    """
    document = await document_of(calls)
    replicas = await names_of_replicas(calls)
    paths = document["paths"]
    changing = [paths["/v1/replicas/{name}"][method] for method in ("patch", "delete")]
    for operation in (*changing, paths["/v1/replicas/{name}/losses"]["post"]):
        for item in operation["parameters"]:
            if item["name"] == "name":
                item["schema"] = {"type": "string", "enum": ["nobody"]}
    for operations in document["paths"].values():
        # HEAD where it is only GET without a body runs the same code.
        for method in [name for name, found in operations.items() if "x-like-get" in found]:
            del operations[method]
        for operation in operations.values():
            kept = [item for item in operation["parameters"] if item["name"] not in {"at", "wait"}]
            operation["parameters"] = kept
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    # A query that is too long is refused as a head that is.
    (tmp_path / "schemathesis.toml").write_text(
        "[checks]\nnegative_data_rejection.expected-statuses ="
        " [400, 401, 403, 404, 405, 406, 409, 412, 415, 416, 422, 428, 429, 431]\n"
    )
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(tmp_path / "schemathesis.toml"), "run"),
        *(str(tmp_path / "openapi.json"), "--url", calls.world.url()),
        *("--header", f"Authorization: Bearer {TOKEN}", "--checks", _CHECKS),
        *("--max-examples", "3", "--generation-deterministic", "--no-shrink"),
        *("--phases", "examples,coverage,fuzzing", "--max-redirects", "0"),
        *("--no-color", "--warnings", "off", "--suppress-health-check", "all"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
    )
    output, _ = await process.communicate()
    text = "\n".join(line[:300] for line in output.decode("utf-8", "replace").splitlines())
    assert process.returncode == 0, text
    assert re.search(r"[1-9]\d* passed", text), text
    operations_count = sum(len(operations) for operations in document["paths"].values())
    assert f"Tested: {operations_count}" in text, text
    assert await names_of_replicas(calls) == replicas, "other tests need them"


async def test_the_page_is_whole_and_fetches_nothing(calls: Calls) -> None:
    """Goal: a page for people, self-contained. Method: parse it; look for what it would load."""
    answer = await calls.get("/docs")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    text = answer.body.decode()
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.links == ["/openapi.json"]
    assert "url(" not in text
    assert "@import" not in text
    document = await document_of(calls)
    for path in document["paths"]:
        assert f"<code>{path}</code>" in text
    assert "curl -T reads.fastq -H &quot;Authorization: Bearer $TOKEN&quot;" in text
    assert calls.world.url() in text
    # The host is the client's word: it must not become markup.
    foreign = await calls.get("/docs", headers={"Host": "a'><b>x"})
    assert b"<b>x" not in foreign.body
