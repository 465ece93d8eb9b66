"""PUT of files, bundles and collections: small manifests that name what was written before.

Everything a manifest names must be in the log already, in the same dataset: the index answers that,
after it has caught up with the log once if something seems to be missing (design point 8). No store
is asked about any reference, so a bundle of 10,000 files costs what one of 10 does, but for its
bytes.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tidestore.api.bodies import read_json
from tidestore.api.context import author_of, dataset_of, gateway_of, single_parameter
from tidestore.api.files import commit_file, identity, resolve, write_manifest
from tidestore.api.lookup import ObjectRow
from tidestore.api.origin import Author
from tidestore.api.problems import Problem
from tidestore.api.staging import put_staged_file, read_staged
from tidestore.api.waits import answer_write, asked_of
from tidestore.schemas.manifests import (
    DESCRIPTION_CHARS_MAX,
    ENTRIES_MAX,
    BundleEntry,
    Link,
    bundle_manifest_bytes,
    check_content_type,
    check_entry_names,
    check_name,
    collection_manifest_bytes,
    read_link,
)
from tidestore.schemas.objects import (
    DatasetName,
    Kind,
    MalformedError,
    ObjectUuid,
    Sha256,
    Version,
    check_sha256,
    check_uuid,
    check_version,
    check_version_for_write,
    versioned_key,
)

# A collection's name is a line in a list of them; what is longer belongs into its description.
TITLE_CHARS_MAX = 1_024
# Building a manifest of this many entries or more takes milliseconds: not on the event loop.
_THREAD_ENTRIES = 200


async def put_file(request: web.Request) -> web.StreamResponse:
    """Store one version of a file: a name and a type for a blob, or for a staged object."""
    dataset, uuid, version, author = _target(request)
    asked = asked_of(request)
    body = await read_json(request)
    _refuse_unknown(body, {"blob", "source_url", "sha256", "name", "content_type"})
    name = check_name(_text(body, "name"))
    content_type = check_content_type(_text(body, "content_type", "application/octet-stream"))
    if ("blob" in body) == ("source_url" in body):
        raise MalformedError(
            "body", "names no content", hint="give either blob (a sha256) or source_url"
        )
    if "source_url" in body:
        staged = read_staged(
            body, dataset, uuid, version, author, name=name, content_type=content_type
        )
        return await put_staged_file(request, staged, asked)
    if "sha256" in body:
        raise MalformedError("sha256", "goes with source_url", hint="blob is the sha256 already")
    sha256 = check_sha256(_text(body, "blob"), "blob")
    outcome, key, document = await commit_file(
        gateway_of(request), dataset, uuid, version, author, sha256, name, content_type
    )
    return await answer_write(request, key, outcome, document, asked)


async def put_bundle(request: web.Request) -> web.StreamResponse:
    """Store one version of a bundle: names for versions of files."""
    dataset, uuid, version, author = _target(request)
    asked = asked_of(request)
    gateway = gateway_of(request)
    body = await read_json(request)
    _refuse_unknown(body, {"files"})
    wanted = await _in_thread(_read_entries, _entries(body, "files"))
    keys = [
        versioned_key(dataset, Kind.FILE, file_uuid, file_version)
        for _, file_uuid, file_version in wanted
    ]
    rows = await resolve(gateway, keys)

    def build() -> bytes:
        entries = [
            _bundle_entry(name, file_uuid, file_version, rows[key])
            for (name, file_uuid, file_version), key in zip(wanted, keys, strict=True)
        ]
        check_entry_names([entry.name for entry in entries])
        return bundle_manifest_bytes(uuid, version, entries)

    data = await asyncio.to_thread(build) if len(keys) >= _THREAD_ENTRIES else build()
    key = versioned_key(dataset, Kind.BUNDLE, uuid, version)
    outcome = await write_manifest(gateway, key, data, author)
    document = {
        **identity(Kind.BUNDLE, dataset, uuid, version, key),
        "files": len(keys),
        "bytes": sum(rows[key].link_size or 0 for key in keys),
    }
    return await answer_write(request, key, outcome, document, asked)


async def put_collection(request: web.Request) -> web.StreamResponse:
    """Store one version of a collection: a description and links to anything."""
    dataset, uuid, version, author = _target(request)
    asked = asked_of(request)
    gateway = gateway_of(request)
    body = await read_json(request)
    _refuse_unknown(body, {"contents", "name", "description", "details"})
    links = await _in_thread(_read_links, _entries(body, "contents"))
    details = body.get("details", {})
    if not isinstance(details, dict):
        raise MalformedError("details", "is not a JSON object")
    name, description = _title(body), _text(body, "description", "")
    if len(description) > DESCRIPTION_CHARS_MAX:
        raise MalformedError("description", f"is over {DESCRIPTION_CHARS_MAX} characters")
    await resolve(gateway, [link.key(dataset) for link in links])
    data = collection_manifest_bytes(
        uuid, version, links, name=name, description=description, details=details
    )
    limit = gateway.settings.limits.json_bytes_max
    if len(data) > limit:
        hint = "collections of collections hold more"
        raise Problem(413, "too_large", f"the manifest would be over {limit} bytes", hint=hint)
    key = versioned_key(dataset, Kind.COLLECTION, uuid, version)
    outcome = await write_manifest(gateway, key, data, author)
    document = {
        **identity(Kind.COLLECTION, dataset, uuid, version, key),
        "contents": len(links),
    }
    return await answer_write(request, key, outcome, document, asked)


def _target(request: web.Request) -> tuple[DatasetName, ObjectUuid, Version, Author]:
    dataset = dataset_of(request)
    uuid = check_uuid(request.match_info["uuid"])
    text = single_parameter(request, "version")
    if text is None:
        raise MalformedError(
            "version",
            "is missing",
            hint="the writer chooses it, which is what makes a retry safe: ?version=<now>",
        )
    version = check_version_for_write(text, datetime.now(UTC))
    return dataset, uuid, version, author_of(request, dataset)


def _read_entries(entries: list[Any]) -> list[tuple[str | None, ObjectUuid, Version]]:
    found = []
    seen: set[tuple[str, str]] = set()
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise MalformedError(f"files[{place}]", "is not a JSON object")
        _refuse_unknown(entry, {"name", "uuid", "version"})
        name = entry.get("name")
        if name is not None:
            name = check_name(_text(entry, "name"), f"files[{place}].name")
        uuid = check_uuid(_text(entry, "uuid"), f"files[{place}].uuid")
        version = check_version(_text(entry, "version"), f"files[{place}].version")
        if (uuid, version) in seen:
            raise MalformedError(
                f"files[{place}]",
                "names the same file a second time",
                hint="a second path needs a file of its own; it may name the same blob",
            )
        seen.add((uuid, version))
        found.append((name, uuid, version))
    return found


def _read_links(entries: list[Any]) -> list[Link]:
    links: dict[Link, None] = {}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not all(isinstance(v, str) for v in entry.values()):
            raise MalformedError(f"contents[{place}]", "is not an object of strings")
        try:
            link = read_link(entry)
        except KeyError as error:
            raise MalformedError(f"contents[{place}]", f"lacks {error}") from None
        _refuse_unknown(entry, {"kind", "sha256"} if link.sha256 else {"kind", "uuid", "version"})
        if link in links:
            raise MalformedError(f"contents[{place}]", "names the same object a second time")
        links[link] = None
    return list(links)


async def _in_thread(call: Any, entries: list[Any]) -> Any:
    return (
        await asyncio.to_thread(call, entries) if len(entries) >= _THREAD_ENTRIES else call(entries)
    )


def _bundle_entry(
    name: str | None, uuid: ObjectUuid, version: Version, row: ObjectRow
) -> BundleEntry:
    if row.link_sha256 is None or row.link_size is None or row.link_type is None:
        raise Problem(422, "reference_unreadable", f"{row.key} has no readable manifest")
    return BundleEntry(
        name=name if name is not None else (row.name or ""),
        uuid=uuid,
        version=version,
        content_type=row.link_type,
        size=row.link_size,
        sha256=Sha256(row.link_sha256),
    )


def _entries(body: dict[str, Any], field: str) -> list[Any]:
    entries = body.get(field)
    if not isinstance(entries, list):
        raise MalformedError(field, "is not a list")
    if len(entries) > ENTRIES_MAX:
        hint = "split it, and join the parts in a collection"
        raise Problem(413, "too_many", f"{field} has over {ENTRIES_MAX} entries", hint=hint)
    return entries


def _text(body: dict[str, Any], field: str, default: str | None = None) -> str:
    value = body.get(field, default)
    if not isinstance(value, str):
        raise MalformedError(field, "is missing" if value is None else "is not a text")
    return value


def _title(body: dict[str, Any]) -> str:
    """A collection's name: one line for people. No path, so only what breaks lines is refused."""
    text = _text(body, "name", "")
    if len(text) > TITLE_CHARS_MAX:
        raise MalformedError("name", f"is over {TITLE_CHARS_MAX} characters")
    if not all(character.isprintable() for character in text):
        raise MalformedError("name", "holds a control character", hint="one line of text")
    return text


def _refuse_unknown(body: dict[str, Any], known: set[str]) -> None:
    """A misspelt member would be dropped in silence; the writer should hear of it."""
    unknown = body.keys() - known
    if unknown:
        name = min(unknown)[:50]
        hint = "known are " + ", ".join(sorted(known))
        raise MalformedError("body", f"has the unknown member {name!r}", hint=hint)
