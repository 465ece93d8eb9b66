"""The demo: a real data set, written, replicated, and proved byte by byte on every replica.

The data is the `Tests` folder of Biopython's source distribution 1.88: 1,607 files in 105 folders,
108 MB of FASTQ, GenBank, mmCIF, MAF, XML and more. It is found through PyPI's JSON interface and
pinned by its sha256. What is compared in the end was read with the clouds' own clients.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tarfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from tidestore.client import Client, ClientError
from tidestore.client.journal import Journal
from tidestore.client.upload import Uploader, Written, find_files
from tidestore.config import read_config
from tidestore.local.compare import compare_replica, log_contents
from tidestore.local.download import DownloadError, Pinned, fetch_all
from tidestore.local.layout import Layout
from tidestore.local.readback import places_of

_INDEX: Final = "https://pypi.org/pypi/biopython/json"
_VERSION: Final = "1.88"
_SHA256: Final = "9aaa31c0bda4d059f7b2ee00bfdb5cbb73ade3057aa4b737a7cc0187091d071a"
_FILES: Final = 1_607
_ARRIVAL_SECONDS_MAX: Final = 900.0


def run_demo(layout: Layout, console: Console, folder: Path | None = None) -> bool:
    """Run it on the stack of a layout; whether every replica has every byte.

    `folder` is written instead of the data set.
    """
    try:
        folder = folder or _fetch(layout, console)
        return asyncio.run(_demo(layout, folder, console))
    except (DownloadError, ClientError, OSError) as error:
        console.print(f"the demo cannot go on: {error}", markup=False)
        return False


async def _demo(layout: Layout, folder: Path, console: Console) -> bool:
    url, token = layout.read_state()["url"], layout.token.read_text("utf-8").strip()
    begun = time.monotonic()
    async with Client(url, token) as client:
        names = [replica["name"] for replica in (await client.get("/v1/replicas"))["replicas"]]
        with Progress(
            TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), console=console,
        ) as progress:  # fmt: skip
            bars = {name: progress.add_task(f"on {name}", total=None) for name in names}
            watching = asyncio.create_task(_watch(client, progress, bars))
            try:
                written = await _write(client, layout, folder, progress)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            seconds = time.monotonic() - begun
            is_complete = await _await_all(client, progress, bars)
        for problem in written.problems:
            console.print(f"problem: {problem}", markup=False)
        console.print(
            f"{written.files} files written, {written.skipped} were there,"
            f" {written.bytes / 1e6:.0f} MB in {seconds:.1f} s"
        )
        lags = await _lags(client, names)
    console.print("\nreading every object back with the clouds' own clients, and hashing it:")
    rows = await asyncio.to_thread(_compare, layout, console)
    console.print(_table(rows, lags))
    mismatches = sum(len(row["missing"]) + len(row["differ"]) for row in rows)
    console.print(f"{mismatches} mismatches on {len(rows)} replicas")
    return is_complete and not mismatches and not written.problems


async def _write(client: Client, layout: Layout, folder: Path, progress: Progress) -> Written:
    files, _ = find_files(folder)
    bar = progress.add_task("writing", total=len(files))
    journal = Journal(layout.data / "demo.sqlite", str(folder))
    try:
        uploader = Uploader(client, journal, "public", lambda _: progress.advance(bar))
        return await uploader.write(folder, files)
    finally:
        journal.close()


async def _watch(client: Client, progress: Progress, bars: dict[str, TaskID]) -> None:
    """Keep the replicas' bars up to date; ended by whoever started it."""
    while True:
        await _show(client, progress, bars)
        await asyncio.sleep(0.3)


async def _show(client: Client, progress: Progress, bars: dict[str, TaskID]) -> bool:
    """Draw the replicas once; whether all of them have everything."""
    document = await client.get("/v1/replicas")
    total, is_complete = document["objects"], True
    for replica in document["replicas"]:
        progress.update(bars[replica["name"]], total=total, completed=replica["present"])
        is_complete &= replica["present"] >= total
    return is_complete


async def _await_all(client: Client, progress: Progress, bars: dict[str, TaskID]) -> bool:
    deadline = time.monotonic() + _ARRIVAL_SECONDS_MAX
    while not await _show(client, progress, bars):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.2)
    return True


async def _lags(client: Client, names: list[str]) -> dict[str, list[float]]:
    """From acknowledgement to proved copy, per replica, over every bundle's files and blobs."""
    lags: dict[str, list[float]] = {name: [] for name in names}
    gate = asyncio.Semaphore(16)

    async def one(path: str, version: str | None) -> None:
        async with gate:
            found = await client.get(f"{path}/copies", version=version)
        for copy in found["copies"]:
            if copy["state"] == "present" and not copy["is_origin"]:
                lags[copy["replica"]].append(copy["changed_at_ms"] - copy["written_at_ms"])

    asked = []
    for kind in ("blobs", "files", "bundles"):
        async for item in client.pages(f"/v1/{kind}"):
            name = item.get("uuid") or item["sha256"]
            asked.append(one(f"/v1/{kind}/{name}", item.get("version")))
    await asyncio.gather(*asked)
    return lags


def _compare(layout: Layout, console: Console) -> list[dict[str, Any]]:
    expected = log_contents(read_config(layout.config, {}))
    rows = []
    with Progress(
        TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console,
    ) as progress:  # fmt: skip
        for place in places_of(layout.config):
            bar = progress.add_task(f"reading {place.name}", total=len(expected))
            rows.append(compare_replica(place, expected, lambda _, b=bar: progress.advance(b)))  # type: ignore[misc]
    return rows


def _table(rows: list[dict[str, Any]], lags: dict[str, list[float]]) -> Table:
    table = Table(title="every byte of every replica, compared", title_justify="left")
    for name in ("replica", "objects", "MB", "lag p50 ms", "lag p99 ms", "missing", "differ"):
        table.add_column(name, justify="left" if name == "replica" else "right")
    for row in rows:
        values = lags.get(row["replica"], [])
        table.add_row(
            row["replica"],
            str(row["objects"]),
            f"{row['bytes'] / 1e6:.1f}",
            _percentile(values, 50),
            _percentile(values, 99),
            str(len(row["missing"])),
            str(len(row["differ"])),
        )
    return table


def _percentile(values: list[float], percent: int) -> str:
    if len(values) < 2:
        return "origin" if not values else f"{values[0]:.0f}"
    return f"{statistics.quantiles(values, n=100, method='inclusive')[percent - 1]:.0f}"


def _fetch(layout: Layout, console: Console) -> Path:
    """The data set, unpacked into the cache; raises DownloadError."""
    folder = layout.cache / "demo" / f"biopython-{_VERSION}" / "Tests"
    if folder.is_dir() and len(find_files(folder)[0]) == _FILES:
        return folder
    archive = _archive(layout.cache / "demo")
    with Progress(
        TextColumn("fetching the data set"), BarColumn(), DownloadColumn(), console=console
    ) as progress:
        bar = progress.add_task("data", total=archive.size)
        fetch_all([archive], lambda count: progress.advance(bar, count))
    console.print("unpacking it")
    prefix = f"biopython-{_VERSION}/Tests/"
    with tarfile.open(archive.path) as opened:
        members = [item for item in opened.getmembers() if item.name.startswith(prefix)]
        # Old filters are the default of old Pythons; "data" keeps members inside the folder.
        opened.extractall(layout.cache / "demo", members=members, filter="data")
    found = len(find_files(folder)[0])
    if found != _FILES:
        raise DownloadError(f"the data set has {found} files, not {_FILES}")
    return folder


def _archive(folder: Path) -> Pinned:
    """Where the pinned source distribution lies, asked of PyPI's JSON interface."""
    try:
        with urllib.request.urlopen(_INDEX, timeout=60) as reply:
            releases = json.load(reply)["releases"][_VERSION]
    except (OSError, ValueError, KeyError) as error:
        raise DownloadError(f"cannot find the data set on PyPI: {error}") from None
    for item in releases:
        if item["digests"]["sha256"] == _SHA256:
            return Pinned(item["url"], folder / item["filename"], _SHA256, item["size"])
    raise DownloadError("PyPI no longer lists the pinned data set")
