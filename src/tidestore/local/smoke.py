"""The smoke journey: every kind of object, every replica, one hook; each proved.

On a small stack of its own, or on one that runs already and may hold other objects: what counts is
what this journey wrote. The last line is one JSON document, for programs; everything else goes to
standard error.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import statistics
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from rich.console import Console

from tidestore.client import Client, ClientError
from tidestore.local.readback import places_of, read_replica
from tidestore.schemas.objects import version_of

_BLOBS = 20
_LARGE_BYTES = 20 * 1024 * 1024
_JAPANESE = "資料/細胞アトラス.txt"
_SECRET = "smoke-secret-0123456789"  # noqa: S105  of a hook that lives for seconds
_ARRIVAL_SECONDS_MAX = 25.0
_WRITERS = 8


@dataclass(slots=True)
class Report:
    """What the journey found. `problems` is empty when everything is as it should be."""

    problems: list[str] = field(default_factory=list)
    objects: int = 0
    lags_ms: list[float] = field(default_factory=list)
    put_per_s: float = 0.0
    hook_ms: list[float] = field(default_factory=list)

    def document(self, seconds: float) -> dict[str, Any]:
        """The last line."""
        return {
            "ok": not self.problems,
            "objects": self.objects,
            "lag_ms_p50": _percentile(self.lags_ms, 0.50),
            "lag_ms_p99": _percentile(self.lags_ms, 0.99),
            "put_per_s": round(self.put_per_s, 1),
            "hook_ms_p50": _percentile(self.hook_ms, 0.50),
            "seconds": round(seconds, 1),
            "problems": self.problems,
        }


@dataclass(frozen=True, slots=True)
class SmokeTarget:
    """A running stack: its gateway, and the configuration that says where its replicas lie."""

    url: str
    token: str
    config: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    # Where our hook receiver listens; the gateway must reach it there and be allowed to call it.
    hook_host: str = "127.0.0.1"


def run_smoke(target: SmokeTarget, console: Console, begun: float) -> bool:
    """Run the journey on a started stack; whether everything is as it should be."""
    report = Report()
    try:
        asyncio.run(_journey(target, console, report))
    except (ClientError, OSError, TimeoutError) as error:
        report.problems.append(f"{type(error).__name__}: {error}")
    for problem in report.problems:
        console.print(f"problem: {problem}", markup=False)
    # The stack's own end is part of neither the proof nor the time.
    sys.stdout.write(json.dumps(report.document(time.monotonic() - begun)) + "\n")
    sys.stdout.flush()
    return not report.problems


async def _journey(target: SmokeTarget, console: Console, report: Report) -> None:
    receiver = _Receiver()
    port = await receiver.start(target.hook_host)
    async with Client(target.url, target.token) as client:
        hook = {
            "name": "web",
            "events": ["object.written", "object.present_everywhere"],
            "config": {"url": f"http://{target.hook_host}:{port}/hook", "secret": _SECRET},
        }
        made = await client.post("/v1/hooks", hook)
        await _warm_up(client, receiver, report)
        bodies = [os.urandom(1000 + 300 * number) for number in range(_BLOBS - 2)]
        bodies += [b"", os.urandom(_LARGE_BYTES)]
        names = [f"reads/{number:02}.fastq" for number in range(_BLOBS - 1)] + [_JAPANESE]
        console.print(f"writing {len(bodies)} blobs and files and a bundle")
        # The empty blob may be there from an earlier journey: written again it is no change, and
        # nobody is told. All other bytes are fresh.
        is_empty_known = await _is_known(client, b"")
        keys, acknowledged = await _write(client, bodies, names, report)
        if is_empty_known:
            acknowledged.pop(_blob_key(b""))
        expected = {_blob_key(body): body for body in bodies}
        await _await_arrival(client, keys, report)
        await _check_listing(client, keys, report)
        _check_hook(receiver, acknowledged, report, await _await_hook(receiver, list(acknowledged)))
        await client.delete(f"/v1/hooks/{made['id']}")
    await receiver.stop()
    console.print("reading every replica back with the clouds' own clients")
    for place in places_of(target.config, target.environ):
        found = await asyncio.to_thread(read_replica, place, lambda _: None)
        missing = [key for key in keys if key not in found]
        wrong = [
            key
            for key, body in expected.items()
            if key in found and found[key] != (len(body), key.rsplit("/", 1)[-1])
        ]
        if missing or wrong:
            report.problems.append(f"{place.name}: {len(missing)} missing, {len(wrong)} differ")
        console.print(f"  {place.name}: {len(found)} objects read and hashed")
    report.objects = len(keys)


async def _warm_up(client: Client, receiver: _Receiver, report: Report) -> None:
    """See one object through to the hook, so that no time below is a process's start."""
    body = os.urandom(100)
    answer = await client.put(f"/v1/blobs/{hashlib.sha256(body).hexdigest()}", body=body)
    if not await _await_hook(receiver, [answer["key"]], _ARRIVAL_SECONDS_MAX):
        report.problems.append("the hook did not hear of the first object")


async def _write(
    client: Client, bodies: list[bytes], names: list[str], report: Report
) -> tuple[list[str], dict[str, float]]:
    """Write everything; the keys, and when each was acknowledged."""
    version = version_of(datetime.now(UTC))
    files: list[dict[str, str]] = []
    keys: list[str] = []
    acknowledged: dict[str, float] = {}
    gate = asyncio.Semaphore(_WRITERS)

    async def one(body: bytes, name: str) -> None:
        async with gate:
            sha256 = hashlib.sha256(body).hexdigest()
            answer = await client.put(f"/v1/blobs/{sha256}", body=body, size=len(body))
            acknowledged[answer["key"]] = time.time()
            file_id = str(uuid.uuid4())
            document = {"blob": sha256, "name": name, "content_type": "application/octet-stream"}
            made = await client.put(f"/v1/files/{file_id}", document=document, version=version)
            acknowledged[made["key"]] = time.time()
            files.append({"uuid": file_id, "version": version, "name": name})
            keys.extend([answer["key"], made["key"]])

    begun = time.monotonic()
    await asyncio.gather(*(one(body, name) for body, name in zip(bodies, names, strict=True)))
    report.put_per_s = len(keys) / (time.monotonic() - begun)
    bundle = await client.put(
        f"/v1/bundles/{uuid.uuid4()}", document={"files": files}, version=version
    )
    acknowledged[bundle["key"]] = time.time()
    keys.append(bundle["key"])
    return keys, acknowledged


def _blob_key(body: bytes) -> str:
    return f"public/blobs/{hashlib.sha256(body).hexdigest()}"


async def _is_known(client: Client, body: bytes) -> bool:
    try:
        await client.get(f"/v1/blobs/{hashlib.sha256(body).hexdigest()}/copies")
    except ClientError as error:
        if error.status != 404:
            raise
        return False
    return True


async def _await_arrival(client: Client, keys: list[str], report: Report) -> None:
    """Wait until every object is present on every replica, and collect the lags."""
    deadline = time.monotonic() + _ARRIVAL_SECONDS_MAX
    left = list(keys)
    while left:
        for key in list(left):
            _, kind, name = key.split("/")
            identity, _, version = name.partition(".")
            path = f"/v1/{kind}/{identity}/copies"
            found = await client.get(path, version=version or None)
            if all(copy["state"] == "present" for copy in found["copies"]):
                left.remove(key)
                report.lags_ms += [
                    copy["changed_at_ms"] - copy["written_at_ms"]
                    for copy in found["copies"]
                    if not copy["is_origin"]
                ]
        if left and time.monotonic() > deadline:
            report.problems.append(f"{len(left)} objects are not on every replica: {left[:3]}")
            return
        if left:
            await asyncio.sleep(0.05)


async def _check_listing(client: Client, keys: list[str], report: Report) -> None:
    """Every file of ours is listed exactly once, whatever else there is."""
    mine = {key for key in keys if "/files/" in key}
    found = [item async for item in client.pages("/v1/files", limit=7) if item["key"] in mine]
    if len(found) != _BLOBS or _JAPANESE not in [item["name"] for item in found]:
        report.problems.append(f"the listing has {len(found)} of {_BLOBS} files")


async def _await_hook(receiver: _Receiver, keys: list[str], seconds: float = 10) -> bool:
    """Wait for both announcements of every object; more may come, less may not."""
    deadline = time.monotonic() + seconds
    while receiver.heard(keys) < 2 * len(keys) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return receiver.heard(keys) >= 2 * len(keys)


def _check_hook(
    receiver: _Receiver,
    acknowledged: dict[str, float],
    report: Report,
    is_complete: bool,  # noqa: FBT001
) -> None:
    if not is_complete:
        heard = receiver.heard(list(acknowledged))
        report.problems.append(f"the hook heard {heard} of {2 * len(acknowledged)}")
    if receiver.forged:
        report.problems.append(f"{receiver.forged} deliveries had a wrong signature")
    for (kind, key), moment in receiver.seen.items():
        if kind == "object.written" and key in acknowledged:
            # Heard before the writer had its answer is possible, and no negative time.
            report.hook_ms.append(max(0.0, (moment - acknowledged[key]) * 1000))


class _Receiver:
    """A webhook receiver that checks signatures with nothing of ours."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], float] = {}
        self.forged = 0
        app = web.Application(client_max_size=1024 * 1024)
        app.router.add_post("/hook", self._take)
        self._runner = web.AppRunner(app, access_log=None)

    def heard(self, keys: list[str]) -> int:
        """How many announcements of these objects came, each kind counted once."""
        wanted = set(keys)
        return sum(key in wanted for _, key in self.seen)

    async def start(self, host: str) -> int:
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, 0)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        moment, body = time.time(), await request.read()
        expected = "sha256=" + hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, request.headers.get("X-Hub-Signature-256", "")):
            self.forged += 1
            return web.Response(status=401)
        document = json.loads(body)
        if document["type"] == "ping":
            return web.Response(status=204)
        self.seen.setdefault((document["type"], document["data"]["key"]), moment)
        return web.Response(status=204)


def _percentile(values: list[float], share: float) -> float | None:
    if not values:
        return None
    if len(values) == 1:
        return round(values[0], 1)
    return round(statistics.quantiles(values, n=100, method="inclusive")[int(share * 100) - 1], 1)
