"""A whole store for a test: its own topics, buckets and processes on shared servers.

async with world.client() as client: await client.put(...)
await world.until_everywhere(keys)
world.contents("gcp")          # read with the cloud's own client
world.kill("worker-gcp-0")
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from tests.servers.kafka import TestKafka
from tests.servers.processes import Process, free_port
from tests.servers.stores import StoreServer
from tidestore.client import Client, ClientError
from tidestore.config import Config, read_config
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.tail import read_topic
from tidestore.connectors.view import Folded
from tidestore.local.readback import Contents, places_of, read_replica
from tidestore.local.servers import is_ready
from tidestore.schemas.objects import Version, version_of

TOKEN = "test-token"
# Of somebody who may redact, too.
ADMIN_TOKEN = "admin-token"
PARTITIONS = 4
ARRIVAL_SECONDS = 40.0


@dataclass(slots=True)
class World:
    """One store. Made by the fixtures in conftest.py."""

    folder: Path
    kafka: TestKafka
    replicas: dict[str, tuple[str, dict[str, str]]]
    origin: str
    prefix: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}.")
    settings: dict[str, Any] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    extra_toml: str = ""
    unclean_stops: int = 0
    generation: int = 1
    # Added to every process' environment; PYTHONPATH there puts another release first.
    environ: dict[str, str] = field(default_factory=dict)

    # Configuration.

    @property
    def config_path(self) -> Path:
        """The configuration of all processes."""
        return self.folder / "tidestore.toml"

    def write_config(self) -> None:
        """Write the configuration as it is now. No two replicas may lie in one place."""
        places = {url.split("?")[0] for url, _ in self.replicas.values()}
        assert len(places) == len(self.replicas), "each replica has a bucket of its own"
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        admin = hashlib.sha256(ADMIN_TOKEN.encode()).hexdigest()
        lines = [
            f'origin = "{self.origin}"\ndata_folder = "views"',
            f'[kafka]\nbootstrap = "{self.kafka.bootstrap}"\ntopic_prefix = "{self.prefix}"',
            f"partitions = {PARTITIONS}\nreplication = 1\nunclean_stops = {self.unclean_stops}",
            f"generation = {self.generation}",
            f'[gateway]\nport = 1\ntokens = {{ tester = "{digest}", admin = "{admin}" }}',
            'admins = ["admin"]',
            '[hooks]\nseal_key = "plain:seal"\nnetworks = ["127.0.0.0/8"]',
        ]
        # Tests count records; those that are about canaries ask for them.
        settings = {"canary_seconds": 0, **self.settings}
        lines.append("[limits]")
        lines += [f"{name} = {value}" for name, value in settings.items()]
        for name, (url, credentials) in self.replicas.items():
            pairs = ", ".join(f'{key} = "plain:{value}"' for key, value in credentials.items())
            lines.append(f'[[replicas]]\nname = "{name}"\nurl = "{url}"')
            lines.append(f"credentials = {{ {pairs} }}")
        lines.append(self.extra_toml)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config_path.write_text("\n".join(lines) + "\n", "utf-8")

    def config(self) -> Config:
        """The configuration as the product reads it."""
        return read_config(self.config_path, {})

    @property
    def kafka_settings(self) -> KafkaSettings:
        """How to reach the broker."""
        return KafkaSettings(self.kafka.bootstrap)

    # Processes.

    def start(
        self,
        *,
        gateways: int = 1,
        workers: int = 1,
        feeds: int = 1,
        only: tuple[str, ...] | None = None,
    ) -> None:
        """Start a store. `only` names the replicas that get workers; all by default."""
        self.write_config()
        for number in range(gateways):
            self.add_gateway(str(number), wait=False)
        for name in tuple(self.replicas) if only is None else only:
            for number in range(workers):
                self.add_worker(name, str(number))
        for number in range(feeds):
            self.add("feeds", str(number), ["feeds"])
        for number in range(gateways):
            self.processes[f"gateway-{number}"].await_ready()

    def add_gateway(self, number: str, *, wait: bool = True) -> Process:
        """Start one more gateway."""
        port = self.ports.setdefault(number, free_port())
        ready = f"http://127.0.0.1:{port}/readyz"
        process = self._process(
            f"gateway-{number}", ["gateway", "--id", number, "--port", str(port)],
            lambda: is_ready(ready),
        )  # fmt: skip
        process.start(wait=wait)
        return process

    def add_worker(self, replica: str, number: str) -> Process:
        """Start one more worker of a replica."""
        process = self._process(f"worker-{replica}-{number}", ["worker", replica, "--id", number])
        process.start()
        return process

    def add(self, name: str, number: str, words: list[str]) -> Process:
        """Start another process."""
        process = self._process(f"{name}-{number}", [*words, "--id", number])
        process.start()
        return process

    def _process(
        self, name: str, words: list[str], ready: Callable[[], bool] = lambda: True
    ) -> Process:
        command = [sys.executable, "-m", "tidestore", *words, "--config", str(self.config_path)]
        log = self.folder / "logs" / f"{name}.log"
        process = Process(name, command, log, environ=self.environ, is_ready=ready)
        self.processes[name] = process
        return process

    def restart(self, name: str) -> None:
        """Start a process again that was killed or ended."""
        self.processes[name].start()

    async def supervise(self) -> None:
        """Start again, until cancelled, whatever ends by itself: as a supervisor would.

        A worker that finds out that its group went on without it may end itself, some time later.
        """
        while True:
            for process in self.processes.values():
                if process.exit_code() is not None:
                    process.start(wait=False)
            await asyncio.sleep(0.2)

    def stop(self) -> None:
        """End everything that this world started; all at once, for each takes a second or two."""
        for name in sorted(self.processes, key=lambda name: not name.startswith("gateway")):
            self.processes[name].terminate()
        for process in self.processes.values():
            process.await_end()

    # Speaking to it.

    def url(self, gateway: str = "0") -> str:
        """A gateway's address."""
        return f"http://127.0.0.1:{self.ports[gateway]}"

    def client(self, gateway: str = "0", token: str = TOKEN) -> Client:
        """A client of a gateway, to be entered."""
        return Client(self.url(gateway), token)

    async def put_blob(self, client: Client, body: bytes, **more: Any) -> str:
        """Write a blob; its key."""
        sha256 = hashlib.sha256(body).hexdigest()
        answer = await client.put(f"/v1/blobs/{sha256}", body=body, **more)
        return str(answer["key"])

    async def put_file(
        self, client: Client, body: bytes, name: str = "a.txt", **more: Any
    ) -> tuple[str, str]:
        """Write a blob and a file; the file's uuid and version."""
        sha256 = hashlib.sha256(body).hexdigest()
        await client.put(f"/v1/blobs/{sha256}", body=body)
        identity, version = str(uuid.uuid4()), new_version()
        document = {"blob": sha256, "name": name, "content_type": "text/plain"}
        await client.put(f"/v1/files/{identity}", document=document, version=version, **more)
        return identity, version

    # Looking at it.

    async def until(
        self, condition: Callable[[], Awaitable[bool]], seconds: float = ARRIVAL_SECONDS
    ) -> None:
        """Wait for a condition; raises AssertionError when it does not come true in time.

        Looking at a topic or a bucket costs more than most that is waited for: a look that took
        long is followed by a pause that is longer, so that waiting does not slow it down.
        """
        deadline = time.monotonic() + seconds
        while True:
            begun = time.monotonic()
            if await condition():
                return
            ended = time.monotonic()
            if ended > deadline:
                raise AssertionError("the condition did not come true\n" + self.last_words())
            await asyncio.sleep(min(1.0, max(0.05, 2 * (ended - begun))))

    async def copies(self, client: Client, key: str) -> dict[str, dict[str, Any]]:
        """The copies of a key by replica, as the API shows them."""
        _, kind, name = key.split("/")
        identity, _, version = name.partition(".")
        path = f"/v1/{kind}/{identity}/copies"
        found = await client.get(path, version=version or None)
        return {copy["replica"]: copy for copy in found["copies"]}

    async def until_everywhere(
        self, client: Client, keys: list[str], seconds: float = ARRIVAL_SECONDS
    ) -> None:
        """Wait until every key is present on every replica."""
        await self._until_copied(client, keys, None, seconds)

    async def until_present(
        self, client: Client, keys: list[str], replica: str, seconds: float = ARRIVAL_SECONDS
    ) -> None:
        """Wait until every key is present on one replica."""
        await self._until_copied(client, keys, replica, seconds)

    async def _until_copied(
        self, client: Client, keys: list[str], replica: str | None, seconds: float
    ) -> None:
        """Wait until every key is present. One is asked for at a time: asking for all costs CPU."""
        left = list(dict.fromkeys(keys))

        async def check() -> bool:
            while left:
                try:
                    copies = await self.copies(client, left[-1])
                except ClientError as error:
                    if error.status != 404:
                        raise
                    return False  # this gateway has not read of it yet
                wanted = copies.values() if replica is None else [copies[replica]]
                if any(copy["state"] != "present" for copy in wanted):
                    return False
                left.pop()
            return True

        try:
            await self.until(check, seconds)
        except AssertionError as error:
            raise AssertionError(await self.explain(client, left[::-1]) + str(error)) from None

    async def explain(self, client: Client, keys: list[str]) -> str:
        """Why keys are not everywhere: where they stand, what was committed, their copies."""
        places = {record.key: (record.partition, record.offset) for record in self.records("log")}
        lines = [f"{len(keys)} keys are not everywhere"]
        consumer_settings: dict[str, str] = {"bootstrap.servers": self.kafka.bootstrap}
        for name in self.replicas:
            group = f"{self.prefix}replicate.{name}.1"
            consumer = Consumer(dict(consumer_settings, **{"group.id": group}))
            asked = [TopicPartition(self.prefix + "log", number) for number in range(PARTITIONS)]
            found = [(tp.partition, tp.offset) for tp in consumer.committed(asked, timeout=10)]
            ends = [consumer.get_watermark_offsets(tp)[1] for tp in asked]
            lines.append(f"{group}: committed {found} of {ends}")
            consumer.close()
        for key in keys[:8]:
            copies = await self.copies(client, key)
            states = {
                name: (copy["state"], copy.get("waits_for"), copy.get("error"))
                for name, copy in copies.items()
            }
            lines.append(f"{key} at {places.get(key)}: {states}")
        return "\n".join(lines) + "\n"

    def contents(self, replica: str) -> Contents:
        """What a replica holds, read with the cloud's own client and hashed here."""
        place = next(place for place in places_of(self.config_path) if place.name == replica)
        return read_replica(place, lambda _: None)

    def records(self, topic: str) -> Iterator[Folded]:
        """All records of a topic, by its short name."""
        return read_topic(self.kafka_settings, self.prefix + topic)

    def last_words(self) -> str:
        """The ends of all logs, for a failure's message."""
        return "\n".join(
            f"== {name} ({process.exit_code()})\n{process.last_words()[-3000:]}"
            for name, process in self.processes.items()
        )


def new_version() -> Version:
    """A version for now."""
    return version_of(datetime.now(UTC))


def new_uuid() -> str:
    """A uuid nobody has."""
    return str(uuid.uuid4())


def random_body(size: int) -> bytes:
    """Bytes nobody has."""
    return os.urandom(size)


def replica_on(server: StoreServer, word: str, prefix: str = "") -> tuple[str, dict[str, str]]:
    """A replica of its own bucket on a server: URL and credentials."""
    return server.new_url(word, prefix), server.credentials


@contextlib.asynccontextmanager
async def gathering(*work: Awaitable[Any]) -> AsyncIterator[Sequence[asyncio.Future[Any]]]:
    """Run work beside a block; cancelled at its end."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
