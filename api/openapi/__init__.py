"""The API's own description: an OpenAPI 3.1 document and a page for people made from it.

The document is built from the constants that the handlers use (patterns, bounds, the configured
replicas), so that it cannot say another number than the code. A test compares its paths with the
application's routes, and schemathesis compares its answers with a running gateway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidestore import __version__
from tidestore.api.openapi.feed import feed_paths
from tidestore.api.openapi.operating import operating_paths
from tidestore.api.openapi.parties import party_paths
from tidestore.api.openapi.parts import Bounds, Json
from tidestore.api.openapi.reading import reading_paths
from tidestore.api.openapi.redacting import redacting_paths
from tidestore.api.openapi.replicas import replica_paths
from tidestore.api.openapi.schemas import schemas
from tidestore.api.openapi.scrubbing import scrubbing_paths
from tidestore.api.openapi.service import service_paths
from tidestore.api.openapi.writing import writing_paths
from tidestore.api.settings import GatewaySettings

_DESCRIPTION = """\
One replicated data store over many clouds. An object is written once, becomes one event on a log,
and is copied to every replica.

Writing needs a bearer token; reading public data needs none. Every error is an
`application/problem+json` document (RFC 9457) with a machine `code` and, where one helps, a `hint`.
Sending a write again is always safe: the writer chooses its identity, a hash or a uuid with a
version. Below every path an answer of 400 `bad_http` or 431 `head_too_large` is possible for what
is no readable HTTP request; the connection is then closed.
"""


def openapi_document(settings: GatewaySettings, replicas: Sequence[str]) -> Json:
    """The document of one gateway that serves these replicas."""
    bounds = Bounds(
        replicas=tuple(replicas),
        page_items_max=settings.limits.page_items_max,
        wait_seconds_max=settings.limits.wait_seconds_max,
    )
    paths = {**writing_paths(bounds), **service_paths(), **operating_paths(bounds)}
    paths |= scrubbing_paths()
    paths |= replica_paths() | feed_paths(bounds) | party_paths()
    for path, operations in [*reading_paths(bounds).items(), *redacting_paths().items()]:
        paths.setdefault(path, {}).update(operations)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tidestore",
            "version": __version__,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "write", "description": "Producers: blobs, files, bundles, collections."},
            {"name": "read", "description": "Consumers: bytes, manifests, listings, copies."},
            {"name": "redact", "description": "Administrators: what must go away."},
            {"name": "hooks", "description": "Webhooks for what happens to objects."},
            {
                "name": "operate",
                "description": "What is parked, its retry, why a copy is not there.",
            },
            {"name": "service", "description": "Health, metrics, tasks, this description."},
            {"name": "registry", "description": "Avro schemas, read with any Confluent client."},
        ],
        "paths": {path: _with_heads(operations) for path, operations in sorted(paths.items())},
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`make run` prints one; the operator makes others.",
                }
            },
        },
    }


def _with_heads(operations: Json) -> Json:
    """HEAD answers wherever GET does, with the same headers and no body."""
    get: dict[str, Any] | None = operations.get("get")
    if get is None or "head" in operations:
        return operations
    responses = {
        status: {name: value for name, value in response.items() if name != "content"}
        for status, response in get["responses"].items()
    }
    head = {
        **get,
        "operationId": get["operationId"] + "Head",
        "summary": f"Headers only: {get['summary']}",
        "responses": responses,
        "x-like-get": True,
    }
    return {**operations, "head": head}
