"""An S3 object removed for good: every stored version, every delete marker, every open upload.

A plain delete in a bucket with versioning only hides the object behind a marker, and an upload that
was begun before could still complete. So uploads go first, then all versions; whoever erases looks
a second time later, for what a request under way put there meanwhile (streams/removal.py).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from tidestore.connectors.errors import ObjectMissingError, StoreDeniedError, StoreFaultError
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.s3 import S3Store

_HINT = (
    "the credentials need s3:ListBucketVersions, s3:DeleteObjectVersion, "
    "s3:ListBucketMultipartUploads and s3:AbortMultipartUpload, and no object lock may hold it"
)


async def erase(store: S3Store, key: ObjectKey) -> int:
    """See ObjectStore.erase."""
    if not store.capabilities.lists_traces:
        try:
            await store.head(key)
        except ObjectMissingError:
            return 0
        await store.delete(key)
        return 1
    try:
        uploads = await store.boto("erase", key, lambda: _abort_uploads(store, key))
        return uploads + await store.boto("erase", key, lambda: _delete_versions(store, key))
    except StoreDeniedError as error:
        # Not the store is in trouble but this one right is missing: copies must go on.
        raise StoreFaultError("erase", store.name, key, detail=error.detail, hint=_HINT) from error


def _abort_uploads(store: S3Store, key: ObjectKey) -> int:
    full, found = store.full_key(key), 0
    pages = store.client.get_paginator("list_multipart_uploads")
    for page in pages.paginate(Bucket=store.bucket, Prefix=full):
        for upload in page.get("Uploads", []):
            if upload.get("Key") != full or "UploadId" not in upload:
                continue
            found += 1
            with contextlib.suppress(store.client.exceptions.NoSuchUpload):  # it ended meanwhile
                store.client.abort_multipart_upload(
                    Bucket=store.bucket, Key=full, UploadId=upload["UploadId"]
                )
    return found


def _delete_versions(store: S3Store, key: ObjectKey) -> int:
    full, found = store.full_key(key), 0
    pages = store.client.get_paginator("list_object_versions")
    for page in pages.paginate(Bucket=store.bucket, Prefix=full):
        for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
            if item.get("Key") == full and "VersionId" in item:
                found += 1
                _delete_version(store, full, item["VersionId"])
    return found


def _delete_version(store: S3Store, full_key: str, version: str) -> None:
    try:
        store.client.delete_object(Bucket=store.bucket, Key=full_key, VersionId=version)
    except ClientError as error:
        if str(error.response.get("Error", {}).get("Code")) not in {"NoSuchVersion", "NoSuchKey"}:
            raise
