"""A replica, its log and a comparison of the two, all in memory; the truth is told beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.property.stage import MemoryLog, MemoryView, MemoryWriter
from tests.unit.made import copy, written

from tidestore.connectors.credentials import Secret
from tidestore.connectors.layers import LayeredStore
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.signing import Signer
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import CopyState, ObjectRedacted, OriginChosen, RedactionDecided
from tidestore.schemas.objects import PUBLIC, ObjectKey, blob_key
from tidestore.schemas.topics import ORIGIN_KEY, Topics, partition_of
from tidestore.streams.records import Identity
from tidestore.streams.scrub import Scrubber
from tidestore.streams.scrub_judge import Rules
from tidestore.streams.scrub_view import ScrubFold

PARTS = 2
TOPICS = Topics(prefix="", partitions=PARTS)
COPIES = "copies.onprem.1"


class InterruptedStore(LayeredStore):
    """While it is listed, something else happens before each entry."""

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.between: Callable[[], None] = lambda: None

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        async for info in super().list(prefix, after=after):
            self.between()
            yield info
            self.between()


@dataclass
class ScrubWorld:
    """One replica, `onprem`; `aws` is the origin unless this one is."""

    origin: str = "aws"
    rules: Rules = field(default_factory=lambda: Rules(stop_percent=100))
    log: MemoryLog = field(default_factory=lambda: MemoryLog(PARTS))
    store: MemoryStore = field(default_factory=lambda: MemoryStore("onprem"))
    bodies: dict[str, bytes] = field(default_factory=dict)
    _moment: int = 1_000

    def __post_init__(self) -> None:
        self.shown = InterruptedStore(self.store)
        fold = ScrubFold("onprem", 1, COPIES)
        followed = [
            TOPICS.redactions, TOPICS.replicas, TOPICS.findings, TOPICS.scrubs, TOPICS.log, COPIES,
        ]  # fmt: skip
        self.view = MemoryView(self.log, fold, followed)
        self.log.on_append = self.view.take_all
        self.writer = MemoryWriter(self.log)

    def close(self) -> None:
        self.view.tables.close()

    def scrubber(self, **more: Any) -> Scrubber:
        return Scrubber(
            Identity("onprem", 1, COPIES, PARTS), TOPICS, self.shown, self.view, self.writer,
            self.rules, Signer(Secret("k")), is_origin=self.origin == "onprem", **more,
        )  # fmt: skip

    def body(self, number: int) -> tuple[str, bytes]:
        """A blob's key and bytes."""
        body = b"blob %d" % number
        key = blob_key(PUBLIC, checksums_of(body).sha256)
        self.bodies[key] = body
        return key, body

    def put(self, key: str, body: bytes) -> None:
        """Bytes under a key, whoever put them there."""
        self.store._objects.pop(ObjectKey(key), None)
        self.store._store(ObjectKey(key), body, checksums_of(body))

    def drop(self, key: str) -> None:
        self.store._objects.pop(ObjectKey(key), None)

    def say_written(self, key: str, **more: Any) -> None:
        event = written(self.bodies[key], key=key, origin=self.origin, data=None, **more)
        self.log.append(TOPICS.log, partition_of(key, PARTS), key, event)

    def say_copy(self, key: str, state: CopyState) -> None:
        self._moment += 1
        record = copy(key, state, changed_at_ms=self._moment)
        self.log.append(COPIES, partition_of(key, PARTS), key, record)

    def say_redacted(self, key: str) -> None:
        decided = RedactionDecided(key, 1, "consent", "admin", 5, 6)
        self.log.append(TOPICS.redactions, 0, key, decided)
        event = ObjectRedacted(key, 1, "consent", "admin", 5)
        self.log.append(TOPICS.log, partition_of(key, PARTS), key, event)

    def say_origin(self, replica: str) -> None:
        """The origin was moved."""
        self.log.append(TOPICS.replicas, 0, ORIGIN_KEY, OriginChosen(replica, 2, 7))

    def add(self, number: int) -> str:
        """An object that is where it should be, with all its records."""
        key, body = self.body(number)
        self.say_written(key)
        self.put(key, body)
        if self.origin != "onprem":
            self.say_copy(key, CopyState.PRESENT)
        return key
