"""Bad input: a clear problem each, and nothing written: not to the log, not to the origin."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.http_calls import Answer, Calls, raw, sha256_of
from tests.integration.redacting import ends_redacted
from tests.native_reads import all_keys
from tests.servers.processes import Process, free_port
from tests.world import PARTITIONS, TOKEN, World, new_uuid, new_version, random_body
from tidestore.local.servers import is_ready
from tidestore.schemas.codec import encode
from tidestore.schemas.events import RedactionDecided
from tidestore.schemas.objects import version_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

VERSION = "2026-01-01T000000.000000Z"


def log_ends(world: World) -> dict[str, int]:
    """Where each partition that a request may write to ends now."""
    consumer = Consumer({"bootstrap.servers": world.kafka.bootstrap, "group.id": "ends"})
    try:
        places = [("log", number) for number in range(PARTITIONS)] + [("tasks", 0), ("hooks", 0)]
        return {
            f"{topic}/{partition}": consumer.get_watermark_offsets(
                TopicPartition(world.prefix + topic, partition), timeout=10
            )[1]
            for topic, partition in places
        }
    finally:
        consumer.close()


Written = tuple[dict[str, int], set[str]]


async def written(world: World) -> Written:
    """All that log and origin have now."""
    ends = await asyncio.to_thread(log_ends, world)
    return ends, await asyncio.to_thread(all_keys, world, "aws")


async def hold_unwritten(world: World, before: Written) -> None:
    """Hold that log and origin are as they were."""
    ends, keys = await written(world)
    assert ends == before[0]
    # A redaction of an earlier test may be carried out meanwhile; nothing may come.
    assert not keys - before[1]


@pytest.fixture
async def nothing_written(http_world: World) -> AsyncIterator[None]:
    """Hold that a test leaves log and origin as they were."""
    before = await written(http_world)
    yield
    await hold_unwritten(http_world, before)


def told(answer: Answer, status: int, code: str, case: object) -> dict[str, Any]:
    """The problem of a case: it has a code, a hint, and no trace of our code."""
    try:
        problem = answer.problem(status, code)
        assert problem["hint"]
        assert "Traceback" not in answer.body.decode()
        assert problem["request_id"] == answer.headers["X-Request-Id"]
    except (AssertionError, ValueError) as error:
        raise AssertionError(f"{str(case)[:200]}: {answer.status} {answer.body[:300]!r}") from error
    return problem


async def test_addresses_of_blobs(calls: Calls, nothing_written: None) -> None:
    """Goal: not hex, wrong length, upper case. Method: as address of a write and of a read."""
    good = sha256_of(b"x")
    for address in ("g" * 64, good[:-1], good + "0", good.upper(), "x", "%00" * 64, "\uff10" * 64):
        for method in ("PUT", "GET"):
            answer = await calls(method, f"/v1/blobs/{address}", body=b"x")
            assert told(answer, 400, "malformed", address)["field"] == "sha256"


async def test_bodies_that_are_not_what_they_should_be(calls: Calls, nothing_written: None) -> None:
    """Goal: another hash, shorter or longer than announced, small, large and chunked.

    Method: raw requests, so that nothing mends them on the way.
    """
    for size in (0, 10, 40_000, 9 * 1024 * 1024):
        answer = await calls("PUT", f"/v1/blobs/{sha256_of(b'another')}", body=random_body(size))
        told(answer, 422, "checksum_mismatch", size)
    head = f"Host: x\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n"
    for size in (10, 40_000, 9 * 1024 * 1024):
        body = random_body(size)
        start = f"PUT /v1/blobs/{sha256_of(body)} HTTP/1.1\r\n{head}"
        # One byte less than the body: what comes hashes to something else.
        longer = f"{start}Content-Length: {size - 1}\r\n\r\n".encode() + body
        reply = await raw(calls.world, longer, half_close=False)
        # The byte too many may be seen first, as a request that cannot be read.
        assert reply.split(b" ")[1] in (b"422", b"400")
        assert b"checksum_mismatch" in reply or b"bad_http" in reply
        # One byte more: it never comes.
        shorter = f"{start}Content-Length: {size + 1}\r\n\r\n".encode() + body
        assert b" 20" not in (await raw(calls.world, shorter)).split(b"\r\n")[0]
        # A chunk that breaks off.
        broken = f"{start}Transfer-Encoding: chunked\r\n\r\n{size + 5:x}\r\n".encode() + body
        assert b" 20" not in (await raw(calls.world, broken)).split(b"\r\n")[0]


async def test_bodies_in_another_coding(calls: Calls, nothing_written: None) -> None:
    """Goal: bytes are stored as they come, so a coding is refused. Method: each common one."""
    for coding in ("gzip", "deflate", "br", "zstd", "x"):
        headers = {"Content-Encoding": coding}
        path = f"/v1/blobs/{sha256_of(b'abc')}"
        answer = await calls("PUT", path, body=b"abc", headers=headers)
        told(answer, 415, "content_encoding", coding)


async def test_uuids_versions_and_datasets(calls: Calls, nothing_written: None) -> None:
    """Goal: each bad identity is told by its field. Method: a table, for every kind."""
    uuid, body = new_uuid(), {"blob": sha256_of(b""), "name": "n"}
    far = version_of(datetime.now(UTC) + timedelta(days=2))
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("x", {"version": VERSION}, "uuid"),
        (uuid.replace("-", ""), {"version": VERSION}, "uuid"),
        (uuid + "0", {"version": VERSION}, "uuid"),
        (uuid, {}, "version"),
        (uuid, {"version": "2026"}, "version"),
        (uuid, {"version": "2026-01-01T00:00:00Z"}, "version"),
        (uuid, {"version": "2026-02-30T000000.000000Z"}, "version"),
        (uuid, {"version": "2026-01-01T246060.000000Z"}, "version"),
        (uuid, {"version": VERSION.lower()}, "version"),
        (uuid, {"version": "٢026-01-01T000000.000000Z"}, "version"),
        (uuid, {"version": far}, "version"),
        (uuid, {"version": "9999-01-01T000000.000000Z"}, "version"),
        (uuid, {"version": VERSION, "dataset": "Public"}, "dataset"),
        (uuid, {"version": VERSION, "dataset": "a/b"}, "dataset"),
        (uuid, {"version": VERSION, "dataset": "-a"}, "dataset"),
        (uuid, {"version": VERSION, "dataset": ".."}, "dataset"),
        (uuid, {"version": VERSION, "dataset": "a" * 41}, "dataset"),
        (uuid, {"version": VERSION, "dataset": ""}, "dataset"),
        (uuid, {"version": VERSION, "replicas": 4}, "replicas"),
        (uuid, {"version": VERSION, "replicas": 0}, "replicas"),
        (uuid, {"version": VERSION, "replicas": "all"}, "replicas"),
    ]
    for kind in ("files", "bundles", "collections"):
        for name, parameters, field in cases:
            answer = await calls("PUT", f"/v1/{kind}/{name}", document=body, **parameters)
            assert told(answer, 400, "malformed", (name, parameters))["field"] == field
        path = f"/v1/{kind}/{uuid}"
        twice = await calls("PUT", f"{path}?version={VERSION}&version={VERSION}", document=body)
        assert told(twice, 400, "malformed", "twice")["field"] == "version"
        other = await calls("PUT", path, document=body, version=VERSION, dataset="other")
        told(other, 404, "unknown_dataset", "dataset")
        nowhere = await calls("PUT", path, document=body, version=VERSION, replica="nowhere")
        told(nowhere, 400, "unknown_replica", "replica")
    path = f"/v1/blobs/{sha256_of(b'q')}"
    told(await calls("PUT", path, body=b"q", replica="x"), 400, "unknown_replica", "blob")
    told(await calls("PUT", path, body=b"q", replicas=9), 400, "malformed", "blob")


async def test_json_that_cannot_be_read(calls: Calls, nothing_written: None) -> None:
    """Goal: bad JSON and bad encodings, each told. Method: as the body of every kind."""
    cases = [
        b"", b"{", b"[]", b"null", b'"x"', b"1", b"{'a': 1}", b'{"a": NaN}', b'{"a": Infinity}',
        b'{"a": 1, "a": 2}', b"\xff\xfe{}", '{"name": "é"}'.encode("latin-1"), b"\xef\xbb\xbf{}",
        '{"blob": "x"}'.encode("utf-16"), b'{"a":' * 30 + b"1" + b"}" * 30, b"[" * 100_000,
        b'{"a": ' + b"9" * 5_000 + b"}", b'{"unknown": 1}', b'{"name": "\\ud800"}',
    ]  # fmt: skip
    for kind in ("files", "bundles", "collections"):
        path = f"/v1/{kind}/{new_uuid()}"
        for body in cases:
            answer = await calls("PUT", path, body=body, version=VERSION)
            told(answer, 400, "malformed", body)
    head = f"Host: x\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n"
    start = f"PUT /v1/bundles/{new_uuid()}?version={VERSION} HTTP/1.1\r\n{head}"
    sent = f"{start}Content-Length: {10**9}\r\n\r\n".encode()
    reply = await raw(calls.world, sent, half_close=False, enough=b"too_large")
    assert b" 413 " in reply.split(b"\r\n")[0]
    assert b"too_large" in reply


NAMES = [
    "..", "a/../b", "../a", "/a", "a//b", "a/", "", ".", "a/./b", "a\x00b", "a\nb", "a\rb",
    "a\x1bb", "a\x7fb", "n" * 5_000, "é" * 600, "a\\b", "a\u202eb", "a\u2028b", "a\u2066b",
]  # fmt: skip


async def test_names_that_are_no_safe_paths(calls: Calls) -> None:
    """Goal: `..`, NUL, newlines, 5,000 characters and their like, of files, entries, collections.

    Method: a table against real references, so that only the name is wrong.
    """
    body = random_body(20)
    uuid, version = await calls.put_new_file(body)
    before = await written(calls.world)
    for name in NAMES:
        document: dict[str, Any] = {"blob": sha256_of(body), "name": name}
        answer = await calls("PUT", f"/v1/files/{new_uuid()}", document=document, version=VERSION)
        assert told(answer, 400, "malformed", repr(name))["field"] == "name"
        assert len(answer.body) < 1_000, "the answer must not repeat what was sent"
        document = {"files": [{"uuid": uuid, "version": version, "name": name}]}
        answer = await calls("PUT", f"/v1/bundles/{new_uuid()}", document=document, version=VERSION)
        assert told(answer, 400, "malformed", repr(name))["field"] == "files[0].name"
    link = {"kind": "file", "uuid": uuid, "version": version}
    for name in ("a\x00b", "a\nb", "n" * 5_000, "a\u2028b"):
        document = {"contents": [link], "name": name}
        path = f"/v1/collections/{new_uuid()}"
        answer = await calls("PUT", path, document=document, version=VERSION)
        assert told(answer, 400, "malformed", repr(name))["field"] == "name"
    for content_type in ("", "text", "a/b\nX: y", "é/b", "a/b" * 300, " a/b", "a/b\x00"):
        document = {"blob": sha256_of(body), "name": "n", "content_type": content_type}
        answer = await calls("PUT", f"/v1/files/{new_uuid()}", document=document, version=VERSION)
        assert told(answer, 400, "malformed", content_type)["field"] == "content_type"
    await hold_unwritten(calls.world, before)


async def test_references_to_what_is_not_there(calls: Calls, nothing_written: None) -> None:
    """Goal: 422 that names what is missing.

    Method: every kind that refers, and every kind named.
    """
    uuid, other = new_uuid(), "0" * 64
    entry = {"uuid": uuid, "version": VERSION}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("files", {"blob": other, "name": "n"}, f"public/blobs/{other}"),
        ("bundles", {"files": [{**entry, "name": "n"}]}, f"public/files/{uuid}.{VERSION}"),
        ("collections", {"contents": [{"kind": "blob", "sha256": other}]}, f"public/blobs/{other}"),
    ]
    for kind in ("file", "bundle", "collection"):
        link = {"kind": kind, **entry}
        cases.append(("collections", {"contents": [link]}, f"public/{kind}s/{uuid}.{VERSION}"))
    for kind, document, missing in cases:
        path = f"/v1/{kind}/{new_uuid()}"
        answer = await calls("PUT", path, document=document, version=VERSION)
        assert told(answer, 422, "reference_missing", document)["missing"] == [missing]


async def test_a_bundle_that_names_a_file_twice(calls: Calls) -> None:
    """Goal: one path, one file. Method: the same file, the same name, and names equal after NFC."""
    (uuid, version), (second, later) = [await calls.put_new_file(random_body(9)) for _ in "ab"]
    one, two = {"uuid": uuid, "version": version}, {"uuid": second, "version": later}
    before = await written(calls.world)
    for files in (
        [one, one],
        [{**one, "name": "x"}, {**one, "name": "y"}],
        [{**one, "name": "x"}, {**two, "name": "x"}],
        [{**one, "name": "\u00e9"}, {**two, "name": "e\u0301"}],
        [one, two],  # both are called a.txt
    ):
        path, document = f"/v1/bundles/{new_uuid()}", {"files": files}
        answer = await calls("PUT", path, document=document, version=VERSION)
        told(answer, 400, "malformed", files)
    link = {"kind": "file", **one}
    path, contents = f"/v1/collections/{new_uuid()}", {"contents": [link, link]}
    told(await calls("PUT", path, document=contents, version=VERSION), 400, "malformed", link)
    await hold_unwritten(calls.world, before)


async def test_what_is_redacted_is_gone_for_readers_and_writers(calls: Calls) -> None:
    """Goal: 410 for the object, 422 for a reference to it.

    Method: a redaction record, as an operator's tool would write it, of a blob and of all versions
    of a file.
    """
    body = random_body(30)
    uuid, version = await calls.put_new_file(body)
    targets = [f"public/blobs/{sha256_of(body)}", f"public/files/{uuid}"]
    producer = Producer({"bootstrap.servers": calls.world.kafka.bootstrap})
    for number, target in enumerate(targets, 1):
        decided = RedactionDecided(
            target=target,
            number=number,
            reason="withdrawn",
            decided_by="tester",
            decided_at_ms=1,
            purge_after_ms=2**53,
        )
        producer.produce(calls.world.prefix + "redactions", encode(decided), target, partition=0)
    assert producer.flush(10) == 0

    async def is_known() -> bool:
        answers = [
            await calls.get(f"/v1/files/{uuid}", gateway=gateway, version=version)
            for gateway in ("0", "1")
        ]
        return {answer.status for answer in answers} == {410}

    await calls.world.until(is_known)
    # A gateway finishes what the tool left in a second or so: that is not a write of this test's.
    for key in (targets[0], f"{targets[1]}.{version}"):
        await calls.world.until(lambda key=key: ends_redacted(calls.world, key))  # type: ignore[misc]
    before = await asyncio.to_thread(log_ends, calls.world)
    told(await calls.put_blob(body), 410, "redacted", "blob")
    told(await calls.get(f"/v1/blobs/{sha256_of(body)}"), 410, "redacted", "blob")
    document: dict[str, Any] = {"blob": sha256_of(body), "name": "n"}
    path = f"/v1/files/{new_uuid()}"
    answer = await calls("PUT", path, document=document, version=VERSION)
    problem = told(answer, 422, "reference_redacted", "file")
    assert problem["redacted"] == [targets[0]]
    document = {"files": [{"uuid": uuid, "version": version}]}
    answer = await calls("PUT", f"/v1/bundles/{new_uuid()}", document=document, version=VERSION)
    told(answer, 422, "reference_redacted", "bundle")
    # A redacted uuid covers its future versions.
    document = {"blob": sha256_of(b""), "name": "n"}
    await calls.put_blob(b"")
    before = await asyncio.to_thread(log_ends, calls.world)
    answer = await calls("PUT", f"/v1/files/{uuid}", document=document, version=new_version())
    told(answer, 410, "redacted", "later version")
    told(await calls.get(f"/v1/files/{uuid}"), 410, "redacted", "latest")
    assert await asyncio.to_thread(log_ends, calls.world) == before


async def test_a_record_of_two_megabytes_is_refused_before_anything_is_put(
    calls: Calls, nothing_written: None
) -> None:
    """Goal: the encoded size is checked first.

    Method: a gateway that is told to send blobs of up to 3 MB inside their event; a blob of 2 MB
    then has no place.
    """
    world = calls.world
    config = world.folder / "inline.toml"
    text = world.config_path.read_text("utf-8")
    config.write_text(text.replace("[limits]", "[limits]\ninline_bytes_max = 3000000"), "utf-8")
    port = world.ports["inline"] = free_port()
    command = [
        *(sys.executable, "-m", "tidestore", "gateway", "--id", "inline"),
        *("--port", str(port), "--config", str(config)),
    ]
    process = Process(
        "gateway-inline",
        command,
        world.folder / "logs" / "inline.log",
        is_ready=lambda: is_ready(f"http://127.0.0.1:{port}/readyz"),
    )
    await asyncio.to_thread(process.start)
    try:
        answer = await calls.put_blob(random_body(2_000_000), gateway="inline")
        told(answer, 413, "record_too_large", "2 MB")
    finally:
        await asyncio.to_thread(process.end)
