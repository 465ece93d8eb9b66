"""Loads and how they are measured: bursts, one by one on an idle system, one large object.

Acknowledged is the moment when the client has read the answer to its PUT. Present is the moment
when the target answers HEAD with 200: polled every half millisecond on an idle system, every 10 ms
in a burst, there for one object at a time. What a burst has brought is proved by the target's
listing, which is asked for when the last of them has answered: polled, it cost the target most of a
millisecond for each object that was measured.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from bench.figures import per_object, spread
from bench.meters import Meter
from bench.sides import KEY_PREFIX, Place, Side
from bench.wire import Connection, WireError

MIB: Final = 1024 * 1024
_BURST_HEAD_SECONDS: Final = 0.01
_SAMPLES: Final = 25
_LIST_SECONDS: Final = 0.03
_HEAD_SECONDS: Final = 0.0005
_ARRIVAL_SECONDS_MAX: Final = 120.0
# What still works after the last object is there (receipts, announcements) is counted as well.
_AFTERMATH_SECONDS: Final = 1.0
_IDLE_PAUSE_SECONDS: Final = 0.03
_LARGE_SECONDS_MAX: Final = 400.0


@dataclass(frozen=True, slots=True)
class Load:
    """Objects of one size from some client threads."""

    name: str
    size: int
    count: int
    threads: int
    # From the first PUT until the last object is there.
    seconds_max: float = _ARRIVAL_SECONDS_MAX


SMALL: Final = Load("small", 4 * 1024, 1_000, 8)
MEBIBYTE: Final = Load("mib", MIB, 200, 4)
QUARTER_GIB: Final = Load("large", 256 * MIB, 4, 2, 300.0)
WARM_UP: Final = Load("warm-up", 4 * 1024, 100, 8)


class LoadError(Exception):
    """A load did not come through; the text says what is missing."""


class Repeated:
    """`size` bytes made of a random block and a counter while they are sent: none is held."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._block = os.urandom(MIB)

    def __iter__(self) -> Iterator[bytes]:
        return _repeat(self._block, self.size)


Body = bytes | Repeated


@dataclass(slots=True)
class Item:
    """One object of a load: what is sent, and when what happened, in seconds of one clock."""

    key: str
    head: bytes
    body: Body
    size: int
    md5: str
    acked: float = 0.0
    seen: float = 0.0


def burst(side: Side, load: Load, meter: Meter) -> dict[str, Any]:
    """Write all objects as fast as they are taken, and wait until all are on the target."""
    items = make_items(side, load)
    failures: list[str] = []
    before = meter.cpu()
    begun = time.monotonic()
    threads = [
        threading.Thread(target=_write, args=(side.port, part, failures), daemon=True)
        for part in (items[number :: load.threads] for number in range(load.threads))
    ]
    for thread in threads:
        thread.start()
    _await_all(side, items, failures, load.seconds_max)
    all_present = time.monotonic() - begun
    for thread in threads:
        thread.join(5)
    all_acked = max(item.acked for item in items) - begun
    lags = [max(0.0, item.seen - item.acked) * 1000 for item in items if item.seen]
    time.sleep(_AFTERMATH_SECONDS)
    return {
        "objects": load.count,
        "size": load.size,
        "threads": load.threads,
        "all_acked_s": round(all_acked, 3),
        "all_present_s": round(all_present, 3),
        "objects_per_s": round(load.count / all_present, 1),
        "mb_per_s": round(load.count * load.size / all_present / 1e6, 2),
        "ack_to_seen_ms": spread(lags),
        "cpu_ms_per_object": per_object(before, meter.cpu(), load.count),
        "load_average": round(os.getloadavg()[0], 2),
    }


def idle(side: Side, count: int) -> dict[str, Any]:
    """Write 4 KiB objects one at a time, each when the one before has arrived."""
    lags, acks = one_by_one(side, count)
    return {"lag_ms": spread(lags), "ack_ms": spread(acks)}


def one_by_one(side: Side, count: int) -> tuple[list[float], list[float]]:
    """The milliseconds from acknowledged to present, and from sent to acknowledged, of each."""
    lags: list[float] = []
    acks: list[float] = []
    items = make_items(side, Load("idle", SMALL.size, count, 1))
    with (
        contextlib.closing(Connection(side.port)) as writer,
        contextlib.closing(Connection(side.target.port)) as reader,
    ):
        for item in items:
            asked = side.target.head_of("HEAD", f"/{side.target_bucket}/{item.key}")
            # A pause of changing length, so that no beat of a server is met each time.
            time.sleep(random.uniform(0, _IDLE_PAUSE_SECONDS))
            begun = time.monotonic()
            put(writer, item)
            deadline = item.acked + _ARRIVAL_SECONDS_MAX
            while reader.ask(asked).status != 200:
                if time.monotonic() > deadline:
                    raise LoadError(f"{side.name}: {item.key} does not arrive")
                time.sleep(_HEAD_SECONDS)
            lags.append((time.monotonic() - item.acked) * 1000)
            acks.append((item.acked - begun) * 1000)
    return lags, acks


def pass_large(side: Side, size: int) -> dict[str, Any]:
    """One large object through a side; its bytes are made while they are sent."""
    body = Repeated(size)
    sha256, _ = _hashes(body)
    begun = time.monotonic()
    with contextlib.closing(Connection(side.port)) as writer:
        answer = writer.ask(side.put_head(sha256, size), body)
    if answer.status not in {200, 201}:
        raise LoadError(f"{side.name}: {answer.status} {answer.body[:300]!r}")
    acked = time.monotonic()
    key = KEY_PREFIX + sha256
    with contextlib.closing(Connection(side.target.port)) as reader:
        while key not in (found := side.target.list(reader, side.target_bucket, KEY_PREFIX)):
            if time.monotonic() - acked > _LARGE_SECONDS_MAX:
                raise LoadError(f"{side.name}: {key} does not arrive")
            time.sleep(_LIST_SECONDS)
    seen = time.monotonic()
    if found[key].size != size:
        raise LoadError(f"{side.name}: {key} has {found[key].size} bytes, not {size}")
    return {
        "gib": round(size / 1024 / MIB, 3),
        "ack_s": round(acked - begun, 2),
        "ack_to_present_s": round(seen - acked, 2),
        "mb_per_s": round(size / (seen - begun) / 1e6, 1),
    }


def make_items(side: Side, load: Load) -> list[Item]:
    """All requests of a load, ready to be sent."""
    items: list[Item] = []
    for _ in range(load.count):
        body = os.urandom(load.size) if load.size <= MIB else Repeated(load.size)
        sha256, md5 = _hashes(body)
        head = side.put_head(sha256, load.size)
        items.append(Item(KEY_PREFIX + sha256, head, body, load.size, md5))
    return items


def _hashes(body: Body) -> tuple[str, str]:
    """sha256 and md5, in hex."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in (body,) if isinstance(body, bytes) else body:
        sha256.update(chunk)
        md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest()


def put(connection: Connection, item: Item) -> None:
    answer = connection.ask(item.head, item.body)
    if answer.status not in {200, 201}:
        raise LoadError(f"PUT {item.key}: {answer.status} {answer.body[:300]!r}")
    item.acked = time.monotonic()


def _write(port: int, items: list[Item], failures: list[str]) -> None:
    try:
        with contextlib.closing(Connection(port)) as connection:
            for item in items:
                put(connection, item)
    except (LoadError, WireError, OSError) as error:
        failures.append(f"{type(error).__name__}: {error}")


def _await_all(side: Side, items: list[Item], failures: list[str], seconds_max: float) -> None:
    """Wait until every target has every object with the right bytes.

    Some, evenly spread, are waited for one after the other, the last one among them; they get the
    moment when they were seen. Then the listing must show all, or the first it lacks is waited for.
    """
    deadline = time.monotonic() + seconds_max
    step = max(1, len(items) // _SAMPLES)
    with contextlib.ExitStack() as stack:
        readers = [
            (place, stack.enter_context(contextlib.closing(Connection(place.server.port))))
            for place in side.places()
        ]
        for item in items[::-step][::-1]:
            for place, reader in readers:
                item.seen = _await_head(side, (place, reader), item, deadline, failures)
        for place, reader in readers:
            while missing := find_missing(place, reader, items):
                item = missing[0]
                item.seen = _await_head(side, (place, reader), item, deadline, failures)


def _await_head(
    side: Side,
    where: tuple[Place, Connection],
    item: Item,
    deadline: float,
    failures: list[str],
) -> float:
    place, reader = where
    asked = place.server.head_of("HEAD", f"/{place.bucket}/{item.key}")
    while reader.ask(asked).status != 200:
        if failures:
            raise LoadError(f"{side.name}: a writer failed: {failures[0]}")
        if time.monotonic() > deadline:
            raise LoadError(f"{side.name}: {item.key} does not arrive")
        time.sleep(_BURST_HEAD_SECONDS)
    return time.monotonic()


def find_missing(place: Place, reader: Connection, items: Iterable[Item]) -> list[Item]:
    """Objects that the target's listing does not show; raises LoadError for wrong bytes."""
    found = place.server.list(reader, place.bucket, KEY_PREFIX)
    missing: list[Item] = []
    for item in items:
        if item.key not in found:
            missing.append(item)
            continue
        # What was sent in parts has no md5 for an ETag; its length has to do.
        etag, size = found[item.key].etag, found[item.key].size
        if size != item.size or ("-" not in etag and etag != item.md5):
            raise LoadError(f"{place.bucket}: {item.key} has other bytes: {size}, {etag}")
    return missing


def _repeat(block: bytes, size: int) -> Iterator[bytes]:
    """`size` bytes made of a block and a counter, so that no two blocks are the same."""
    sent = 0
    while sent < size:
        chunk = (sent.to_bytes(8, "big") + block[8:])[: size - sent]
        yield chunk
        sent += len(chunk)
