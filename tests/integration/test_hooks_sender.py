"""The sender of deliveries alone, on real sockets: what a receiver or its name server may try."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psutil
import pytest
from aiohttp import web

from tests.servers.processes import free_port
from tests.servers.receiver import Heard, Receiver, hang
from tidestore.connectors.addresses import AddressGuard
from tidestore.connectors.webhook import Delivery, Reply, WebhookSender
from tidestore.schemas.objects import MalformedError

pytestmark = pytest.mark.integration

LOOPBACK = ("127.0.0.0/8", "::1/128")
DELIVERY = Delivery("chg_1", "object.written", b'{"type": "object.written", "data": {}}', "7", 1)


@contextlib.asynccontextmanager
async def sending(*networks: str, seconds: float = 20.0) -> AsyncIterator[WebhookSender]:
    sender = WebhookSender(AddressGuard(networks), total_seconds=seconds)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


async def send(sender: WebhookSender, url: str) -> Reply:
    return await sender.send(url, "secret", DELIVERY)


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def raw_server(talk: Talk) -> AsyncIterator[str]:
    """A server that speaks bytes as it likes once a request has come."""
    open_now: list[asyncio.StreamWriter] = []
    ended: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_now.append(writer)
        ended.append(end := asyncio.Event())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        writer.close()
        end.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.close()
        for writer in open_now:
            writer.transport.abort()
        for end in ended:
            await end.wait()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "0", "localhost", "[::1]", "[::]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"],
)  # fmt: skip
async def test_no_spelling_of_loopback_gets_past_the_guard(host: str) -> None:
    """Goal: what a hook may not reach is never dialled.

    Method: each spelling of this machine, with a receiver that would notice a single byte.
    """
    async with Receiver() as receiver, sending() as sender:
        url = f"http://{host}:{receiver.port}/"
        with pytest.raises(MalformedError, match="may not be called"):
            await sender.check_url(url)
        reply = await send(sender, url)
        assert reply.status is None
        # The client itself refuses the spellings that are no canonical address.
        assert "not called" in reply.error or "canonical" in reply.error
        assert receiver.heard == []
    async with Receiver() as receiver, sending(*LOOPBACK) as sender:
        assert (await send(sender, f"http://127.0.0.1:{receiver.port}/")).status == 204


async def test_a_name_that_changes_its_mind_is_refused_at_the_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: DNS rebinding leads nowhere.

    Method: the name server says a public address when the hook is made, this machine's after.
    """
    answers = [("93.184.216.34", 443)]

    async def resolve(self: object, host: str, *args: Any, **more: Any) -> list[Any]:
        place = answers.pop(0) if answers else ("127.0.0.1", receiver.port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place)]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", resolve)
    async with Receiver() as receiver, sending() as sender:
        url = f"http://rebind.example:{receiver.port}/"
        await sender.check_url(url)
        assert answers == [], "the name server was asked"
        reply = await send(sender, url)
        assert reply.status is None
        assert "127.0.0.1 is not a public address" in reply.error
        assert receiver.heard == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """Goal: a receiver cannot send us elsewhere.

    Method: each redirect to a receiver that may be called, and must not be.
    """
    async with Receiver() as target, sending(*LOOPBACK) as sender:

        async def redirect(heard: Heard) -> web.StreamResponse:
            return web.Response(status=status, headers={"Location": target.url})

        async with Receiver(redirect) as receiver:
            reply = await send(sender, receiver.url)
        assert reply.status == status
        assert not reply.is_success
        assert target.heard == []


async def test_a_receiver_that_never_answers_is_given_up_in_time() -> None:
    """Goal: a delivery has an end. Method: a receiver that hangs, one that nobody listens at."""
    async with Receiver(hang) as receiver, sending(*LOOPBACK, seconds=0.5) as sender:
        begun = time.monotonic()
        reply = await send(sender, receiver.url)
        assert (reply.status, reply.is_success) == (None, False)
        assert "Timeout" in reply.error
        assert time.monotonic() - begun < 5
        refused = await send(sender, f"http://127.0.0.1:{free_port()}/")
        assert (refused.status, refused.is_success) == (None, False)


async def test_an_answer_takes_no_more_memory_than_is_kept() -> None:
    """Goal: a receiver cannot fill our memory, by body, header lines or their number.

    Method: endless ones; what is kept has its bound and memory grows by less than 10 MB.
    """

    async def endless(writer: asyncio.StreamWriter, piece: bytes) -> None:
        for _ in range(2_000):
            writer.write(piece)
            await writer.drain()

    async def body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 131072000\r\n\r\n")
        await endless(writer, b"x" * 65_536)

    async def one_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        await endless(writer, b"y" * 65_536)

    async def many_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        await endless(writer, b"X-Many: z\r\n" * 6_000)

    process = psutil.Process()
    async with sending(*LOOPBACK, seconds=10) as sender:
        before = process.memory_info().rss
        async with raw_server(body) as url:
            reply = await send(sender, url)
            assert reply.is_success
            assert len(reply.body) == 16 * 1024
        for talk in (one_line, many_lines):
            async with raw_server(talk) as url:
                reply = await send(sender, url)
                assert reply.status is None
        assert process.memory_info().rss - before < 10_000_000


async def test_a_dribbled_body_does_not_undo_a_success() -> None:
    """Goal: what the receiver said it took is not sent again.

    Method: 200 at once, and a body that never ends.
    """

    async def dribble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        await reader.read()

    async with raw_server(dribble) as url, sending(*LOOPBACK) as sender:
        begun = time.monotonic()
        reply = await send(sender, url)
        assert reply.is_success
        assert time.monotonic() - begun < 15
