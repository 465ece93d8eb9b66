"""Which store is asked for an object, what a hanging one costs, and who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from tidestore.connectors.breaker import EDGE_FAILURES_TO_OPEN, Breaker
from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.directory import Served
from tidestore.connectors.edges import Edge
from tidestore.connectors.errors import StoreUnreachableError
from tidestore.connectors.layers import LayeredStore
from tidestore.connectors.memory import MemoryStore
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.filters import ReplicaFilter
from tidestore.schemas.objects import PUBLIC, ReplicaName, blob_key
from tidestore.streams import asking as module
from tidestore.streams.asking import Asking, CheaperSoonError
from tidestore.streams.patience import Patience
from tidestore.streams.prices import Place, SourceSettings
from tidestore.streams.reads import Reads
from tidestore.streams.records import Wanted

T = TypeVar("T")
BODY = b"x" * 200_000
SUMS = checksums_of(BODY)
KEY = blob_key(PUBLIC, SUMS.sha256)
WANTED = Wanted(KEY, SUMS.size, SUMS.sha256, "text/plain", "aws", SUMS)
PLACES = {"aws": Place("aws"), "onprem": Place("onprem"), "gcp": Place("gcp")}


class Moody(LayeredStore):
    """A store that hangs, or cannot be reached, as it is told."""

    mood = "well"

    async def _around(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        if self.mood == "hangs":
            await asyncio.Event().wait()
        if self.mood == "down":
            raise StoreUnreachableError(operation, self.name)
        return await super()._around(operation, call)


class Stage:
    """The sources of `gcp`: the origin `aws`, and `onprem`, which is free to read from."""

    def __init__(self, *, wait_seconds_max: float = 300.0) -> None:
        self.now = 0.0
        self.stores = {name: Moody(MemoryStore(name)) for name in PLACES}
        self.breakers = {
            name: Breaker(lambda _: asyncio.sleep(0), Edge(name)) for name in self.stores
        }
        self.reads = Reads("gcp", clock=lambda: self.now)
        self.asking = Asking(
            "gcp", self.stores, places=PLACES, breakers=self.breakers, reads=self.reads,
            settings=SourceSettings(wait_seconds_max=wait_seconds_max),
        )  # fmt: skip

    async def give(self, *names: str) -> None:
        for name in names:
            await self.stores[name].put_if_absent(KEY, BODY, SUMS, content_type="x/y")

    def break_(self, name: str) -> None:
        for _ in range(EDGE_FAILURES_TO_OPEN):
            self.breakers[name].failed(StoreUnreachableError("get", name))

    @property
    def order(self) -> list[str]:
        return [store.name for store in self.asking.ordered(WANTED)]


async def test_a_copy_waits_for_the_cheap_source_that_lacks_it_yet() -> None:
    """Goal: the origin is read once. Method: the relay lacks the object, then has it."""
    stage = Stage()
    await stage.give("aws")
    with pytest.raises(CheaperSoonError) as caught:
        await stage.asking.check_worth_waiting(WANTED)
    assert caught.value.source == "onprem"
    assert 10 <= caught.value.seconds <= 11
    await stage.give("onprem")
    await stage.asking.check_worth_waiting(WANTED)
    assert stage.order == ["onprem", "aws"]


@pytest.mark.parametrize("why", ["broken", "in vain", "off", "origin broken", "down"])
async def test_nobody_waits_for_a_source_that_is_not_well(why: str) -> None:
    """Goal: a wait has a reason to end well. Method: take away one reason at a time."""
    stage = Stage(wait_seconds_max=0.0 if why == "off" else 300.0)
    await stage.give("aws")
    if why == "broken":
        stage.break_("onprem")
        assert stage.order == ["aws", "onprem"]
    elif why == "origin broken":
        stage.break_("aws")
    elif why == "down":
        stage.stores["onprem"].mood = "down"
    elif why == "in vain":
        for _ in range(3):
            stage.reads.waited("onprem", is_in_vain=True)
    await stage.asking.check_worth_waiting(WANTED)


@pytest.mark.parametrize(
    ("why", "order"),
    [
        ("is_paused", ["onprem", "aws"]),
        ("kind=bundle", ["onprem", "aws"]),
        ("dataset=lab", ["aws"]),
    ],
)
async def test_nobody_waits_for_a_replica_that_is_not_sure_to_get_it(
    why: str, order: list[str]
) -> None:
    """Goal: no wait in vain. Method: a relay that is paused, may take it in later, or never has it.

    With another filter it would be waited for: the filter alone makes the difference.
    """
    stage = Stage()
    await stage.give("aws")
    address = StoreAddress.parse("file:///x")
    relay = Served(ReplicaName("onprem"), 1, address, "file:///x")
    barred = (
        replace(relay, is_paused=True)
        if why == "is_paused"
        else replace(relay, filter=ReplicaFilter.parse(why))
    )
    stage.asking.use(stage.stores, PLACES, stage.breakers, {"onprem": barred})
    await stage.asking.check_worth_waiting(WANTED)
    assert stage.order == order
    open_ = replace(relay, filter=ReplicaFilter.parse("dataset=public kind=blob"))
    stage.asking.use(stage.stores, PLACES, stage.breakers, {"onprem": open_})
    with pytest.raises(CheaperSoonError):
        await stage.asking.check_worth_waiting(WANTED)


async def test_the_replica_that_reads_the_origin_never_waits() -> None:
    """Goal: no circle of waits. Method: the relay's own view of the same prices."""
    stage = Stage()
    await stage.give("aws")
    relay = Asking("onprem", stage.stores, places=PLACES)
    await relay.check_worth_waiting(WANTED)
    assert next(iter(relay.ordered(WANTED))).name == "aws"


async def test_a_source_that_hangs_costs_a_moment_and_goes_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: R8. Method: the relay accepts the question and says nothing; the origin may be slow."""
    monkeypatch.setattr(module, "ASK_SECONDS", 0.05)
    stage = Stage()
    await stage.give("aws")
    stage.stores["onprem"].mood = "hangs"
    async with asyncio.timeout(5):
        await stage.asking.check_worth_waiting(WANTED)
    assert stage.order == ["aws", "onprem"]
    for _ in range(EDGE_FAILURES_TO_OPEN):
        with pytest.raises(StoreUnreachableError):
            await stage.asking.open(stage.stores["onprem"], WANTED)
    assert stage.breakers["onprem"].why_open is not None
    stage.stores["aws"].mood = "hangs"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await stage.asking.open(stage.stores["aws"], WANTED)
    assert stage.breakers["aws"].why_open is None, "the origin has its client's own limit"


@pytest.mark.parametrize("end", ["came", "time", "down"])
async def test_a_waiting_copy_is_woken_when_there_is_something_to_do(end: str) -> None:
    """Goal: no wait longer than needed. Method: the source gets it, never does, or goes down."""
    stage = Stage()
    woken: asyncio.Queue[str] = asyncio.Queue()
    patience = Patience(stage.asking, woken.put_nowait)
    patience.watch(WANTED, CheaperSoonError("onprem", 0.3 if end == "time" else 60.0))
    if end == "came":
        await stage.give("onprem")
    elif end == "down":
        stage.stores["onprem"].mood = "down"
    async with asyncio.timeout(10):
        assert await woken.get() == KEY
    stage.reads.waited("onprem", is_in_vain=True)
    stage.reads.waited("onprem", is_in_vain=True)
    assert stage.reads.may_wait_for("onprem") is (end == "came")
    await patience.close()


async def test_what_waits_is_let_go_once_others_have_waited_in_vain() -> None:
    """Goal: a dead source delays nobody to the bound. Method: three waits end meanwhile."""
    stage = Stage()
    woken: asyncio.Queue[str] = asyncio.Queue()
    patience = Patience(stage.asking, woken.put_nowait)
    patience.watch(WANTED, CheaperSoonError("onprem", 60.0))
    for _ in range(3):
        stage.reads.waited("onprem", is_in_vain=True)
    async with asyncio.timeout(10):
        assert await woken.get() == KEY
    await patience.close()
