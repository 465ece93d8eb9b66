"""Our topics, decoded by strangers: the stock Confluent client, and fastavro alone."""

from __future__ import annotations

import asyncio
import io
import json
import struct
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.http_calls import Calls, sha256_of
from tests.world import World, random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture
def registry(http_world: World) -> Iterator[SchemaRegistryClient]:
    """The stock client, at the gateway's endpoint."""
    with SchemaRegistryClient({"url": http_world.url("1") + "/registry"}) as client:
        yield client


def raw_messages(world: World, topic: str) -> list[Message]:
    """All messages of a topic as they lie there."""
    consumer = Consumer({"bootstrap.servers": world.kafka.bootstrap, "group.id": "stranger"})
    found: list[Message] = []
    count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    try:
        for partition in range(count):
            place = TopicPartition(topic, partition, 0)
            first, end = consumer.get_watermark_offsets(place, timeout=10)
            consumer.assign([TopicPartition(topic, partition, first)])
            next_offset = first
            while next_offset < end:
                message = consumer.poll(10)
                assert message is not None, f"{topic}/{partition} gave nothing"
                assert message.error() is None
                next_offset = (message.offset() or 0) + 1
                found.append(message)
    finally:
        consumer.close()
    return found


def body_of(message: Message) -> bytes:
    value = message.value()
    assert isinstance(value, bytes)
    return value


async def written(calls: Calls) -> tuple[str, bytes]:
    body = random_body(99)
    key = (await calls.put_blob(body)).json["key"]
    async with calls.world.client() as client:
        await calls.world.until_everywhere(client, [key])
    return key, body


async def test_the_stock_client_decodes_our_topics(
    calls: Calls, registry: SchemaRegistryClient
) -> None:
    """Goal: a third party needs nothing of ours.

    Method: SchemaRegistryClient and AvroDeserializer against the gateway's endpoint, over log,
    copies, replicas and changes.
    """
    key, body = await written(calls)
    world = calls.world
    make: Any = AvroDeserializer  # its types know only the asynchronous twin
    decode = make(registry)

    def decoded(topic: str) -> list[tuple[str, dict[str, Any]]]:
        name = world.prefix + topic
        context = SerializationContext(name, MessageField.VALUE)
        return [
            (str(bytes(message.key() or b""), "utf-8"), decode(body_of(message), context))
            for message in raw_messages(world, name)
        ]

    log = dict(await asyncio.to_thread(decoded, "log"))
    assert (log[key]["sha256"], log[key]["size"]) == (sha256_of(body), len(body))
    assert log[key]["data"] == body
    copies = [
        record for name, record in await asyncio.to_thread(decoded, "copies.gcp.1") if name == key
    ]
    assert copies[-1]["state"] == "present"
    replicas = await asyncio.to_thread(decoded, "replicas")
    assert {record.get("name") for _, record in replicas} >= {"aws", "gcp", "onprem"}

    async def is_announced() -> bool:
        return key in dict(await asyncio.to_thread(decoded, "changes.public"))

    await world.until(is_announced)


async def test_plain_fastavro_decodes_our_log(calls: Calls) -> None:
    """Goal: the Confluent wire format, nothing else. Method: magic byte, id, schema by HTTP."""
    key, body = await written(calls)
    name = calls.world.prefix + "log"
    for message in await asyncio.to_thread(raw_messages, calls.world, name):
        if bytes(message.key() or b"") != key.encode():
            continue
        raw = body_of(message)
        magic, schema_id = struct.unpack(">bI", raw[:5])
        assert magic == 0
        answer = await calls.get(f"/registry/schemas/ids/{schema_id}")
        assert answer.headers["Content-Type"].startswith("application/vnd.schemaregistry.v1+json")
        schema = fastavro.parse_schema(json.loads(answer.json["schema"]))
        rest = io.BytesIO(raw[5:])
        record: Any = fastavro.schemaless_reader(rest, schema, None)
        assert rest.read() == b""
        assert (record["key"], record["data"]) == (key, body)
        return
    raise AssertionError("the write is not on the log")


async def test_the_registry_can_be_walked(registry: SchemaRegistryClient) -> None:
    """Goal: subjects, versions, latest, ids agree. Method: the stock client's own look-ups."""
    subjects = await asyncio.to_thread(registry.get_subjects)
    assert len(subjects) >= 10
    for subject in subjects:
        versions = await asyncio.to_thread(registry.get_versions, subject)
        latest = await asyncio.to_thread(registry.get_latest_version, subject)
        assert latest.version == max(versions)
        assert latest.schema is not None
        assert latest.schema_id is not None
        again = await asyncio.to_thread(registry.get_schema, latest.schema_id)
        assert json.loads(again.schema_str or "") == json.loads(latest.schema.schema_str or "")


async def test_the_registry_is_read_only(calls: Calls, registry: SchemaRegistryClient) -> None:
    """Goal: schemas come with a release.

    Method: register one with the stock client, and by hand.
    """
    before = await asyncio.to_thread(registry.get_subjects)
    schema = Schema('{"type": "string"}', "AVRO")
    with pytest.raises(SchemaRegistryError) as refused:
        await asyncio.to_thread(registry.register_schema, "mine", schema)
    assert refused.value.http_status_code == 403
    assert "read-only" in str(refused.value)
    assert await asyncio.to_thread(registry.get_subjects) == before
    for path in ("schemas/ids/999999", "schemas/ids/x", "subjects/none/versions"):
        answer = await calls.get(f"/registry/{path}")
        assert answer.status == 404
        assert answer.json["error_code"] in (40401, 40403)
    for method in ("PUT", "DELETE"):
        answer = await calls(method, "/registry/subjects")
        answer.problem(405, "method_not_allowed")
        assert answer.headers["Allow"]
