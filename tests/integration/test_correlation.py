"""One id from the PUT, through gateway, workers and their logs, to the hook's delivery."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from tests.http_calls import Calls
from tests.integration.shares import until_shared
from tests.servers.receiver import Receiver, hook
from tests.world import World, random_body
from tidestore.connectors.correlation import parent_in

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def lines_of(world: World, process: str, request_id: str) -> list[dict[str, Any]]:
    """A process' log lines about a request: every line must be JSON that has the fields."""
    found = []
    for text in world.processes[process].log.read_text("utf-8").splitlines():
        if request_id in text:
            line = json.loads(text)
            assert {"time", "level", "logger", "process", "message"} <= line.keys()
            if line.get("request_id") == request_id:
                found.append(line)
    return found


@pytest.mark.parametrize("header", ["X-Request-Id", "traceparent"])
async def test_one_id_leads_from_the_write_to_the_last_copy_and_the_delivery(
    http_world: World, calls: Calls, header: str
) -> None:
    """Goal: one write can be followed everywhere. Method: give it an id, then look for that id.

    In the answer, in the logs of the gateway and of each replica's worker, and at the receiver. The
    id is the client's own, or that of the trace in which the client is.
    """
    world, given = http_world, secrets.token_hex(16)
    value = given if header == "X-Request-Id" else f"00-{given}-{secrets.token_hex(8)}-01"
    await until_shared(world)
    async with Receiver() as receiver, world.client() as client:
        document = hook(receiver.url, "object.present_everywhere")
        made = await calls("POST", "/v1/hooks", document=document)
        assert made.status == 201
        key = await _write(calls, header, value, given)
        await world.until_everywhere(client, [key])

        async def is_told() -> bool:
            return bool(receiver.events(key))

        await world.until(is_told)
        headers = receiver.events(key)[0].headers
        assert headers["x-request-id"] == given
        parent = parent_in(headers["traceparent"])
        assert parent is not None
        assert parent[0] == given
        await calls("DELETE", f"/v1/hooks/{made.json['id']}")

    written = lines_of(world, "gateway-0", given)
    assert [line["key"] for line in written if line["message"] == "written"] == [key]
    for replica in ("gcp", "onprem"):
        await world.until(lambda replica=replica: _has_copied(world, replica, given, key))  # type: ignore[misc]

    async def is_delivered() -> bool:
        lines = [line for n in "01" for line in lines_of(world, f"gateway-{n}", given)]
        told = [line for line in lines if line["message"] == "delivered"]
        return bool(told) and (told[0]["key"], told[0]["status"]) == (key, 204)

    await world.until(is_delivered)


async def _has_copied(world: World, replica: str, given: str, key: str) -> bool:
    """Whether the worker has told of its copy: it does when the record of it is confirmed."""
    told = lines_of(world, f"worker-{replica}-0", given)
    copied = [line for line in told if line["message"] == "copied"]
    assert [line["key"] for line in copied] in ([], [key])
    return bool(copied) and copied[0]["lag_ms"] >= 0


async def _write(calls: Calls, header: str, value: str, given: str) -> str:
    answer = await calls.put_blob(random_body(300), headers={header: value})
    assert answer.status == 201
    assert answer.headers["X-Request-Id"] == given
    return str(answer.json["key"])
