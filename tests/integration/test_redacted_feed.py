"""What hooks hear of a redaction: hidden at once, gone everywhere at last, or back again."""

from __future__ import annotations

import asyncio

import pytest

from tests.http_calls import Calls, sha256_of
from tests.integration.redacting import REASON, append, redact
from tests.integration.shares import until_shared
from tests.servers.receiver import Heard, Receiver, hook
from tests.world import ADMIN_TOKEN, World, random_body
from tidestore.schemas.events import ObjectRedacted, ObjectWritten

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

_HERE = ["object.present"] * 3 + ["object.present_everywhere"]


def told(receiver: Receiver, key: str) -> list[Heard]:
    """What came of a key, repeats left out."""
    return list({one.id: one for one in receiver.events(key)}.values())


def types(receiver: Receiver, key: str) -> list[str]:
    return [one.type for one in told(receiver, key)]


async def until_told(world: World, receiver: Receiver, key: str, last: str, times: int = 1) -> None:
    """Wait until a key's newest news is of this type, for the so-many-th time."""

    async def is_told() -> bool:
        found = types(receiver, key)
        return found[-1:] == [last] and found.count(last) == times

    await world.until(is_told, seconds=60)


async def test_hooks_hear_that_something_is_hidden_then_gone_and_of_its_return(
    calls: Calls, http_world: World
) -> None:
    """Goal: who was told of an object is told that it is hidden, at once and once, and why.

    Method: a file and its blob, both redacted. A gateway that was frozen appends the write again,
    which is no return; then the redaction is lifted, which is one.
    """
    world, body = http_world, random_body(60)
    await until_shared(world)
    async with Receiver() as receiver:
        made = await calls("POST", "/v1/hooks", document=hook(receiver.url))
        uuid, version = await calls.put_new_file(body)
        key, blob = f"public/files/{uuid}.{version}", f"public/blobs/{sha256_of(body)}"
        for one in (key, blob):
            await until_told(world, receiver, one, "object.present_everywhere")
        assert told(receiver, key)[0].document["data"]["name"] == "a.txt"
        assert (await redact(calls, f"/v1/files/{uuid}", version=version)).status == 202
        for one in (key, blob):
            await until_told(world, receiver, one, "object.redacted_everywhere")
            hidden, gone = told(receiver, one)[-2:]
            assert hidden.type == "object.redacted"
            assert hidden.document["data"]["reason"] == REASON
            assert hidden.document["data"]["is_redacted"] is True
            assert not {"name"} & (hidden.document["data"].keys() | gone.document["data"].keys())
            assert {copy["state"] for copy in gone.document["data"]["copies"]} == {"redacted"}
        events = await asyncio.to_thread(
            lambda: [record.event for record in world.records("log") if record.key == key]
        )
        written = next(event for event in events if isinstance(event, ObjectWritten))
        await append(world, written)

        async def is_beaten() -> bool:
            found = await asyncio.to_thread(
                lambda: [record.event for record in world.records("log") if record.key == key]
            )
            return sum(isinstance(event, ObjectRedacted) for event in found) >= 2

        await world.until(is_beaten)
        document = {"target": key, "reason": "the wrong one"}
        lift = await calls("POST", "/v1/redactions/lifts", document=document, token=ADMIN_TOKEN)
        assert lift.status == 202, lift.body
        for one in (key, blob):
            await until_told(world, receiver, one, "object.present_everywhere", times=2)
            assert types(receiver, one) == [
                "object.written", *_HERE, "object.redacted", "object.redacted_everywhere",
                "object.lifted", *_HERE,
            ]  # fmt: skip
            sequences = [item.document["data"]["sequence"] for item in told(receiver, one)]
            assert sequences == list(range(1, 13))
        assert told(receiver, key)[-1].document["data"]["name"] == "a.txt"
        await calls("DELETE", f"/v1/hooks/{made.json['id']}")
