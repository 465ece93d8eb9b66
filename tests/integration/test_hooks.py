"""Hooks on a running world with two gateways: GitHub's shape, both signatures, the events."""

from __future__ import annotations

import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gidgethub import ValidationFailure, sansio
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.integration.shares import until_shared
from tests.servers.processes import free_port
from tests.servers.receiver import Heard, Receiver, hook
from tests.world import TOKEN, World, random_body
from tidestore.client import ClientError
from tidestore.schemas.events import DeliveryAttempted

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

SECRET = "It's a Secret to Everybody"


async def call(
    world: World,
    method: str,
    path: str,
    document: Any = None,
    *,
    token: str = TOKEN,
    gateway: str = "0",
) -> tuple[int, Any, Any]:
    """Status, document and headers of a plain request."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, world.url(gateway) + path, json=document, headers=headers) as reply,
    ):
        found = await reply.json(content_type=None) if reply.status != 204 else None
        return reply.status, found, reply.headers


async def test_a_hook_has_githubs_shape_and_is_known_to_every_gateway(world: World) -> None:
    """Goal: a client of GitHub's hooks API feels at home.

    Method: make, read, list, delete over both gateways; the members that GitHub's own schema
    requires.
    """
    async with Receiver() as receiver:
        status, made, headers = await call(world, "POST", "/v1/hooks", hook(receiver.url, "*"))
        assert status == 201, made
        assert headers["Location"] == f"/v1/hooks/{made['id']}"
        required = {"type", "id", "name", "active", "events", "config", "updated_at", "created_at"}
        assert required | {"url", "ping_url", "last_response"} <= made.keys()
        assert isinstance(made["id"], int)
        assert (made["name"], made["active"], made["events"]) == ("web", True, ["*"])
        assert made["config"]["url"] == receiver.url
        assert made["config"]["content_type"] == "json"
        assert made["config"]["insecure_ssl"] == "0"
        assert made["last_response"] == {"code": None, "status": "unused", "message": None}

        path = f"/v1/hooks/{made['id']}"
        status, found, _ = await call(world, "GET", path, gateway="1")
        assert (status, found["id"]) == (200, made["id"])
        status, listed, _ = await call(world, "GET", "/v1/hooks", gateway="1")
        assert status == 200
        assert made["id"] in [item["id"] for item in listed]
        status, _, _ = await call(world, "DELETE", path, gateway="1")
        assert status == 204
        for gateway in ("0", "1"):
            status, problem, headers = await call(world, "GET", path, gateway=gateway)
            assert (status, problem["code"]) == (404, "not_found")
            assert headers["Content-Type"] == "application/problem+json"


async def test_hooks_need_a_token(world: World) -> None:
    """Goal: nobody without a token makes, sees or removes hooks.

    Method: each call without one and with a wrong one.
    """
    async with Receiver() as receiver:
        _, made, _ = await call(world, "POST", "/v1/hooks", hook(receiver.url))
        path = f"/v1/hooks/{made['id']}"
        for token in ("", "wrong"):
            for method, where in (
                ("POST", "/v1/hooks"), ("GET", "/v1/hooks"), ("GET", path), ("DELETE", path),
                ("POST", f"{path}/pings"),
            ):  # fmt: skip
                document = hook(receiver.url) if where == "/v1/hooks" and method == "POST" else None
                status, problem, headers = await call(world, method, where, document, token=token)
                assert (status, problem["code"]) == (401, "unauthorized"), (method, where)
                assert problem["hint"]
                assert headers["WWW-Authenticate"] == "Bearer"
        status, _, _ = await call(world, "DELETE", path)
        assert status == 204


async def test_a_secret_is_shown_once_if_we_made_it_and_never_kept_in_clear(world: World) -> None:
    """Goal: the secret is the owner's alone.

    Method: given and made secrets, in all answers, and in the bytes that the broker has on disk.
    """
    async with Receiver() as receiver:
        given, made = [
            (await call(world, "POST", "/v1/hooks", document))[1]
            for document in (hook(receiver.url, secret=SECRET), hook(receiver.url))
        ]
        assert given["config"]["secret"] == "********"
        secret = made["config"]["secret"]
        assert secret.startswith("whsec_")
        assert len(secret) >= 40
        _, listed, _ = await call(world, "GET", "/v1/hooks")
        _, one, _ = await call(world, "GET", f"/v1/hooks/{made['id']}")
        assert {item["config"]["secret"] for item in [*listed, one]} == {"********"}
        segments = list(world.kafka.data.glob(f"{world.prefix}hooks-*/*.log"))
        kept = b"".join(path.read_bytes() for path in segments)
        assert receiver.url.encode() in kept, "the broker's files are looked at"
        assert SECRET.encode() not in kept
        assert secret.removeprefix("whsec_").encode() not in kept
        for item in (given, made):
            await call(world, "DELETE", f"/v1/hooks/{item['id']}")


async def test_both_signatures_satisfy_independent_judges(world: World) -> None:
    """Goal: a receiver verifies with the library it has.

    Method: standardwebhooks and gidgethub take each delivery, and refuse it with one byte changed
    or another secret.
    """
    async with Receiver() as receiver, world.client() as client:
        made = await client.post("/v1/hooks", hook(receiver.url, "object.written"))
        secret = made["config"]["secret"]
        key = await world.put_blob(client, random_body(100))

        async def came() -> bool:
            return bool(receiver.events(key))

        await world.until(came)
        for heard in receiver.heard:
            assert Webhook(secret).verify(heard.body, heard.headers) == heard.document
            event = sansio.Event.from_http(heard.headers, heard.body, secret=secret)
            assert event.data == heard.document
            assert event.event == heard.type
            assert event.delivery_id == heard.id
            assert heard.headers["x-github-hook-id"] == str(made["id"])
            forged = heard.body[:-1] + b" "
            with pytest.raises(WebhookVerificationError):
                Webhook(secret).verify(forged, heard.headers)
            with pytest.raises(ValidationFailure):
                sansio.validate_event(
                    forged, signature=heard.headers["x-hub-signature-256"], secret=secret
                )
            with pytest.raises(WebhookVerificationError):
                Webhook("whsec_" + "QUJD" * 8).verify(heard.body, heard.headers)
        await client.delete(f"/v1/hooks/{made['id']}")


def once(events: list[Heard]) -> list[Heard]:
    """The first delivery of each event: at least once means that one may come again."""
    first: dict[str, Heard] = {}
    for one in events:
        first.setdefault(one.id, one)
    return list(first.values())


async def test_written_present_and_present_everywhere_are_told_in_order(world: World) -> None:
    """Goal: the event types of issue point 8.

    Method: one hook on all, one on each type; the sequence of one key grows by one and each says
    where the bytes can be read.
    """
    kinds = ("object.written", "object.present", "object.present_everywhere")
    async with Receiver() as everything, Receiver() as single, world.client() as client:
        made = [await client.post("/v1/hooks", hook(everything.url))]
        for kind in kinds:
            one = hook(f"{single.url}/{kind}", kind, secret=SECRET)
            made.append(await client.post("/v1/hooks", one))
        key = await world.put_blob(client, random_body(5_000))

        async def came() -> bool:
            return len(once(everything.events(key))) >= 5 and len(once(single.events(key))) >= 5

        await world.until(came)
        events = once(everything.events(key))
        assert [one.document["data"]["sequence"] for one in events] == [1, 2, 3, 4, 5]
        assert [one.type for one in events] == [kinds[0], kinds[1], kinds[1], kinds[1], kinds[2]]
        present = {one.document["data"]["replica"] for one in events if one.type == kinds[1]}
        assert present == set(world.replicas)
        assert [one.document["data"]["is_everywhere"] for one in events] == [False] * 4 + [True]
        places = events[-1].document["data"]["copies"]
        assert {place["replica"]: place["state"] for place in places} == dict.fromkeys(
            world.replicas, "present"
        )
        assert all(place["url"].endswith(key) for place in places)
        assert sorted(one.id for one in once(single.events(key))) == sorted(
            one.id for one in events
        )

        async def is_shown() -> bool:
            found = await client.get(f"/v1/hooks/{made[0]['id']}")
            return bool(
                found["last_response"] == {"code": 204, "status": "active", "message": None}
            )

        await world.until(is_shown)
        for item in made:
            await client.delete(f"/v1/hooks/{item['id']}")


async def test_a_ping_is_sent_when_a_hook_is_made_and_when_asked(world: World) -> None:
    """Goal: a receiver can be tried before anything happens.

    Method: GitHub's ping, signed, at the hook's birth and on POST pings; both are in the delivery
    log.
    """
    async with Receiver() as receiver:
        _, made, _ = await call(world, "POST", "/v1/hooks", hook(receiver.url, secret=SECRET))

        async def pings(count: int) -> bool:
            return len(receiver.heard) >= count

        await world.until(lambda: pings(1))
        status, _, _ = await call(world, "POST", f"/v1/hooks/{made['id']}/pings", gateway="1")
        assert status == 204
        await world.until(lambda: pings(2))
        for heard in receiver.heard:
            event = sansio.Event.from_http(heard.headers, heard.body, secret=SECRET)
            assert event.event == "ping"
            assert event.data["hook_id"] == made["id"]
            assert event.data["hook"]["config"]["secret"] == "********"
            assert event.data["zen"]
        assert receiver.heard[0].id != receiver.heard[1].id

        async def is_logged() -> bool:
            found = [
                record.event for record in world.records("deliveries")
                if record.key == str(made["id"])
            ]  # fmt: skip
            return [getattr(one, "change_type", "") for one in found] == ["ping", "ping"]

        await world.until(is_logged)
        await call(world, "DELETE", f"/v1/hooks/{made['id']}")


async def test_failures_are_tried_again_with_the_same_id_and_delay_nobody(world: World) -> None:
    """Goal: at least once over 500 and a refused connection, and R8.

    Method: three hooks; one fails once, one has nobody listening at first, one is well and hears at
    once.
    """

    async def fail_once(heard: Heard) -> web.StreamResponse:
        return web.Response(status=500 if heard.attempt == 1 else 200, text="broken\n")

    await until_shared(world)
    port = free_port()
    async with Receiver(fail_once) as failing, Receiver() as well, world.client() as client:
        urls = [failing.url, f"http://127.0.0.1:{port}/hook", well.url]
        made = [await client.post("/v1/hooks", hook(url, "object.written")) for url in urls]
        key = await world.put_blob(client, random_body(10))

        async def has_failed() -> bool:
            tried = [r for r in world.records("deliveries") if r.key == str(made[1]["id"])]
            refused = [r for r in tried if getattr(r.event, "key", "") == key]  # and not its ping
            return bool(failing.events(key)) and bool(well.events(key)) and bool(refused)

        await world.until(has_failed)
        assert len(once(well.events(key))) == 1
        late = Receiver(port=port)
        async with late:

            async def came() -> bool:
                return len(failing.events(key)) >= 2 and bool(late.events(key))

            await world.until(came)
        first, second = failing.events(key)[:2]
        assert (first.attempt, second.attempt) == (1, 2)
        assert (first.id, first.body) == (second.id, second.body)
        assert 3.5 < second.moment - first.moment < 30, "a wait of 5 s, spread by 20 %"
        assert late.events(key)[0].attempt >= 2
        # Written down when the answer is there: a moment after the receiver has heard it.
        await world.until(lambda: has_tried(world, made[0]["id"], key, [500, 200]))
        for item in made:
            await client.delete(f"/v1/hooks/{item['id']}")


async def has_tried(world: World, hook_id: int, key: str, statuses: list[int]) -> bool:
    """Whether the delivery log has just these answers of a hook for a key."""
    events = [record.event for record in world.records("deliveries")]
    tries = [event for event in events if isinstance(event, DeliveryAttempted)]
    ours = [one.status for one in tries if (one.hook_id, one.key) == (str(hook_id), key)]
    return ours == statuses


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"config": None}, "body"),
        ({"config": {}}, "config.url"),
        ({"config": {"url": 7}}, "config.url"),
        ({"config": {"url": "ftp://example.org/x"}}, "url"),
        ({"config": {"url": "https://user:pw@example.org/"}}, "url"),
        ({"config": {"url": "https://example.org/" + "x" * 3000}}, "url"),
        ({"config": {"url": "https://exa mple.org/"}}, "url"),
        ({"config": {"url": "https://example.org:99999/"}}, "url"),
        ({"config": {"url": "http://10.0.0.1/"}}, "url"),
        ({"config": {"url": "http://169.254.169.254/latest/meta-data"}}, "url"),
        ({"config": {"url": "http://[::1]/"}}, "url"),
        ({"config": {"url": "http://[::ffff:10.0.0.1]/"}}, "url"),
        ({"config": {"url": "http://0x0a000001/"}}, "url"),
        ({"config": {"url": "http://8.8.8.8:25/"}}, "url"),
        ({"config": {"url": "https://8.8.8.8/", "secret": "short"}}, "config.secret"),
        ({"config": {"url": "https://8.8.8.8/", "secret": "whsec_%%%"}}, "secret"),
        ({"config": {"url": "https://8.8.8.8/", "insecure_ssl": "1"}}, "config.insecure_ssl"),
        ({"config": {"url": "https://8.8.8.8/", "content_type": "form"}}, "config.content_type"),
        ({"config": {"url": "https://8.8.8.8/", "colour": "red"}}, "config"),
        ({"events": ["object.eaten"]}, "events"),
        ({"events": []}, "events"),
        ({"events": "object.written"}, "events"),
        ({"events": [["object.written"]]}, "events"),
        ({"active": "yes"}, "active"),
        ({"start": "yesterday"}, "start"),
        ({"name": "irc"}, "body"),
        ({"colour": "red"}, "body"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
async def test_a_bad_hook_is_refused_and_nothing_is_kept(
    world: World, change: dict[str, Any], field: str
) -> None:
    """Goal: bad input is a clear problem+json. Method: one mistake at a time."""
    before = (await call(world, "GET", "/v1/hooks"))[1]
    document = {**hook("https://8.8.8.8/hook"), **change}
    status, problem, headers = await call(world, "POST", "/v1/hooks", document)
    assert (status, problem["code"], problem["field"]) == (400, "malformed", field), problem
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["detail"]
    assert problem["hint"]
    assert (await call(world, "GET", "/v1/hooks"))[1] == before


async def test_the_start_decides_what_a_hook_hears(world: World) -> None:
    """Goal: `now` hears nothing of before, `earliest` all that is kept.

    Method: one write before both, one after.
    """
    async with Receiver() as early, Receiver() as late, world.client() as client:
        before = await world.put_blob(client, random_body(20))
        await world.until_everywhere(client, [before])

        async def is_announced() -> bool:
            return any(
                record.key == before and getattr(record.event, "is_everywhere", False)
                for record in world.records("changes.public")
            )

        await world.until(is_announced)
        made = [
            await client.post("/v1/hooks", hook(early.url, start="earliest")),
            await client.post("/v1/hooks", hook(late.url, start="now")),
        ]
        after = await world.put_blob(client, random_body(20))

        async def came() -> bool:
            heard = [early.events(after), late.events(after), early.events(before)]
            return all(len(once(events)) >= 5 for events in heard)

        await world.until(came)
        assert len(once(early.events(before))) == 5
        assert late.events(before) == []
        for item in made:
            await client.delete(f"/v1/hooks/{item['id']}")


async def test_a_removed_hook_hears_nothing_more(world: World) -> None:
    """Goal: DELETE is the end, on every gateway that says 404.

    Method: remove one of two hooks; the other one still hears.
    """
    async with Receiver() as gone, Receiver() as kept, world.client() as client:
        first = await client.post("/v1/hooks", hook(gone.url, "object.written"))
        second = await client.post("/v1/hooks", hook(kept.url, "object.written"))
        await client.delete(f"/v1/hooks/{first['id']}")
        with pytest.raises(ClientError):
            await client.delete(f"/v1/hooks/{first['id']}")
        # A gateway that says so has read the removal, and it is the one that sends.
        for gateway in ("0", "1"):
            status, _, _ = await call(world, "GET", f"/v1/hooks/{first['id']}", gateway=gateway)
            assert status == 404
        keys = [await world.put_blob(client, random_body(20)) for _ in range(8)]

        async def came() -> bool:
            return {one.key for one in kept.events()} >= set(keys)

        await world.until(came)
        assert gone.events() == []
        await client.delete(f"/v1/hooks/{second['id']}")
