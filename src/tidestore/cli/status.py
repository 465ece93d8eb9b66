"""`tidestore status`: the replicas as a table, live if wanted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from tidestore.cli.connect import connect_options, speak
from tidestore.cli.output import print_json
from tidestore.cli.replica import filter_of, progress_of
from tidestore.cli.story import age_words
from tidestore.client import Client

_REFRESH_SECONDS = 1.0


@click.command()
@click.option("--watch", is_flag=True, help="Keep the table up to date until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@connect_options
@click.pass_obj
def status(
    environ: dict[str, str],
    watch: bool,
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Show every replica: what is there, how far it is behind, what is parked."""
    del dataset  # the same for all
    console = Console(highlight=False)

    async def work(client: Client) -> None:
        document = await client.get("/v1/replicas")
        if as_json:
            print_json(document)
            return
        if not watch:
            console.print(_table(document))
            return
        with Live(_table(document), console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(_REFRESH_SECONDS)
                live.update(_table(await client.get("/v1/replicas")), refresh=True)

    speak(environ, data_folder, url, work)


def _table(document: dict[str, Any]) -> Group:
    tables = [_replicas(document)]
    if any(replica["under_way"] for replica in document["replicas"]):
        tables.append(_under_way(document))
    return Group(*tables)


def _under_way(document: dict[str, Any]) -> Table:
    """Large copies, with how much of each was stored when its worker last said so."""
    table = Table(title="large copies under way", title_justify="left")
    for name in ("replica", "key", "done", "size", ""):
        table.add_column(name, justify="left" if name in ("replica", "key") else "right")
    for replica in document["replicas"]:
        for copy in replica["under_way"]:
            done, size = copy["bytes_done"], copy["size"]
            share = f"{100 * done / size:.0f} %"
            table.add_row(replica["name"], copy["key"], _bytes(done), _bytes(size), share)
    return table


def _replicas(document: dict[str, Any]) -> Table:
    table = Table(
        title=f"{document['objects']} objects in the log",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in (
        "replica",
        "present",
        "pending",
        "waiting",
        "parked",
        "bytes behind",
        "lag",
        "fails with",
        "compared",
        "where",
    ):
        is_text = name in ("replica", "where")
        # A narrow terminal takes its room from the others: without these the table says nothing.
        is_whole = name in ("replica", "present", "pending", "parked", "lag")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=is_whole)
    for replica in document["replicas"]:
        lag = replica["lag"]
        name = replica["name"] + (" (origin)" if replica["is_origin"] else "")
        name += " (paused)" if replica["is_paused"] else ""
        table.add_row(
            name,
            str(replica["present"]),
            str(lag["objects"]),
            str(replica["waiting"]),
            str(replica["parked"]),
            _bytes(lag["bytes"]),
            f"{lag['seconds']:.1f} s" if lag["objects"] else "-",
            _failed(replica),
            _compared(replica.get("scrub")),
            replica["url"],
        )
    # Below, and only while something is to be told: the table must fit 80 columns.
    behind = [item for item in document["replicas"] if item["progress"]["is_backfill"]]
    lines = [f"{item['name']}: {progress_of(item)}" for item in behind]
    for item in document["replicas"]:
        canary = item.get("canary") or {}
        if canary.get("is_overdue"):
            waiting = age_words(int(canary["waiting_seconds"] * 1000))
            lines.append(f"{item['name']}: no canary comes through, for {waiting}")
    lines += [f"{item['name']}: {filter_of(item)}" for item in document["replicas"]
              if item["filter"]]  # fmt: skip
    if lines:
        table.caption = "\n".join(lines)
        table.caption_justify = "left"
    return table


def _failed(replica: dict[str, Any]) -> str:
    """Why pending copies wait, the most frequent reason first."""
    failed: dict[str, int] = replica.get("failed") or {}
    found = sorted(failed.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count}" for name, count in found) or "-"


def _compared(scrub: dict[str, Any] | None) -> str:
    """The last comparison with the log (docs/scrub.md), and how old it is."""
    if scrub is None:
        return "never"
    age = age_words(int(time.time() * 1000) - scrub["ended_at_ms"])
    wrong = sum(scrub[kind] for kind in ("lost", "altered", "dark", "unredacted"))
    more = f" {wrong}" if wrong else ""
    return f"{scrub['verdict']}{more}, {age}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
