"""One small world that is watched: its traces, its canaries, and a gateway that is killed."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.conftest import Servers, _replicas
from tests.http_calls import Calls, sha256_of
from tests.integration.redacting import redact
from tests.servers.collector import Collector
from tests.servers.kafka import TestKafka
from tests.servers.processes import Process, free_port
from tests.servers.receiver import Receiver, hook
from tests.world import World, random_body
from tidestore.connectors.correlation import parent_in
from tidestore.local.servers import is_ready
from tidestore.schemas.audit import AuditRecorded
from tidestore.schemas.events import ObjectRedacted, RedactionDecided

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

OBJECTIVE_SECONDS = 3
# A gateway that dies right after the brokers have confirmed its next record of a named type.
VICTIM = """\
import os, signal, sys
from tidestore.__main__ import main
from tidestore.connectors.log import LogWriter

append, path = LogWriter.append, sys.argv.pop(1)

async def append_and_die(self, topic, partition, key, event):
    placed = await append(self, topic, partition, key, event)
    with open(path, encoding="utf-8") as armed:
        if armed.read() == type(event).__name__:
            os.kill(os.getpid(), signal.SIGKILL)
    return placed

LogWriter.append = append_and_die
main()
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def observed(
    kafka: TestKafka,
    servers: Servers,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """A gateway and one that can be told to die, a worker of onprem alone, feeds."""
    folder = tmp_path_factory.mktemp("observed")
    world = World(folder, kafka, _replicas(servers, folder), "aws")
    world.settings = {
        "canary_seconds": 1,
        "objective_seconds": OBJECTIVE_SECONDS,
        "second_look_seconds": 0.5,
    }
    world.environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "TIDESTORE_LOG_FORMAT": "json",
    }
    world.start(only=("onprem",))
    yield world
    world.stop()
    sys.stdout.write(world.last_words())


@pytest_asyncio.fixture
async def asked(observed: World) -> AsyncIterator[Calls]:
    """Plain HTTP calls to it."""
    async with Calls(observed) as found:
        yield found


async def test_one_trace_leads_from_the_put_to_the_delivery(
    observed: World, asked: Calls, collector: Collector
) -> None:
    """Goal: who has a tracing system sees a write's whole way. Method: a client that has a trace.

    The spans of all processes come to a real OTLP receiver; the logs name the same trace.
    """
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    async with Receiver() as receiver:
        made = await asked("POST", "/v1/hooks", document=hook(receiver.url, "object.present"))
        headers = {"traceparent": f"00-{trace}-{parent}-01"}
        written = await asked.put_blob(random_body(300), headers=headers)
        key, names = str(written.json["key"]), {"write", "append", "copy", "announce", "deliver"}

        async def has_come() -> bool:
            found = collector.of(trace)
            to_onprem = any(span.facts.get("replica") == "onprem" for span in found)
            return to_onprem and {span.name for span in found} == names

        await observed.until(has_come)
        (write,) = [span for span in collector.of(trace) if span.name == "write"]
        assert (write.parent, write.process) == (parent, "gateway-0")
        assert write.facts == {"method": "PUT", "status": 201}
        others = [span for span in collector.of(trace) if span.name != "write"]
        assert {span.parent for span in others} == {write.id}
        assert {span.facts["key"] for span in others} == {key}
        processes = {span.name: span.process for span in others}
        assert processes == {
            "append": "gateway-0", "copy": "worker-onprem-0", "announce": "feeds-0",
            "deliver": "gateway-0",
        }  # fmt: skip
        copied = next(span for span in others if span.name == "copy")
        assert copied.facts["state"] == "present"
        heard = {parent_in(one.headers["traceparent"]) for one in receiver.events(key)}
        delivered = [span for span in others if span.name == "deliver"]
        assert {(trace, span.id) for span in delivered} <= heard
        assert {span.facts["status"] for span in delivered} == {204}
        await asked("DELETE", f"/v1/hooks/{made.json['id']}")
    logs = [observed.processes[name].log for name in ("gateway-0", "worker-onprem-0")]
    for log in logs:
        lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if trace in line]
        assert any(line["trace_id"] == trace and line["key"] == key for line in lines), log


async def canary(asked: Calls, name: str) -> dict[str, Any]:
    """What a replica's document says of its canaries."""
    document = (await asked("GET", "/v1/replicas")).json
    found = next(item for item in document["replicas"] if item["name"] == name)
    return dict(found["canary"])


async def test_a_canary_that_does_not_come_is_told_of_a_quiet_replica(
    observed: World, asked: Calls
) -> None:
    """Goal: a broken edge is known before somebody writes. Method: kill a worker, write nothing.

    What a killed worker leaves in the store is replaced and taken away by the next canary.
    """
    first: dict[str, Any] = {}

    async def comes() -> bool:
        found = await canary(asked, "onprem")
        if found["lag_seconds"] is not None:
            first.setdefault("sent_at_ms", found["sent_at_ms"])
        return bool(first) and found["sent_at_ms"] > first["sent_at_ms"]

    await observed.until(comes)
    assert (await canary(asked, "gcp"))["lag_seconds"] is None, "it has no worker"
    worker = observed.processes["worker-onprem-0"]
    worker.kill()
    folder = observed.folder / "onprem" / ".tidestore" / "canary"
    folder.mkdir(parents=True, exist_ok=True)
    for partition in range(4):
        (folder / str(partition)).write_text("left by one that was killed", "utf-8")

    async def is_missed() -> bool:
        return bool((await canary(asked, "onprem"))["is_overdue"])

    await observed.until(is_missed, seconds=90)
    assert await asked.metric("tidestore_canary_waiting_seconds") > OBJECTIVE_SECONDS
    observed.restart("worker-onprem-0")

    async def is_well() -> bool:
        return not (await canary(asked, "onprem"))["is_overdue"] and not list(folder.glob("*"))

    await observed.until(is_well, seconds=90)


@pytest_asyncio.fixture
async def victim(observed: World) -> AsyncIterator[tuple[Process, Path]]:
    """A second gateway, and the file that names the type of record after which it dies."""
    armed, port = observed.folder / "armed", free_port()
    armed.write_text("", "utf-8")
    observed.ports["1"] = port
    words = ["gateway", "--id", "1", "--port", str(port), "--config", str(observed.config_path)]
    found = Process(
        "gateway-1",
        [sys.executable, "-c", VICTIM, str(armed), *words],
        observed.folder / "logs" / "gateway-1.log",
        environ=observed.environ,
        is_ready=lambda: is_ready(f"http://127.0.0.1:{port}/readyz"),
    )
    observed.processes["gateway-1"] = found
    yield found, armed
    found.end()


async def test_a_redaction_is_finished_wherever_its_gateway_is_killed(
    observed: World, asked: Calls, victim: tuple[Process, Path]
) -> None:
    """Goal: SIGKILL between any two steps leaves nothing half done (docs/redaction.md, its table).

    Method: a gateway that kills itself after the first of two decisions, and after the first of two
    records in the log. The other one finishes; the admin, who had no answer, sends it again.
    """
    process, armed = victim
    for record in (RedactionDecided, ObjectRedacted):
        body = random_body(80)
        uuid, version = await asked.put_new_file(body)
        key, blob = f"public/files/{uuid}.{version}", f"public/blobs/{sha256_of(body)}"
        async with observed.client() as client:
            await observed.until_present(client, [key, blob], "onprem")
        process.start()
        armed.write_text(record.__name__, "utf-8")
        path = f"/v1/files/{uuid}"
        with pytest.raises(aiohttp.ClientError):
            await redact(asked, path, version=version, gateway="1")

        async def is_dead() -> bool:
            return process.exit_code() == -signal.SIGKILL

        await observed.until(is_dead)
        armed.write_text("", "utf-8")
        audits = [one.event for one in observed.records("audit")]
        assert any(isinstance(one, AuditRecorded) and one.target == key for one in audits)
        await observed.until(lambda path=path: is_hidden(asked, path))  # type: ignore[misc]
        if record is RedactionDecided:
            await observed.until(lambda key=key: is_redacted(observed, key))  # type: ignore[misc]
            assert (await redact(asked, path, version=version)).status == 202, "the blob is left"
        for one in (key, blob):
            await observed.until(lambda one=one: is_redacted(observed, one))  # type: ignore[misc]
            await observed.until(lambda one=one: is_gone(observed, one))  # type: ignore[misc]
        receipts = (await asked.get(f"{path}/copies", version=version)).json["receipts"]
        assert "onprem" in {receipt["replica"] for receipt in receipts}
        assert (await asked.get(path)).status == 410


async def is_hidden(asked: Calls, path: str) -> bool:
    return (await asked.get(path)).status == 410


async def is_redacted(world: World, key: str) -> bool:
    """Whether the newest record of a key in the log takes it away."""
    found = await asyncio.to_thread(
        lambda: [one.event for one in world.records("log") if one.key == key]
    )
    return isinstance(found[-1], ObjectRedacted)


async def is_gone(world: World, key: str) -> bool:
    return not (world.folder / "onprem" / key).exists()
