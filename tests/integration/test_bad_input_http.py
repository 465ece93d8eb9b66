"""What is no request at all: broken HTTP and oversized heads: refused, closed, no memory lost."""

from __future__ import annotations

import asyncio
import contextlib
import json

import psutil
import pytest

from tests.http_calls import PROBLEM_TYPE, Calls, raw
from tests.world import TOKEN, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

MIB = 1024 * 1024
GROWTH_BYTES_MAX = 10 * MIB


def answer_of(reply: bytes) -> tuple[int, dict[str, object]]:
    """Status and problem of a raw reply, after which the connection was closed."""
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert any(line.lower() == f"content-type: {PROBLEM_TYPE}" for line in lines), head
    return int(lines[0].split()[1]), json.loads(body)


BROKEN = {
    "no http": b"hello\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    "odd method": b"G\x00T /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "length is no number": b"PUT /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
    "negative length": b"PUT /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "length and chunked": b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nabc",
    "NUL in a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "header without colon": b"GET /healthz HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n",
}


@pytest.mark.parametrize("case", BROKEN)
async def test_broken_http_is_a_problem_and_the_end_of_the_connection(
    http_world: World, case: str
) -> None:
    """Goal: no plain text, no trace, no hang. Method: raw bytes; read until it is closed."""
    status, problem = answer_of(await raw(http_world, BROKEN[case], half_close=False))
    assert (status, problem["code"]) == (400, "bad_http")
    assert problem["hint"]


@pytest.mark.parametrize("case", ["one field", "many fields", "long path"])
async def test_an_oversized_head_is_431_and_closed(http_world: World, case: str) -> None:
    """Goal: told, then closed. Method: a head just over each bound."""
    head = {
        "one field": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 9_000,
        "many fields": b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 200 + b"X-B: c",
        "long path": b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: x",
    }[case]
    status, problem = answer_of(await raw(http_world, head + b"\r\n\r\n", half_close=False))
    assert (status, problem["code"]) == (431, "head_too_large")
    assert problem["hint"]


async def flood(world: World, start: bytes, piece: bytes, total: int) -> int:
    """Send a head that does not end; how many bytes went out before the other side closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["0"])
    sent = 0
    try:
        writer.write(start)
        while sent < total and not reader.at_eof():
            writer.write(piece)
            sent += len(piece)
            async with asyncio.timeout(20):
                await writer.drain()
    except ConnectionError:
        pass
    else:
        if not reader.at_eof():
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(20):
                    await reader.read()
    finally:
        writer.close()
    return sent


async def test_oversized_heads_take_no_memory(calls: Calls, http_world: World) -> None:
    """Goal: refused and closed while they come; memory grows by less than 10 MB.

    Method: 20 connections send up to 32 MiB each as one field, as many fields, as a path and as
    cookies, while the gateway's resident memory is watched.
    """
    for _ in range(20):
        await calls.get("/healthz")
    process = psutil.Process(http_world.processes["gateway-0"].pid)
    before = peak = process.memory_info().rss
    line, total = b"GET /healthz HTTP/1.1\r\nHost: x\r\n", 32 * MIB
    kinds = [
        (line + b"X-Big: ", b"a" * 65_536),
        (line, b"X-Field: value\r\n" * 4_096),
        (b"GET /", b"a" * 65_536),
        (line + b"Authorization: Bearer " + TOKEN.encode() + b"\r\nCookie: ", b"b=c; " * 13_107),
    ]
    floods = asyncio.gather(*(flood(http_world, *kinds[n % 4], total) for n in range(20)))
    while not floods.done():
        peak = max(peak, process.memory_info().rss)
        await asyncio.sleep(0.01)
    sent = floods.result()
    assert max(sent) < total, "the gateway read a head of 32 MiB to its end"
    assert peak - before < GROWTH_BYTES_MAX, f"memory grew by {(peak - before) / MIB:.1f} MiB"
    assert (await calls.get("/healthz")).status == 200
