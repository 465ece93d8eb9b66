"""`tidestore verify`: read every replica back and compare it with the log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tidestore.cli.output import fail, print_json
from tidestore.cli.serve import config_option, find_config
from tidestore.config import Config, ConfigError, read_config

if TYPE_CHECKING:
    from tidestore.connectors.directory import Served
    from tidestore.local.readback import Contents

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
    findings = _compare(config, only)
    for finding in findings:
        if as_json:
            print_json(finding)
        else:
            _show(finding)
    if any(finding["missing"] or finding["differ"] for finding in findings):
        sys.exit(1)


def _compare(config: Config, only: tuple[str, ...]) -> list[dict[str, Any]]:
    from tidestore.connectors.kafka import LogError  # noqa: PLC0415  imports Kafka's library
    from tidestore.local.compare import compare_replica, log_contents  # noqa: PLC0415
    from tidestore.local.lives import place_of, read_lives  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    hint = "`tidestore config check` says what answers"
    try:
        lives = read_lives(config).served
        for name in only:
            if name not in lives:
                fail(f"there is no replica {name!r}", f"one of {', '.join(lives)}")
        everything = log_contents(config.in_use())
        expected = {
            name: _expected(config, lives[name], everything) for name in only or tuple(lives)
        }
    except LogError as error:
        fail(str(error), hint)
    console.print(f"the log holds {len(everything)} objects")
    findings: list[dict[str, Any]] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        for name, wanted in expected.items():
            place = place_of(lives[name])
            bar = progress.add_task(place.name, total=len(wanted))
            try:
                finding = compare_replica(
                    place,
                    wanted,
                    lambda _, b=bar: progress.advance(b),  # type: ignore[misc]
                    everything,
                )
            except Exception as error:  # noqa: BLE001  three clouds' libraries, no common error
                progress.stop()
                fail(f"cannot read the replica {place.name}: {' '.join(str(error).split())}", hint)
            findings.append(finding)
    return findings


def _expected(config: Config, life: Served, everything: Contents) -> Contents:
    """What a replica is to have. Raises LogError."""
    from tidestore.local.compare import (  # noqa: PLC0415  imports Kafka's library
        chosen_contents,
        excluded_keys,
        log_children,
    )

    if life.filter.is_open:
        return everything
    excluded = excluded_keys(config, life)
    return chosen_contents(everything, life.filter, log_children(config), excluded)


def _show(finding: dict[str, Any]) -> None:
    click.echo(
        f"{finding['replica']}: {finding['equal']} equal, {len(finding['missing'])} missing,"
        f" {len(finding['differ'])} differ, {len(finding['unknown'])} not in the log"
        + (f", {finding['excluded']} excluded" if finding["excluded"] else "")
    )
    for word in ("missing", "differ", "unknown"):
        for key in finding[word][:_NAMES_SHOWN]:
            click.echo(f"  {word}: {key}")
