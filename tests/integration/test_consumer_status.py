"""Where everything is: copies, lag, health, metrics; and reading a replica without us."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from tests.http_calls import Calls, sha256_of
from tests.integration.shares import living_keys
from tests.native_reads import gcs_bucket, read_one
from tests.world import World, random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


async def everywhere(calls: Calls, *keys: str) -> None:
    async with calls.world.client() as client:
        await calls.world.until_everywhere(client, list(keys))


async def lag_of(calls: Calls, replica: str) -> dict[str, Any]:
    found = (await calls.get("/v1/replicas")).json
    return next(item for item in found["replicas"] if item["name"] == replica)


async def test_copies_tell_every_replica_its_state_and_its_native_url(calls: Calls) -> None:
    """Goal: state, native URL, checksum, times and attempts of each copy.

    Method: write, wait, and compare each URL with where the cloud's own client finds the bytes.
    """
    body, begun = random_body(60_000), time.time() * 1000 - 1_000
    key = (await calls.put_blob(body)).json["key"]
    await everywhere(calls, key)
    found = (await calls.get(f"/v1/blobs/{sha256_of(body)}/copies")).json
    assert [copy["replica"] for copy in found["copies"]] == list(calls.world.replicas)
    for copy in found["copies"]:
        url = calls.world.replicas[copy["replica"]][0].split("?")[0]
        assert copy["url"] == f"{url}/{key}"
        assert (copy["state"], copy["sha256"]) == ("present", sha256_of(body))
        assert copy["size"] == len(body)
        assert copy["is_origin"] is (copy["replica"] == "aws")
        assert begun <= copy["written_at_ms"] <= copy["changed_at_ms"] <= time.time() * 1000 + 1_000
        assert await asyncio.to_thread(read_one, calls.world, copy["replica"], key) == body


async def test_a_replica_that_is_behind_says_how_far(calls: Calls, http_world: World) -> None:
    """Goal: lag in objects, bytes and seconds, and the oldest key that is owed.

    Method: freeze a worker, write known sizes, look; thaw, and look until nothing is owed.
    """

    async def is_level() -> bool:
        found = [await lag_of(calls, name) for name in http_world.replicas]
        # All that the log holds is folded as well: what others wrote must not be counted later.
        written = len(living_keys(http_world))
        seen[:] = [written, *((one["name"], one["lag"], one["present"]) for one in found)]
        return all(one["lag"]["objects"] == 0 and one["present"] == written for one in found)

    seen: list[Any] = []
    try:
        await http_world.until(is_level)
    except AssertionError:
        raise AssertionError(f"keys that live, and what each replica says: {seen}") from None
    before = await lag_of(calls, "gcp")
    worker = http_world.processes["worker-gcp-0"]
    worker.freeze()
    try:
        bodies = [random_body(size) for size in (1_000, 20_000, 50_000)]
        answers = [await calls.put_blob(body) for body in bodies]
        written = time.monotonic()
        for answer in answers:  # each on a partition of its own: this gateway has folded them all
            await calls.get(f"/v1/blobs/{answer.json['sha256']}", at=answer.position)
        keys = [answer.json["key"] for answer in answers]
        found = await lag_of(calls, "gcp")
        assert found["lag"]["objects"] == 3
        assert found["lag"]["bytes"] == 71_000
        assert found["lag"]["oldest_key"] == keys[0]
        assert found["present"] == before["present"]

        async def has_grown() -> bool:
            return bool((await lag_of(calls, "gcp"))["lag"]["seconds"] >= 0.5)

        await http_world.until(has_grown)
        seconds = (await lag_of(calls, "gcp"))["lag"]["seconds"]
        assert seconds <= time.monotonic() - written + 5
        assert await calls.metric('tidestore_lag_bytes{replica="gcp"}') in (0.0, 71_000.0)
        copies = (await calls.get(f"/v1/blobs/{sha256_of(bodies[0])}/copies")).json["copies"]
        assert {copy["replica"]: copy["state"] for copy in copies}["gcp"] == "pending"
    finally:
        worker.thaw()
    await http_world.until(is_level)
    after = await lag_of(calls, "gcp")
    assert after["lag"] == {"objects": 0, "bytes": 0, "seconds": 0.0, "oldest_key": None}
    assert after["present"] == before["present"] + 3


async def test_replicas_name_their_place_and_no_secret(calls: Calls) -> None:
    """Goal: name, URL, origin and gaps. Method: compare with the configuration."""
    answer = await calls.get("/v1/replicas")
    found = {item["name"]: item for item in answer.json["replicas"]}
    assert found.keys() == calls.world.replicas.keys()
    assert [name for name, item in found.items() if item["is_origin"]] == ["aws"]
    for name, (url, credentials) in calls.world.replicas.items():
        assert found[name]["url"] == url.split("?")[0]
        for secret in credentials.values():
            assert len(secret) < 8 or secret.encode() not in answer.body
    # A folder has no links; that is a gap, and it is told.
    assert "presign" in found["onprem"]["gaps"]


async def test_a_stranger_reads_a_public_object_straight_from_s3(calls: Calls) -> None:
    """Goal: the cloud's own client, unsigned, without us.

    Method: boto3 without credentials. It may read the public dataset and nothing else: no listing,
    no writing.
    """
    body = random_body(5_000)
    key = (await calls.put_blob(body)).json["key"]
    url = urlsplit(calls.world.replicas["aws"][0])
    endpoint = parse_qs(url.query)["endpoint"][0]
    config = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", config=config)
    try:
        reply = await asyncio.to_thread(client.get_object, Bucket=url.netloc, Key=key)
        assert await asyncio.to_thread(reply["Body"].read) == body
        if "localbucket" not in url.query:  # which knows no credentials: a declared gap
            with pytest.raises(ClientError, match="AccessDenied"):
                client.put_object(Bucket=url.netloc, Key=key + "x", Body=b"x")
            with pytest.raises(ClientError, match="AccessDenied"):
                client.list_objects_v2(Bucket=url.netloc)
    finally:
        client.close()


async def test_a_stranger_reads_a_public_object_straight_from_gcs(calls: Calls) -> None:
    """Goal: the same for GCS. Method: google-cloud-storage with anonymous credentials."""
    body = random_body(5_000)
    key = (await calls.put_blob(body)).json["key"]
    await everywhere(calls, key)
    with gcs_bucket(calls.world, "gcp") as bucket:
        assert await asyncio.to_thread(bucket.blob(key).download_as_bytes) == body


async def test_health_readiness_and_metrics(calls: Calls) -> None:
    """Goal: probes answer, and Prometheus can read the text.

    Method: parse it with its parser. Requests are counted under their route's pattern, so that
    strangers cannot make labels.
    """
    assert (await calls.get("/healthz")).json["status"] == "ok"
    assert (await calls.get("/readyz")).json["status"] == "ready"
    await calls.put_blob(random_body(10))
    await calls.get(f"/v1/blobs/{'0' * 64}")
    await calls.get("/no/such/path")
    answer = await calls.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = {
        family.name: family for family in text_string_to_metric_families(answer.body.decode())
    }
    wanted = {
        "tidestore_request_seconds",
        "tidestore_store_call_seconds",
        "tidestore_lag_objects",
        "tidestore_lag_bytes",
        "tidestore_lag_seconds",
        "tidestore_parked_objects",
    }
    assert wanted <= families.keys()
    labels = [sample.labels for sample in families["tidestore_request_seconds"].samples]
    routes = {label["route"] for label in labels}
    assert "/v1/blobs/{sha256}" in routes
    assert "none" in routes
    assert not any("0000" in route or "such" in route for route in routes)
    counted = await calls.metric("tidestore_request_seconds_count")
    await calls.get("/healthz")
    assert await calls.metric("tidestore_request_seconds_count") >= counted + 2
