"""One worker with one object, over a log in memory: what both repairs and retries need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from tests.property.stage import StagedStore, modules_with_a_clock
from tests.property.worker import COPIES, FINDINGS, RETRIES, Worker
from tests.property.world import Objects, new_stage

from tidestore.connectors import holdings
from tidestore.schemas.checksums import checksums_of, checksums_text
from tidestore.schemas.events import CopyChanged, CopyState, RetryAsked
from tidestore.schemas.findings import FindingReported
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.topics import retry_key

BAD = b"not what was written".ljust(60)


class Stage:
    """One blob, written at `aws`, and a worker of `onprem` that holds everything."""

    def __init__(self) -> None:
        self.clock, self.loop, self.log = new_stage(1)
        self.target, self.origin = StagedStore("onprem"), StagedStore("aws")
        self.objects = Objects(self.loop, self.log, self.origin)
        self.key = self.objects.add_blob(60, is_inline=True)
        self.log.on_append = self._follow
        self.worker: Worker | None = None

    def start(self) -> Worker:
        """A worker that holds everything, and has read the log."""
        self.worker = worker = Worker(self.loop, self.log, self.target, [self.origin])
        worker.view.take_all()
        worker.assign({0})
        self.loop.pass_time(1)
        worker.deliver(0, 100)
        self.loop.pass_time(1)
        return worker

    def kill(self) -> None:
        """SIGKILL."""
        worker, self.worker = self.worker, None
        assert worker is not None
        worker.kill()

    def damage(self, kind: str) -> None:
        """Behind our back."""
        key = ObjectKey(self.key)
        self.target.memory._objects.pop(key)
        if kind != "lost":
            # A store tells of rotten bytes what it was told of the whole ones.
            said = self.objects.bodies[self.key] if kind == "rotten" else BAD
            self.target.memory._store(key, BAD, checksums_of(said))

    def finding(self, kind: str, **changes: Any) -> FindingReported:
        """About the copy's newest record."""
        copy = self.copy()
        stored = self.target.memory._objects.get(ObjectKey(self.key))
        values: dict[str, Any] = {
            "key": self.key, "replica": "onprem", "incarnation": 1, "kind": kind,
            "changed_at_ms": copy.changed_at_ms, "log_offset": 0, "size": copy.size,
            "sha256": copy.sha256, "content_type": "x/y",
            "checksums": checksums_text(checksums_of(self.objects.bodies[self.key])),
            "origin": "aws", "written_at_ms": 0, "scrub_id": "s",
            "found_at_ms": int(self.clock.now * 1000), "first_found_at_ms": 1,
            "seen_etag": stored.info.etag if stored else "",
        }  # fmt: skip
        return FindingReported(**{**values, **changes})

    def request(self) -> RetryAsked:
        """A retry of the copy's newest record."""
        return RetryAsked(self.key, "onprem", 1, self.copy().changed_at_ms, "ana", 1)

    def say(self, event: FindingReported | RetryAsked) -> None:
        """As a comparison does, or a gateway."""
        topic = FINDINGS if isinstance(event, FindingReported) else RETRIES
        self.log.append(topic, 0, retry_key(event.replica, event.incarnation, event.key), event)

    def copy(self) -> CopyChanged:
        """The copy's newest record."""
        return self.log.accepted(COPIES)[self.key]

    def history(self) -> list[CopyState]:
        """The states of all copies' records, in order."""
        return [record.state for record in self.log.accepted_ever(COPIES)]

    def is_whole(self) -> bool:
        """Whether the right bytes are there."""
        stored = self.target.memory._objects.get(ObjectKey(self.key))
        return stored is not None and stored.body == self.objects.bodies[self.key]

    def aside(self, word: str) -> list[bytes]:
        """What is kept under a prefix of ours."""
        found = self.target.memory._objects.items()
        return [stored.body for key, stored in found if key.startswith(f".tidestore/{word}/")]

    def _follow(self) -> None:
        # The view's thread is at once with everything.
        if self.worker is not None:
            self.loop.call_soon(self.worker.view.take_all)


@contextlib.contextmanager
def make_stage() -> Iterator[Stage]:
    """A stage on its own clock; whatever runs there ends with it."""
    found = Stage()
    patches: list[Any] = [
        patch.object(module, "time", found.clock) for module in (*modules_with_a_clock(), holdings)
    ]
    for item in patches:
        item.start()
    try:
        yield found
    finally:
        if found.worker is not None:
            found.kill()
        for item in patches:
            item.stop()
        found.loop.close()
