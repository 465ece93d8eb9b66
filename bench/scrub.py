"""How fast a replica is compared with the log: LIST and merge alone, no Kafka.

    python -m bench.scrub --keys 50000

Fills a folder, and an S3 server (MinIO if it is on the PATH) with a tenth as many objects of 64
bytes, folds their records into the view of a comparison, and compares. What a comparison costs per
key does not depend on the object's size: no object is read. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.registry import make_store
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view import Folded
from tidestore.connectors.view_tables import ViewTables
from tidestore.local.layout import write_whole
from tidestore.local.ports import choose_ports
from tidestore.local.processes import Child
from tidestore.local.servers import S3_SERVERS, choose, is_ready, s3_server
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.events import CopyChanged, CopyState, Event, ObjectWritten
from tidestore.schemas.objects import PUBLIC, blob_key
from tidestore.streams.scrub_compare import Comparison
from tidestore.streams.scrub_view import Cuts, ScrubFold, ScrubRows

_BATCH = 500
_AT_ONCE = 64
_READY_SECONDS_MAX = 60.0


class _Rows:
    """The queries of a view, on its file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self._db.row_factory = sqlite3.Row

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return self._db.execute(sql, parameters).fetchall()


def fold(path: Path, all_sums: list[Checksums]) -> float:
    """Fold one event and one copy for each object; the seconds that it took."""
    tables = ViewTables(path, ScrubFold("bench", 1, "copies"))
    begun = time.perf_counter()
    for start in range(0, len(all_sums), _BATCH):
        records: list[Folded] = []
        for offset, sums in enumerate(all_sums[start : start + _BATCH], start):
            key = blob_key(PUBLIC, sums.sha256)
            event = ObjectWritten(
                key, sums.size, sums.sha256, sums.sha1, sums.crc32c, sums.md5, "x/y", "other",
                1, 0, "bench", "",
            )  # fmt: skip
            copy = CopyChanged(
                key, "bench", 1, CopyState.PRESENT, 0, offset, sums.size, sums.sha256, "x/y",
                "other", 0, offset,
            )  # fmt: skip
            said: list[tuple[str, Event]] = [("log", event), ("copies", copy)]
            records += [Folded(topic, 0, offset, key, item, 0) for topic, item in said]
        tables.fold(records, {("log", 0): start}, {("log", 0): 0})
    tables.close()
    return time.perf_counter() - begun


async def fill(store: ObjectStore, count: int, root: Path | None) -> list[Checksums]:
    """Small objects nobody has, under their keys."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one() -> Checksums:
        body = os.urandom(64)
        sums = checksums_of(body)
        key = blob_key(PUBLIC, sums.sha256)
        async with places:
            if root is None:
                await store.put_if_absent(key, body, sums, content_type="x/y")
            else:  # without the store's syncs, of which there would be three each
                (root / key).parent.mkdir(parents=True, exist_ok=True)
                (root / key).write_bytes(body)
        return sums

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def measure(
    name: str, store: ObjectStore, count: int, folder: Path, root: Path | None = None
) -> dict[str, Any]:
    """Fill, fold, compare."""
    await store.open()
    all_sums = await fill(store, count, root)
    path = folder / f"{name}.sqlite"
    fold_seconds = fold(path, all_sums)
    rows = ScrubRows(_Rows(path), "bench")  # type: ignore[arg-type]
    comparison = Comparison(rows.expected(Cuts({0: count}, {0: count})))
    begun, cpu = time.perf_counter(), time.process_time()
    async for info in store.list():
        comparison.take(info)
    comparison.finish()
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    assert comparison.counts.equal == count
    await store.close()
    return {
        "store": name,
        "keys": count,
        "keys_per_s": round(count / seconds),
        "keys_per_cpu_s": round(count / cpu),
        "fold_records_per_s": round(2 * count / fold_seconds),
    }


async def measure_s3(count: int, folder: Path) -> dict[str, Any]:
    """The same on the best S3 server there is."""
    kind = choose(S3_SERVERS, None, os.environ)
    port = choose_ports(["s3"], {}, {})["s3"]
    server = s3_server(kind, folder / "s3", folder / "secrets", port, "bench")
    environ = {**os.environ, **server.environ}
    child = Child("s3", server.command, folder / "s3.log", environ, folder)
    try:
        deadline = time.monotonic() + _READY_SECONDS_MAX
        while not is_ready(server.ready_url) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        references = {name: value.partition(":") for name, value in server.credentials.items()}
        credentials = {
            name: Secret((folder / rest).read_text("utf-8") if kind_ == "file" else rest)
            for name, (kind_, _, rest) in references.items()
        }
        store = make_store("bench", StoreAddress.parse(server.url, credentials))
        return await measure(kind, store, count, folder)
    finally:
        child.ask_to_end()
        child.wait_ended()


def main() -> None:
    """Measure both and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=50_000)
    parser.add_argument("--out", type=Path, help="Write the JSON there, too.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidestore-bench-") as name:
        folder = Path(name)
        place = StoreAddress.parse((folder / "replica").as_uri())
        store = make_store("bench", place)
        found = [
            asyncio.run(measure("folder", store, asked.keys, folder, folder / "replica")),
            asyncio.run(measure_s3(max(1, asked.keys // 10), folder)),
        ]
    text = json.dumps(found)
    if asked.out is not None:
        write_whole(asked.out, text + "\n")
    print(text)


if __name__ == "__main__":
    main()
