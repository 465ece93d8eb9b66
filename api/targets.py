"""What a read asks for: from a path to the bytes that are meant, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from aiohttp import web

from tidestore.api.auth import READ
from tidestore.api.context import (
    Gateway,
    dataset_of,
    gateway_of,
    single_parameter,
    wait_for_position,
)
from tidestore.api.lookup import CopyRow, ObjectRow
from tidestore.api.problems import Problem
from tidestore.schemas.objects import (
    DatasetName,
    Kind,
    ObjectKey,
    Sha256,
    blob_key,
    check_sha256,
    check_uuid,
    check_version,
    parse_key,
    versioned_key,
    versions_prefix,
)

# How long to wait before asking again for a copy that is on its way.
NOT_YET_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class Target:
    """The bytes that a read means. A file's are those of its blob, under the file's own type."""

    row: ObjectRow
    kind: Kind
    dataset: DatasetName
    bytes_key: ObjectKey
    size: int
    sha256: str
    content_type: str
    name: str
    is_pinned: bool

    @property
    def etag(self) -> str:
        """Strong, and the same on every replica: the content's own hash."""
        return f'"{self.sha256}"'

    @property
    def disposition(self) -> str:
        """What a browser does with it: save it, under the file's own last name."""
        last = self.name.rsplit("/", 1)[-1]
        plain = "".join(
            ch if (ch.isascii() and ch.isalnum()) or ch in "._-" else "_" for ch in last
        )
        return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(last, safe='')}"


async def find_row(request: web.Request, kind: Kind) -> tuple[ObjectRow, DatasetName, bool]:
    """The object a path names: by sha256, by uuid and version, or the latest version.

    Raises MalformedError, Problem 404 or 410. The third value says whether the request named one
    immutable object, rather than whatever is newest.
    """
    gateway = gateway_of(request)
    dataset = dataset_of(request)
    gateway.auth.require(request, READ, dataset)
    await wait_for_position(request)
    if kind is Kind.BLOB:
        key = blob_key(dataset, check_sha256(request.match_info["sha256"]))
        return await _existing(gateway, key), dataset, True
    uuid = check_uuid(request.match_info["uuid"])
    text = single_parameter(request, "version")
    if text is not None:
        key = versioned_key(dataset, kind, uuid, check_version(text))
        return await _existing(gateway, key), dataset, True
    whole = f"{dataset}/{kind.plural}/{uuid}"
    gateway.index.refuse_redacted(whole)
    # Before the answer and not only on a miss: the newest may be the one that is not folded yet.
    await gateway.index.reach_own([versions_prefix(dataset, kind, uuid)])
    row = gateway.index.latest(dataset, kind, uuid)
    if row is None:
        for version in gateway.index.versions(dataset, kind, uuid):
            gateway.index.refuse_redacted(version.key)
        raise _missing(f"there is no {kind.value} with this uuid")
    return row, dataset, False


async def find_target(request: web.Request, kind: Kind) -> Target:
    """The bytes a GET or HEAD means."""
    row, dataset, is_pinned = await find_row(request, kind)
    if kind is not Kind.FILE:
        name = row.sha256 if kind is Kind.BLOB else f"{row.key.rsplit('/', 1)[-1]}.json"
        return Target(
            row, kind, dataset, row.key, row.size, row.sha256, row.content_type, name, is_pinned
        )
    if row.link_sha256 is None or row.link_size is None:
        raise Problem(502, "manifest_unreadable", "this file's manifest cannot be read")
    bytes_key = blob_key(dataset, Sha256(row.link_sha256))
    gateway_of(request).index.refuse_redacted(bytes_key)
    return Target(
        row,
        kind,
        dataset,
        bytes_key,
        row.link_size,
        row.link_sha256,
        row.link_type or "application/octet-stream",
        row.name or "",
        is_pinned,
    )


async def find_stored(request: web.Request) -> Target:
    """The object under the key `?key=`, as it is stored: of a file its manifest."""
    gateway = gateway_of(request)
    parts = parse_key(single_parameter(request, "key") or "")
    key = ObjectKey(single_parameter(request, "key") or "")
    if parts.dataset not in gateway.settings.datasets:
        raise _missing("there is no such object")
    gateway.auth.require(request, READ, parts.dataset)
    await wait_for_position(request)
    row = await _existing(gateway, key)
    name = key.rsplit("/", 1)[-1] + ("" if parts.kind is Kind.BLOB else ".json")
    return Target(
        row, parts.kind, parts.dataset, key, row.size, row.sha256, row.content_type, name, True
    )


def choose_replicas(request: web.Request, target: Target) -> list[str]:
    """Where the target can be read now, best first; raises Problem 404 `not_yet_here`.

    With `replica=` only that one: never another, and never an older version instead.
    """
    gateway = gateway_of(request)
    present = gateway.index.present_on(target.row, gateway.index.copies(target.row.key))
    if target.bytes_key != target.row.key:
        blob = gateway.index.find(target.bytes_key)
        if blob is None:
            present = set()
        else:
            present &= gateway.index.present_on(blob, gateway.index.copies(blob.key))
    wanted = single_parameter(request, "replica")
    if wanted is not None:
        gateway.check_replica(wanted)
        present &= {wanted}
    found = [name for name in gateway.replica_names if name in present]
    if not found and wanted is not None and wanted in _left_out(gateway, target):
        raise Problem(
            404,
            "excluded_there",
            f"{wanted} is not to have this object: its filter leaves it out",
            hint="read it without replica=, or from another one",
        )
    if not found:
        where = f"on {wanted}" if wanted else "on any replica"
        raise Problem(
            404,
            "not_yet_here",
            f"this object is not readable {where} yet",
            hint="it is on its way; /copies says how far it is",
            headers={"Retry-After": str(NOT_YET_SECONDS)},
        )
    return found


def _left_out(gateway: Gateway, target: Target) -> set[str]:
    """The replicas that are not to have what is read."""
    keys = {target.row.key, target.bytes_key}
    return set().union(*(gateway.excluded_on(key, gateway.index.copies(key)) for key in keys))


def copy_document(
    gateway: Gateway, row: ObjectRow, name: str, copy: CopyRow | None
) -> dict[str, object]:
    """One replica's copy of an object as the API shows it."""
    store = gateway.stores[name]
    is_origin = row.origin == name
    if copy is None and not is_origin:
        # Its worker has not come to it yet; what its filter leaves out is known beforehand.
        life = gateway.lives.get(name)
        is_left_out = life is not None and not life.filter.is_root(row.key)
        state = "excluded" if is_left_out else "pending"
    else:
        state = copy.state.value if copy is not None else "present"
    document: dict[str, object] = {
        "replica": name,
        "state": state,
        "is_origin": is_origin,
        "url": store.native_url(row.key),
        "sha256": row.sha256,
        "size": row.size,
        "written_at_ms": row.written_at_ms,
        "changed_at_ms": row.written_at_ms if copy is None else copy.changed_at_ms,
        "attempts": 0 if copy is None else copy.attempts,
    }
    if copy is not None:
        more = {
            "store_checksums": copy.checksums or None,
            "next_try_at_ms": copy.next_try_at_ms,
            "error_class": copy.error_class,
            "error": copy.error,
            "waits_for": copy.waits_for,
            "waits_count": copy.waits_count or None,
            "is_incomplete": copy.is_incomplete or None,
            "bytes_done": copy.bytes_done,
        }
        document.update({key: value for key, value in more.items() if value is not None})
    return document


async def _existing(gateway: Gateway, key: ObjectKey) -> ObjectRow:
    gateway.index.refuse_redacted(key)
    row = gateway.index.find(key)
    if row is None:
        await gateway.index.reach_own([key])
        row = gateway.index.find(key)
    if row is None:
        raise _missing("there is no such object")
    return row


def _missing(detail: str) -> Problem:
    return Problem(
        404, "not_found", detail, hint="a write through another gateway? add ?at=<position>"
    )
