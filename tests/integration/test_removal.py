"""What is redacted goes from every replica, with a receipt of each, and comes back when lifted."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.conftest import Tally
from tests.http_calls import Answer, Calls, sha256_of
from tests.integration.redacting import REASON, append, ends_redacted, redact
from tests.world import ADMIN_TOKEN, World, random_body
from tidestore.connectors.errors import ObjectMissingError
from tidestore.connectors.registry import make_store
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import ObjectWritten, RedactionLifted
from tidestore.schemas.objects import ObjectKey

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

REPLICAS = {"aws", "gcp", "onprem"}


async def receipts(calls: Calls, path: str, **more: Any) -> dict[str, tuple[str, str]]:
    """State and text of each replica's receipt for one key."""
    answer = await calls.get(f"{path}/copies", **more)
    found = answer.problem(410, "redacted")["receipts"]
    return {item["replica"]: (item["state"], item.get("detail", "")) for item in found}


async def until_receipts(calls: Calls, path: str, words: str, **more: Any) -> None:
    """Wait until every replica says `redacted`, with these words."""

    async def all_said() -> bool:
        found = await receipts(calls, path, **more)
        return found.keys() == REPLICAS and all(
            state == "redacted" and text.startswith(words) for state, text in found.values()
        )

    await calls.world.until(all_said, 60)


async def is_free(world: World, replica: str, key: str) -> bool:
    """Whether nothing lies under a key, by the store's own word."""
    address = next(item for item in world.config().replicas if item.name == replica)
    store = make_store(address.name, address.address)
    try:
        await store.head(ObjectKey(key))
    except ObjectMissingError:
        return True
    finally:
        await store.close()
    return False


async def all_free(world: World, *keys: str) -> bool:
    return all([await is_free(world, name, key) for name in REPLICAS for key in keys])


async def put_everywhere(calls: Calls, body: bytes) -> tuple[str, str, str]:
    """A file and its blob, present everywhere: the file's uuid and version, the blob's key."""
    uuid, version = await calls.put_new_file(body)
    blob = f"public/blobs/{sha256_of(body)}"
    async with calls.world.client() as client:
        await calls.world.until_everywhere(client, [blob, f"public/files/{uuid}.{version}"])
    return uuid, version, blob


async def lift(calls: Calls, target: str, **more: Any) -> Answer:
    document = {"target": target, "reason": "it was the wrong one"}
    return await calls("POST", "/v1/redactions/lifts", token=ADMIN_TOKEN, document=document, **more)


async def test_it_goes_from_every_replica_with_a_receipt_and_is_purged_after_its_grace(
    calls: Calls,
) -> None:
    """Goal: removed everywhere, said so, kept no longer than promised. Method: a grace of 1 s.

    The blob goes along, and waits a minute at least: it is still kept aside when the file is gone.
    """
    uuid, version, blob = await put_everywhere(calls, random_body(40_000))
    key, path = f"public/files/{uuid}.{version}", f"/v1/files/{uuid}"
    document = {"reason": REASON, "grace_seconds": 1}
    done = await redact(calls, path, version=version, document=document)
    assert (done.status, done.json["takes_along"]) == (202, [blob])
    await until_receipts(calls, path, "purged: ", version=version)
    await until_receipts(calls, f"/v1/blobs/{sha256_key(blob)}", "kept aside until ")
    assert await all_free(calls.world, key, blob, f".tidestore/redacted/{key}")
    kept = [
        name for name in REPLICAS
        if not await is_free(calls.world, name, f".tidestore/redacted/{blob}")
    ]  # fmt: skip
    assert set(kept) == REPLICAS
    aside = calls.world.folder / "onprem" / ".tidestore"
    assert aside.stat().st_mode & 0o077 == 0, "nobody else reads what is kept aside"
    (await lift(calls, key)).problem(409, "grace_over")


def sha256_key(blob: str) -> str:
    return blob.rsplit("/", 1)[-1]


async def test_what_is_lifted_comes_back_whole_on_every_replica(calls: Calls) -> None:
    """Goal: a redaction that was wrong costs nothing. Method: redact a file, lift it, read it.

    Then once more with a gateway that dies between the lift and the log.
    """
    body = random_body(40_000)
    uuid, version, blob = await put_everywhere(calls, body)
    key, path = f"public/files/{uuid}.{version}", f"/v1/files/{uuid}"
    (await lift(calls, key)).problem(409, "not_redacted")
    for number in (1, 2):
        done = await redact(calls, path, version=version)
        assert (done.status, done.json["number"]) == (202, number)
        await until_receipts(calls, path, "kept aside until ", version=version)
        await until_receipts(calls, f"/v1/blobs/{sha256_key(blob)}", "kept aside until ")
        assert await all_free(calls.world, key, blob)
        if number == 1:
            lifted = await lift(calls, key)
            assert (lifted.status, lifted.json["keys"]) == (202, sorted([key, blob]))
        else:
            await append(calls.world, RedactionLifted(key, number, "admin", 1))

        async def is_readable() -> bool:
            answer = await calls.get(path, version=version, delivery="stream")
            return answer.status == 200 and answer.body == body

        await calls.world.until(is_readable)
        async with calls.world.client() as client:
            await calls.world.until_everywhere(client, [key, blob], 60)
        assert not any(
            [not await is_free(calls.world, name, f".tidestore/redacted/{blob}")
             for name in REPLICAS]
        )  # fmt: skip


async def test_a_versioned_bucket_keeps_no_version_and_no_upload(
    calls: Calls, tally: Tally
) -> None:
    """Goal: gone means gone, also where a delete only hides. Method: MinIO with versioning.

    Several versions, a delete marker and an open upload lie under the key; one upload is still
    under way when the key is redacted, and cannot complete any more.
    """
    world = calls.world
    place = next(item for item in world.config().replicas if item.name == "aws")
    if place.address.options.get("capabilities"):
        tally.missing("minio", "the server at hand has no versions")
    bucket = place.address.bucket
    s3: Any = boto3.client(
        "s3", endpoint_url=place.address.options["endpoint"], region_name="us-east-1",
        aws_access_key_id=place.address.secret("access_key_id"),
        aws_secret_access_key=place.address.secret("secret_access_key"),
    )  # fmt: skip
    await asyncio.to_thread(
        s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    body = random_body(40_000)
    assert (await calls.put_blob(body)).status == 201
    key = f"public/blobs/{sha256_of(body)}"
    await asyncio.to_thread(s3.delete_object, Bucket=bucket, Key=key)
    await asyncio.to_thread(s3.put_object, Bucket=bucket, Key=key, Body=body)
    upload = (await asyncio.to_thread(s3.create_multipart_upload, Bucket=bucket, Key=key))[
        "UploadId"
    ]
    part = await asyncio.to_thread(
        s3.upload_part, Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=body
    )
    document = {"reason": REASON, "grace_seconds": 0}
    path = f"/v1/blobs/{sha256_of(body)}"
    assert (await redact(calls, path, document=document)).status == 202
    await until_receipts(calls, path, "purged: ")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    with pytest.raises(ClientError, match="NoSuchUpload"):
        await asyncio.to_thread(
            s3.complete_multipart_upload,
            Bucket=bucket, Key=key, UploadId=upload, MultipartUpload=parts,
        )  # fmt: skip
    left = await asyncio.to_thread(s3.list_object_versions, Bucket=bucket, Prefix=key)
    assert not [*left.get("Versions", []), *left.get("DeleteMarkers", [])]
    uploads = await asyncio.to_thread(s3.list_multipart_uploads, Bucket=bucket, Prefix=key)
    assert not uploads.get("Uploads")
    s3.close()


async def test_bytes_that_come_back_at_the_origin_are_taken_away_again(calls: Calls) -> None:
    """Goal: a frozen gateway brings nothing back. Method: its bytes and its late append, by hand.

    After every receipt is there: the origin's worker looks again because of the append.
    """
    world = calls.world
    body = random_body(40_000)
    assert (await calls.put_blob(body)).status == 201
    key, path = f"public/blobs/{sha256_of(body)}", f"/v1/blobs/{sha256_of(body)}"
    written = await asyncio.to_thread(
        lambda: next(record.event for record in world.records("log") if record.key == key)
    )
    document = {"reason": REASON, "grace_seconds": 0}
    assert (await redact(calls, path, document=document)).status == 202
    await until_receipts(calls, path, "purged: ")
    place = next(item for item in world.config().replicas if item.name == "aws")
    store = make_store(place.name, place.address)
    await store.put_if_absent(ObjectKey(key), body, checksums_of(body), content_type="x")
    await store.close()
    assert isinstance(written, ObjectWritten)
    await append(world, written)
    await world.until(lambda: is_free(world, "aws", key))
    await until_receipts(calls, path, "purged: ")
    assert await is_free(world, "aws", key)
    # Said again a moment later: the tests that follow look at what is written in their time.
    await world.until(lambda: ends_redacted(world, key, times=2))
