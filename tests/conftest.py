"""Fixtures of all tests, and two rules of the house.

A bare `import streams` would be a second copy of a module: the session fails if one happened. What
was skipped is said at the end, and TIDESTORE_REQUIRE names what may not be skipped.

On several workers (`-n 3`) each has servers of its own. What they counted comes together in the
process that started them, which alone judges and tells it. A test marked `alone` waits until no
other runs, and none begins before it has ended.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.longest import seconds_of
from tests.servers.kafka import TestKafka
from tests.servers.processes import PORTS
from tests.servers.stores import (
    StoreServer,
    find_binary,
    start_azurite,
    start_fake_gcs,
    start_gcs_emulator,
    start_localbucket,
    start_minio,
)
from tests.turns import Turns
from tests.world import World, replica_on

pytest.register_assert_rewrite("tidestore.connectors.conformance")

# The same examples each time where it must be repeatable; many more where there is time.
settings.register_profile(
    "ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", max_examples=2_000, deadline=None)
settings.load_profile(os.environ.get("TIDESTORE_HYPOTHESIS", "ci"))

_BARE = ("streams", "connectors", "schemas", "api")
# Servers that not every machine has: what scripts/servers needs for one, its program, its start.
_BUILT: dict[str, tuple[str, str, Callable[[Path, str], StoreServer]]] = {
    "minio": ("Go", "minio", start_minio),
    "fake-gcs-server": ("Go", "fake-gcs-server", start_fake_gcs),
    "azurite": ("Node.js", "azurite-blob", start_azurite),
}
_RAN = pytest.StashKey[dict[str, int]]()
_MISSING = pytest.StashKey[dict[str, int]]()
_FOUND_BARE = pytest.StashKey[set[str]]()
_TURNS = pytest.StashKey[Turns]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RAN] = {}
    config.stash[_MISSING] = {}
    config.stash[_FOUND_BARE] = set()
    told: dict[str, Any] | None = getattr(config, "workerinput", None)
    if told is not None:
        # Each worker's folder lies in the folder of the run.
        config.stash[_TURNS] = Turns(Path(config.option.basetemp).parent)
        PORTS.number, PORTS.of = int(told["workerid"].removeprefix("gw")), told["workercount"]


def pytest_unconfigure(config: pytest.Config) -> None:
    if _TURNS in config.stash:
        config.stash[_TURNS].close()


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a worker the longest files go first and those alone last; a file's tests stay shuffled."""
    if _TURNS in config.stash:
        items.sort(key=lambda item: (_is_alone(item), -seconds_of(item.path)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for the test's turn, before its time limit begins."""
    if _TURNS not in item.config.stash:
        return (yield)
    with item.config.stash[_TURNS].turn(is_alone=_is_alone(item)):
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker counted; one that died has told nothing, and its test has failed."""
    told = getattr(node, "workeroutput", {}).get("tidestore")
    if told:
        for key, counts in zip((_RAN, _MISSING), told["counts"], strict=True):
            for name, count in counts.items():
                _count(node.config, key, name, count)
        found: set[str] = node.config.stash[_FOUND_BARE]
        found.update(told["bare"])


def pytest_sessionfinish(session: pytest.Session) -> None:
    stash = session.config.stash
    found = stash[_FOUND_BARE]
    found.update(name for name in _BARE if name in sys.modules)
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["tidestore"] = {
            "counts": [stash[_RAN], stash[_MISSING]], "bare": sorted(found)
        }  # fmt: skip
        return
    if found:
        sys.stderr.write(f"bare imports, each a second copy of a module: {sorted(found)}\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    required = set(filter(None, os.environ.get("TIDESTORE_REQUIRE", "").split(",")))
    # Also a name that no test asked for: misspelt, or its tests were not selected.
    missing = required - stash[_RAN].keys()
    missing |= required & stash[_MISSING].keys()
    if missing:
        sys.stderr.write(f"required here, but nothing ran on it: {sorted(missing)}\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _count(
    config: pytest.Config, key: pytest.StashKey[dict[str, int]], name: str, more: int = 1
) -> None:
    counts = config.stash[key]
    counts[name] = counts.get(name, 0) + more


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    for word, stash in (("ran on", _RAN), ("NOT run, for want of", _MISSING)):
        for name, count in sorted(config.stash[stash].items()):
            terminalreporter.write_line(f"{word} {name}: {count} tests")


class Tally:
    """Counts what tests ran on and what they had to go without, for the summary."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def ran(self, name: str) -> None:
        """One more test ran on it."""
        _count(self._config, _RAN, name)

    def missing(self, name: str, reason: str) -> NoReturn:
        """Skip the test, and count it as not run for want of it."""
        _count(self._config, _MISSING, name)
        pytest.skip(f"needs {name}: {reason}")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """What the summary says of parts that are not on every machine."""
    return Tally(pytestconfig)


class Servers:
    """Store servers of the session, each started when first asked for."""

    def __init__(self, folder: Path, config: pytest.Config) -> None:
        self._folder = folder
        self._config = config
        self._started: dict[str, StoreServer] = {}

    def get(self, name: str) -> StoreServer:
        """A server by name: minio, minio-2, localbucket, fake-gcs-server, azurite, ...

        Skips the test, and counts it, when the server cannot be had here.
        """
        kind = name.removesuffix("-2")
        if name not in self._started:
            starts: dict[str, Callable[[Path], StoreServer]] = {
                "localbucket": start_localbucket,
                "gcp-storage-emulator": start_gcs_emulator,
            }
            if kind in _BUILT:
                tool, program, start = _BUILT[kind]
                binary = find_binary(program)
                if binary is None:
                    _count(self._config, _MISSING, kind)
                    pytest.skip(f"needs {kind}: scripts/servers builds it where {tool} is")
                starts[kind] = lambda folder: start(folder, binary)
            self._started[name] = starts[kind](self._folder / name)
        _count(self._config, _RAN, kind)
        return self._started[name]

    def has(self, kind: str) -> bool:
        """Whether a server can be had here."""
        return kind not in _BUILT or find_binary(_BUILT[kind][1]) is not None

    def best(self, *kinds: str) -> StoreServer:
        """The first of some servers that can be had; the last one always can."""
        return self.get(next(kind for kind in kinds if self.has(kind)))

    def stop(self) -> None:
        """End all that were started."""
        for server in self._started.values():
            server.process.end()


@pytest.fixture(scope="session")
def servers(
    tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Servers]:
    """Store servers, started when asked for."""
    found = Servers(tmp_path_factory.mktemp("servers"), pytestconfig)
    yield found
    found.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestKafka]:
    """The embedded Kafka, shared by all tests of the session that do not harm it."""
    broker = TestKafka(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.process.kill()


WorldMaker = Callable[..., World]


@pytest.fixture
def make_world(kafka: TestKafka, servers: Servers, tmp_path: Path) -> Iterator[WorldMaker]:
    """Make worlds of one's own: aws on MinIO, gcp on fake-gcs-server, onprem in a folder."""
    made: list[World] = []

    def make(broker: TestKafka | None = None, *, origin: str = "aws", **settings: object) -> World:
        folder = tmp_path / f"world{len(made)}"
        world = World(folder, broker or kafka, _replicas(servers, folder), origin, **settings)  # type: ignore[arg-type]
        made.append(world)
        return world

    yield make
    for world in made:
        world.stop()
        sys.stdout.write(world.last_words())  # shown only if the test failed


@pytest.fixture(scope="module")
def world(
    kafka: TestKafka, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """A running world that the tests of a module share: two gateways, a worker per replica."""
    yield from shared_world(kafka, servers, tmp_path_factory, gateways=2)


def shared_world(
    kafka: TestKafka,
    servers: Servers,
    factory: pytest.TempPathFactory,
    *,
    origin: str = "aws",
    **started: Any,
) -> Iterator[World]:
    """A running world, for a module's own fixture: a start costs more than most tests."""
    folder = factory.mktemp("world")
    found = World(folder, kafka, _replicas(servers, folder), origin)
    try:
        found.start(**started)
        yield found
    finally:
        found.stop()
        sys.stdout.write(found.last_words())  # shown only if a test failed
        shutil.rmtree(folder, ignore_errors=True)


def _replicas(servers: Servers, folder: Path) -> dict[str, tuple[str, dict[str, str]]]:
    return {
        "aws": replica_on(servers.best("minio", "localbucket"), "aws"),
        "gcp": replica_on(servers.best("fake-gcs-server", "gcp-storage-emulator"), "gcp"),
        "onprem": ((folder / "onprem").as_uri(), {}),
    }
