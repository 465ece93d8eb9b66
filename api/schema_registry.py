"""A read-only schema registry with the paths of Confluent's, so that its stock client decodes us.

Schemas are part of the release and never registered at run time: writing is refused.
"""

from __future__ import annotations

from aiohttp import web

from tidestore.schemas.catalogue import Released, newest_schemas, released_schemas, versions_of

_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


def _answer(document: object, status: int = 200) -> web.Response:
    return web.json_response(document, status=status, content_type=_CONTENT_TYPE)


def _error(code: int, message: str) -> web.Response:
    return _answer({"error_code": code, "message": message}, status=code // 100)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1


async def schema_by_id(request: web.Request) -> web.StreamResponse:
    """The schema that a record names by id."""
    found = released_schemas().get(_number(request.match_info["id"]))
    if found is None:
        return _error(40403, "Schema not found")
    return _answer({"schema": found.text, "schemaType": "AVRO"})


async def schema_versions(request: web.Request) -> web.StreamResponse:
    """The subjects and versions under which an id is known."""
    found = released_schemas().get(_number(request.match_info["id"]))
    if found is None:
        return _error(40403, "Schema not found")
    return _answer([{"subject": found.subject, "version": found.version}])


async def subjects(request: web.Request) -> web.StreamResponse:
    """All subjects: one per record."""
    del request
    return _answer(sorted(schema.subject for schema in newest_schemas().values()))


async def subject_versions(request: web.Request) -> web.StreamResponse:
    """The versions of a subject."""
    found = versions_of(request.match_info["subject"])
    if not found:
        return _error(40401, "Subject not found")
    return _answer([schema.version for schema in found])


async def subject_version(request: web.Request) -> web.StreamResponse:
    """One version of a subject, or `latest`."""
    found = versions_of(request.match_info["subject"])
    if not found:
        return _error(40401, "Subject not found")
    text = request.match_info["version"]
    chosen: Released | None = found[-1]
    if text != "latest":
        chosen = next((schema for schema in found if schema.version == _number(text)), None)
    if chosen is None:
        return _error(40402, "Version not found")
    return _answer(
        {
            "subject": chosen.subject,
            "id": chosen.id,
            "version": chosen.version,
            "schemaType": "AVRO",
            "schema": chosen.text,
        }
    )


async def compatibility(request: web.Request) -> web.StreamResponse:
    """The level that every new version is held to, by a test."""
    del request
    return _answer({"compatibilityLevel": "FULL_TRANSITIVE"})


async def read_only(request: web.Request) -> web.StreamResponse:
    """Writing: schemas come with a release."""
    del request
    return _error(40301, "this registry is read-only: schemas are part of the release")


def registry_routes(prefix: str) -> list[web.RouteDef]:
    """The registry's routes under a path prefix."""
    return [
        web.get(prefix + "/schemas/ids/{id}", schema_by_id),
        web.get(prefix + "/schemas/ids/{id}/versions", schema_versions),
        web.get(prefix + "/subjects", subjects),
        web.get(prefix + "/subjects/{subject}/versions", subject_versions),
        web.get(prefix + "/subjects/{subject}/versions/{version}", subject_version),
        web.get(prefix + "/config", compatibility),
        web.post(prefix + "/subjects/{subject}/versions", read_only),
        web.post(prefix + "/subjects/{subject}", read_only),
    ]
