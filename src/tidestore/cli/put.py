"""`tidestore put`: write files and folder trees, resumably."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tidestore.cli.connect import connect_options, find_connection
from tidestore.cli.output import fail, print_json, run_async
from tidestore.client import Client, ClientError
from tidestore.client.journal import Journal
from tidestore.client.upload import Uploader, Written, find_files, shown


def default_journal(environ: dict[str, str]) -> Path:
    """Where journals lie: the place that the system has for programs' state."""
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "tidestore/put.sqlite"


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@connect_options
@click.option("--journal", type=click.Path(path_type=Path), help="Where to remember what is done.")
@click.option("--root-id", type=click.UUID, help="Derive uuids from this, as another machine did.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_obj
def put(
    environ: dict[str, str],
    paths: tuple[Path, ...],
    data_folder: Path,
    url: str | None,
    dataset: str,
    journal: Path | None,
    root_id: UUID | None,
    as_json: bool,
) -> None:
    """Write PATHS: each folder a bundle of its files, a collection over each tree.

    A second run skips what is there; an interrupted one goes on where it stopped.
    """
    connection = find_connection(environ, data_folder, url)
    console = Console(stderr=True, highlight=False)
    state = journal or default_journal(environ)

    async def work() -> list[tuple[Path, Written]]:
        results = []
        async with Client(connection.url, connection.token) as client:
            store = await _store_of(client)
            for path in paths:
                files, passed = find_files(path)
                for line in passed:
                    console.print(f"passed over {line}", markup=False)
                book = Journal(state, f"{store} {dataset} {shown(str(path.absolute()))}", root_id)
                try:
                    results.append(
                        (path, await _write(client, book, dataset, path, files, console))
                    )
                finally:
                    book.close()
        return results

    try:
        results = run_async(work)
    except ClientError as error:
        fail(str(error), f"{error.hint}; a next run goes on from here".removeprefix("; "))
    except (OSError, sqlite3.Error) as error:
        fail(f"cannot keep the journal {state}: {error}", "choose another place with --journal")
    _report(results, console, as_json=as_json)
    if any(written.problems for _, written in results):
        sys.exit(1)


async def _store_of(client: Client) -> str:
    """What names the store for ever: where its origin lies, whichever gateway leads there.

    Journals are kept by it, so that a new store at an old address is not believed to be full.
    """
    replicas = (await client.get("/v1/replicas"))["replicas"]
    origin = next(replica for replica in replicas if replica["is_origin"])
    return str(origin["url"]).partition("?")[0]


async def _write(
    client: Client, book: Journal, dataset: str, path: Path, files: list[Any], console: Console
) -> Written:
    total = sum(item.size for item in files)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"{shown(str(path))} ({len(files)} files)", total=total)
        uploader = Uploader(client, book, dataset, lambda count: progress.advance(bar, count))
        return await uploader.write(path, files)


def _report(results: list[tuple[Path, Written]], console: Console, *, as_json: bool) -> None:
    for path, written in results:
        for problem in written.problems:
            console.print(f"problem: {problem}", markup=False)
        if as_json:
            print_json(
                {
                    "path": shown(str(path)),
                    "files": written.files,
                    "skipped": written.skipped,
                    "bundles": written.bundles,
                    "bytes": written.bytes,
                    "collection": written.collection or None,
                    "root_id": written.root_id,
                    "problems": written.problems,
                }
            )
            continue
        text = f"{shown(str(path))}: {written.files} files written, {written.skipped} were there"
        if written.collection:
            text += f"; collection {written.collection}"
        click.echo(text)
