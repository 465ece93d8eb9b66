"""Writing manifests: the references are resolved by the index, the bytes go to the origin."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tidestore.api.context import Gateway
from tidestore.api.lookup import ObjectRow
from tidestore.api.origin import Author, Outcome
from tidestore.api.problems import Problem
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.manifests import (
    MANIFEST_CONTENT_TYPE,
    FileManifest,
    file_manifest_bytes,
)
from tidestore.schemas.objects import (
    DatasetName,
    Kind,
    ObjectKey,
    ObjectUuid,
    Sha256,
    Version,
    blob_key,
    versioned_key,
)

# Hashing less than this is done before a thread would have started.
_THREAD_BYTES = 64 * 1024


async def commit_file(
    gateway: Gateway,
    dataset: DatasetName,
    uuid: ObjectUuid,
    version: Version,
    author: Author,
    sha256: Sha256,
    name: str,
    content_type: str,
) -> tuple[Outcome, ObjectKey, dict[str, Any]]:
    """Write a file's manifest for a blob that is there. Raises Problem 422 when it is not."""
    blob = blob_key(dataset, sha256)
    row = (await resolve(gateway, [blob]))[blob]
    sums = Checksums(row.size, sha256, row.sha1, row.crc32c, row.md5)
    manifest = FileManifest(uuid, version, name, content_type, sums)
    key = versioned_key(dataset, Kind.FILE, uuid, version)
    outcome = await write_manifest(gateway, key, file_manifest_bytes(manifest), author)
    document = {
        **identity(Kind.FILE, dataset, uuid, version, key),
        "name": name,
        "content_type": content_type,
        "size": row.size,
        "sha256": sha256,
    }
    return outcome, key, document


async def write_manifest(gateway: Gateway, key: ObjectKey, data: bytes, author: Author) -> Outcome:
    """Write a manifest's bytes under its key. Raises Problem 409 or 410, StoreError, LogError."""
    if len(data) > _THREAD_BYTES:
        sums = await asyncio.to_thread(checksums_of, data)
    else:
        sums = checksums_of(data)
    return await gateway.origin.write(
        key,
        data,
        sums,
        content_type=MANIFEST_CONTENT_TYPE,
        author=author,
        inline_bytes_max=gateway.settings.limits.inline_manifest_bytes_max,
    )


async def resolve(gateway: Gateway, keys: Sequence[ObjectKey]) -> dict[ObjectKey, ObjectRow]:
    """The rows of everything that is referred to; raises Problem 422 naming what is not there."""
    index = gateway.index
    found = index.find_many(keys)
    missing = [key for key in keys if key not in found]
    if missing:
        # Written a moment ago, through this gateway: its own notes tell, no broker is asked.
        await index.reach_own(missing)
        found = index.find_many(keys)
        missing = [key for key in keys if key not in found]
    if missing:
        # Or through another one.
        await index.catch_up(missing)
        found = index.find_many(keys)
        missing = [key for key in keys if key not in found]
    if missing:
        raise Problem(
            422,
            "reference_missing",
            f"{len(missing)} of {len(keys)} references name nothing that is in this dataset",
            hint="write what is referred to first, and wait for its 201",
            more={"missing": missing[:20]},
        )
    gone = index.redacted_among(keys)
    if gone:
        raise Problem(
            422,
            "reference_redacted",
            f"{len(gone)} references name redacted objects",
            hint="leave them out: what is redacted does not come back",
            more={"redacted": gone[:20]},
        )
    return {ObjectKey(key): row for key, row in found.items()}


def identity(
    kind: Kind, dataset: DatasetName, uuid: ObjectUuid, version: Version, key: ObjectKey
) -> dict[str, Any]:
    """What every answer about an object begins with."""
    return {"kind": kind.value, "dataset": dataset, "uuid": uuid, "version": version, "key": key}
