"""A source that gave wrong bytes is told of: only then, not too often, and not for ever."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

import pytest

from tidestore.connectors.errors import ChecksumMismatchError, StoreError
from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import Appended, LogWriter
from tidestore.connectors.memory import MemoryStore
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import Event
from tidestore.schemas.findings import FindingReported
from tidestore.schemas.objects import PUBLIC, blob_key
from tidestore.streams import suspicion
from tidestore.streams.asking import Asking
from tidestore.streams.plan import SMALL_BYTES_MAX
from tidestore.streams.records import Wanted
from tidestore.streams.sources import NoSourceError, Sources
from tidestore.streams.suspicion import TOLD_PER_HOUR, Suspicions

ERROR = ChecksumMismatchError("copy", "aws", "k", detail="sha256 is another")


def wanted_of(body: bytes) -> Wanted:
    sums = checksums_of(body)
    return Wanted(blob_key(PUBLIC, sums.sha256), sums.size, sums.sha256, "x/y", "aws", sums, 7, 9)


class Writer:
    """Takes findings, after so many refusals."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.said: list[FindingReported] = []

    async def append(self, topic: str, partition: int, key: str, event: Event) -> Appended:
        if self.refusals:
            self.refusals -= 1
            raise LogError("away")
        assert isinstance(event, FindingReported)
        assert (topic, partition, key) == ("findings", 0, f"{event.replica}.3/{event.key}")
        self.said.append(event)
        return Appended(0, 0, 0)


def made(writer: Writer, clock: list[float], life: int | None = 3) -> Suspicions:
    return Suspicions(cast("LogWriter", writer), "findings", lambda _: life, lambda: clock[0])


async def run_briefly(found: Suspicions, writer: Writer, count: int) -> None:
    """Until so many were said."""
    task = asyncio.create_task(found.run())
    async with asyncio.timeout(10):
        while len(writer.said) < count:
            await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("size", [1_000, SMALL_BYTES_MAX + 1])
@pytest.mark.parametrize("other", ["right", "wrong", "missing"])
async def test_who_gave_wrong_bytes_is_suspected_once_another_had_the_right_ones(
    size: int, other: str
) -> None:
    """Goal: design 5, class checksum. Method: the origin is bad; what the other source has decides.

    When nobody has the right bytes it may be the log, or ourselves: nobody is suspected.
    """
    body = bytes(size)
    wanted = wanted_of(body)
    aws, gcp, target = MemoryStore("aws"), MemoryStore("gcp"), MemoryStore("onprem")
    for store, has in ((aws, "wrong"), (gcp, other)):
        if has != "missing":
            there = body if has == "right" else bytes(size - 1) + b"x"
            store._store(wanted.key, there, checksums_of(body))
    asking = Asking("onprem", {"aws": aws, "gcp": gcp, "onprem": target})
    sources = Sources(asking, copies_in_flight=1, copy_bytes_in_flight=2**24, large_in_flight=1)
    told: list[tuple[Wanted, str]] = []
    sources.on_wrong = lambda wanted, error: told.append((wanted, error.store))
    if other == "right":
        await sources.copy(target, wanted)
        assert told == [(wanted, "aws")]
        assert target._objects[wanted.key].body == body
    else:
        with pytest.raises(NoSourceError):
            await sources.copy(target, wanted)
        assert told == []
        assert wanted.key not in target._objects


async def test_what_is_told_says_all_that_a_repair_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: the origin's copy has no record. Method: the finding, after a broker was away."""
    monkeypatch.setattr(suspicion, "_RETRY_SECONDS", 0.0)
    writer = Writer(refusals=2)
    found = made(writer, [0.0])
    wanted = wanted_of(b"test")
    found.tell(wanted, ERROR)
    await run_briefly(found, writer, 1)
    (said,) = writer.said
    assert (said.kind, said.replica, said.incarnation) == ("suspected", "aws", 3)
    assert (said.size, said.sha256, said.origin) == (4, wanted.sha256, "aws")
    assert (said.log_offset, said.written_at_ms, said.changed_at_ms) == (7, 9, 0)
    assert "crc32c" in said.checksums
    assert "sha256 is another" in said.detail


async def test_a_source_that_is_bad_altogether_is_told_of_so_often_and_no_more() -> None:
    """Goal: a bound on reads at the source. Method: more in an hour; an hour later; one retired."""
    writer, clock = Writer(), [0.0]
    found = made(writer, clock)
    for _ in range(TOLD_PER_HOUR + 50):
        found.tell(wanted_of(b"test"), ERROR)
    found.tell(wanted_of(b"test"), cast("StoreError", ChecksumMismatchError("copy", "gcp", "k")))
    clock[0] = 3_601.0
    found.tell(wanted_of(b"test"), ERROR)
    await run_briefly(found, writer, TOLD_PER_HOUR + 2)
    assert [item.replica for item in writer.said].count("aws") == TOLD_PER_HOUR + 1
    nobody = Writer()
    gone = made(nobody, [0.0], life=None)
    gone.tell(wanted_of(b"test"), ERROR)
    assert not gone._waiting
