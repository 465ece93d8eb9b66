"""A listing loses nothing while writes go on: the handler itself, over real SQLite indexes.

Two gateways follow the log each at its own pace. Listings go on page by page on either of them,
with pages of any size, while objects are written and redacted and copies report. What existed when
a listing began is in it exactly once; whatever else it shows exists; nothing is shown twice.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from tests.property.stage import MemoryView, MemoryWriter
from tests.property.world import new_stage

from tidestore.api.auth import Authenticator
from tidestore.api.context import GATEWAY, Gateway
from tidestore.api.index import IndexFold
from tidestore.api.listing import list_objects
from tidestore.api.lookup import Index, Watchers
from tidestore.api.settings import GatewaySettings
from tidestore.connectors.budget import ByteBudget
from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.directory import Served
from tidestore.connectors.kafka import KafkaSettings
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import (
    CopyChanged,
    CopyState,
    ObjectRedacted,
    ObjectWritten,
    RedactionDecided,
)
from tidestore.schemas.objects import PUBLIC, Kind, ReplicaName, parse_key
from tidestore.schemas.topics import Topics, partition_of

pytestmark = pytest.mark.timeout(300)

_PARTITIONS = 3
_TOPICS = Topics(prefix="", partitions=_PARTITIONS)
_COPIES = _TOPICS.copies(ReplicaName("gcp"), 1)
_SUMS = checksums_of(b"x")
_kinds = st.sampled_from([Kind.BLOB, Kind.FILE])
_which = st.integers(0, 1)
_limit = st.integers(1, 4)


@dataclass(slots=True)
class Listing:
    """One client that pages through one kind."""

    kind: Kind
    existed: set[str]
    cursor: str = ""
    shown: list[str] = field(default_factory=list)


class ListingMachine(RuleBasedStateMachine):
    """Two gateways, one log, any number of listings at once."""

    def __init__(self) -> None:
        super().__init__()
        _, self.loop, self.log = new_stage(_PARTITIONS)
        self.gateways = [self._gateway() for _ in range(2)]
        self.written: list[str] = []
        self.redacted: set[str] = set()
        self.listings: list[Listing] = []

    def _gateway(self) -> tuple[web.Application, MemoryView]:
        fold = IndexFold({_COPIES: "gcp"}, lambda _: None)
        view = MemoryView(self.log, fold, [_TOPICS.log, _TOPICS.redactions, _COPIES])
        writer = MemoryWriter(self.log)
        address = StoreAddress.parse("memory://x")
        gateway = Gateway(
            settings=GatewaySettings(
                KafkaSettings("nowhere"),
                _TOPICS,
                (Served(ReplicaName("aws"), 1, address, "memory://x"),),
                ReplicaName("aws"),
                Path("nowhere"),
            ),
            auth=Authenticator({}),
            index=Index(view, writer, _TOPICS, list, catch_up_seconds=5.0),
            watchers=Watchers(),
            writer=writer,
            origin=cast("Any", None),
            stores={},
            bodies=ByteBudget(1),
        )
        app = web.Application()
        app[GATEWAY] = gateway
        return app, view

    # Writers.

    @initialize(numbers=st.lists(st.integers(0, 2**64), min_size=3, max_size=12, unique=True))
    def some_exist(self, numbers: list[int]) -> None:
        for number in numbers:
            self.write(Kind.BLOB if number % 2 else Kind.FILE, number)

    @rule(kind=_kinds, number=st.integers(0, 2**64))
    def write(self, kind: Kind, number: int) -> None:
        name = f"{number:064x}"
        if kind is Kind.FILE:
            digits = f"{number:032x}"
            uuid = f"{digits[-8:]}-{digits[:4]}-{digits[4:8]}-{digits[8:12]}-{digits[12:24]}"
            name = f"{uuid}.2026-11-23T120000.{number % 10**6:06d}Z"
        key = f"{PUBLIC}/{kind.plural}/{name}"
        parse_key(key)
        event = ObjectWritten(
            key, 1, _SUMS.sha256, _SUMS.sha1, _SUMS.crc32c, _SUMS.md5, "x/y", "aws", 1, 0, "m", ""
        )
        self._append(_TOPICS.log, key, event)
        if key not in self.written:
            self.written.append(key)

    @rule(data=st.data())
    def write_again(self, data: st.DataObject) -> None:
        """A retry: the same object's event once more."""
        key = data.draw(st.sampled_from(self.written))
        for _, record in list(self.log.read(_TOPICS.log, self._place(key), 0)):
            if record.key == key:
                self.log.of(_TOPICS.log, self._place(key)).append(record)
                return

    @rule(data=st.data())
    def redact(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(self.written))
        self.log.append(_TOPICS.redactions, 0, key, RedactionDecided(key, 1, "r", "m", 0, 0))
        self._append(_TOPICS.log, key, ObjectRedacted(key, 1, "r", "m", 0))
        self.redacted.add(key)

    @rule(data=st.data(), state=st.sampled_from(list(CopyState)))
    def a_copy_reports(self, data: st.DataObject, state: CopyState) -> None:
        key = data.draw(st.sampled_from(self.written))
        record = CopyChanged(key, "gcp", 1, state, 0, 0, 1, _SUMS.sha256, "x/y", "aws", 0, 0)
        self._append(_COPIES, key, record)

    @rule(number=_which, partition=st.integers(0, _PARTITIONS - 1), limit=st.integers(1, 5))
    def an_index_reads_on(self, number: int, partition: int, limit: int) -> None:
        _, view = self.gateways[number]
        for topic in (_TOPICS.log, _TOPICS.redactions, _COPIES):
            view.take(topic, partition, limit)

    # Readers.

    @rule(kind=_kinds, number=_which, limit=_limit)
    def begin(self, kind: Kind, number: int, limit: int) -> None:
        listing = Listing(kind, self._living(kind))
        self._page(listing, number, limit)
        self.listings.append(listing)

    @rule(data=st.data(), number=_which, limit=_limit)
    def go_on(self, data: st.DataObject, number: int, limit: int) -> None:
        open_ones = [place for place, item in enumerate(self.listings) if item.cursor]
        if open_ones:
            listing = self.listings[data.draw(st.sampled_from(open_ones))]
            self._page(listing, number, limit)

    def teardown(self) -> None:
        try:
            for listing in self.listings:
                for _ in range(len(self.written) + 1):
                    if listing.cursor:
                        self._page(listing, 0, 3)
                assert not listing.cursor, "the listing has no end"
                self._check(listing)
        finally:
            for _, view in self.gateways:
                view.tables.close()
            self.loop.close()

    def _check(self, listing: Listing) -> None:
        assert listing.shown == sorted(set(listing.shown)), "shown twice, or out of order"
        assert listing.existed - self.redacted <= set(listing.shown), "lost"
        assert set(listing.shown) <= {key for key in self.written if _kind(key) is listing.kind}

    def _page(self, listing: Listing, number: int, limit: int) -> None:
        app, view = self.gateways[number]
        query: dict[str, Any] = {"limit": limit}
        if listing.cursor:
            query["cursor"] = listing.cursor
        path = f"/v1/{listing.kind.plural}?{urlencode(query)}"
        answer = self.loop.run(self._ask(listing.kind, path, app, view))
        assert isinstance(answer, web.Response)
        assert isinstance(answer.body, bytes)
        document = json.loads(answer.body)
        assert len(document["items"]) <= limit
        listing.shown += [item["key"] for item in document["items"]]
        listing.cursor = document.get("next", "")

    async def _ask(
        self, kind: Kind, path: str, app: web.Application, view: MemoryView
    ) -> web.StreamResponse:
        """One request, while the index follows one record at a time: no answer may come early."""
        request = make_mocked_request("GET", path, app=app)
        asking = asyncio.ensure_future(list_objects(kind)(request))
        topics = (_TOPICS.redactions, _TOPICS.log)
        while not asking.done():
            for _ in range(3):
                await asyncio.sleep(0)
            if not asking.done():
                # The next record, of whichever partition has one.
                any(
                    view.take(topic, partition, 1)
                    for topic in topics
                    for partition in range(_PARTITIONS)
                )
        return asking.result()

    def _living(self, kind: Kind) -> set[str]:
        return {key for key in self.written if _kind(key) is kind} - self.redacted

    def _place(self, key: str) -> int:
        return partition_of(key, _PARTITIONS)

    def _append(self, topic: str, key: str, event: ObjectWritten | ObjectRedacted | Any) -> None:
        self.log.append(topic, self._place(key), key, event)


def _kind(key: str) -> Kind:
    return parse_key(key).kind


TestListing = ListingMachine.TestCase
TestListing.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
