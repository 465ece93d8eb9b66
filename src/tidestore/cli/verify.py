"""`tidestore verify`: read every replica back and compare it with the log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidestore.cli.output import fail, print_json
from tidestore.cli.serve import config_option, find_config
from tidestore.config import Config, ConfigError, read_config

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
    config_path = find_config(config_path)
    try:
        config = read_config(config_path, environ)
    except ConfigError as error:
        fail(str(error))
    known = [str(item.name) for item in config.replicas]
    for name in only:
        if name not in known:
            fail(f"there is no replica {name!r}", f"one of {', '.join(known)}")
    findings = _compare(config, config_path, environ, only or tuple(known))
    for finding in findings:
        if as_json:
            print_json(finding)
        else:
            _show(finding)
    if any(finding["missing"] or finding["differ"] for finding in findings):
        sys.exit(1)


def _compare(
    config: Config, config_path: Path, environ: dict[str, str], names: tuple[str, ...]
) -> list[dict[str, Any]]:
    from tidestore.connectors.kafka import LogError  # noqa: PLC0415  imports Kafka's library
    from tidestore.local.compare import compare_replica, log_contents  # noqa: PLC0415
    from tidestore.local.readback import places_of  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    hint = "`tidestore config check` says what answers"
    try:
        expected = log_contents(config)
    except LogError as error:
        fail(str(error), hint)
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
            if place.name not in names:
                continue
            bar = progress.add_task(place.name, total=len(expected))
            try:
                finding = compare_replica(place, expected, lambda _, b=bar: progress.advance(b))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001  three clouds' libraries, no common error
                progress.stop()
                fail(f"cannot read the replica {place.name}: {' '.join(str(error).split())}", hint)
            findings.append(finding)
    return findings


def _show(finding: dict[str, Any]) -> None:
    click.echo(
        f"{finding['replica']}: {finding['equal']} equal, {len(finding['missing'])} missing,"
        f" {len(finding['differ'])} differ, {len(finding['unknown'])} not in the log"
    )
    for word in ("missing", "differ", "unknown"):
        for key in finding[word][:_NAMES_SHOWN]:
            click.echo(f"  {word}: {key}")
