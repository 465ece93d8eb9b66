"""`tidestore verify`: read every replica back and compare it with the log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidestore.cli.output import fail, print_json
from tidestore.cli.serve import config_option
from tidestore.config import ConfigError, read_config

_NAMES_SHOWN = 10


@click.command()
@config_option
@click.option("--replica", "only", multiple=True, help="Only this replica; may be given often.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def verify(
    environ: dict[str, str],
    config_path: Path,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Read every object of every replica with the cloud's own client, hash it, compare it.

    The truth is the log, read for this alone. Missing objects are not errors while they are on
    their way: they are counted as missing, and a second run shows whether they came.
    """
    from tidestore.local.compare import compare_replica, log_contents  # noqa: PLC0415
    from tidestore.local.readback import places_of  # noqa: PLC0415

    if not config_path.exists() and config_path == Path("tidestore.toml"):
        config_path = Path(".tidestore/tidestore.toml")
    try:
        config = read_config(config_path, environ)
    except ConfigError as error:
        fail(str(error))
    console = Console(stderr=True, highlight=False)
    expected = log_contents(config)
    console.print(f"the log holds {len(expected)} objects")
    findings: list[dict[str, Any]] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for place in places_of(config_path, environ):
            if only and place.name not in only:
                continue
            bar = progress.add_task(place.name, total=len(expected))
            findings.append(compare_replica(place, expected, lambda _, b=bar: progress.advance(b)))  # type: ignore[misc]
    for finding in findings:
        if as_json:
            print_json(finding)
            continue
        click.echo(
            f"{finding['replica']}: {finding['equal']} equal, {len(finding['missing'])} missing,"
            f" {len(finding['differ'])} differ, {len(finding['unknown'])} not in the log"
        )
        for word in ("missing", "differ", "unknown"):
            for key in finding[word][:_NAMES_SHOWN]:
                click.echo(f"  {word}: {key}")
    if any(finding["missing"] or finding["differ"] for finding in findings):
        sys.exit(1)
