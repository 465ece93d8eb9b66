"""`tidestore recover`: a new log from one surviving replica alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from tidestore.cli.output import fail, print_json, run_async
from tidestore.cli.serve import config_option, find_config
from tidestore.config import Config, ConfigError, read_config

if TYPE_CHECKING:
    from tidestore.api.recovery.findings import Findings
    from tidestore.api.recovery.run import RecoverySettings

_NAMES_SHOWN = 10


@click.command()
@config_option
@click.option("--from", "replica", required=True, help="The replica that survived.")
@click.option("--read-all", is_flag=True, help="Hash every blob, also where its store vouches.")
@click.option("--dry-run", is_flag=True, help="Only read the replica; ask no broker.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_obj
def recover(
    environ: dict[str, str],
    config_path: Path,
    replica: str,
    read_all: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build a new log from one replica, when the old one is lost.

    Stop all gateways first. Killed or interrupted, give the same command again: it goes on. Ends
    with 1 when something on the replica could not be taken in; docs/recovery.md is the whole drill.
    """
    try:
        config = read_config(find_config(config_path), environ)
    except ConfigError as error:
        fail(str(error))
    findings = _recover(_settings(config, replica, reads_all=read_all, is_dry=dry_run))
    if as_json:
        print_json(findings.document())
    else:
        _show(findings, is_dry=dry_run)
    if not findings.is_whole:
        sys.exit(1)


def _settings(config: Config, replica: str, *, reads_all: bool, is_dry: bool) -> RecoverySettings:
    from tidestore.api.recovery.run import RecoverySettings  # noqa: PLC0415  imports the clouds' libraries

    found = next((item for item in config.replicas if item.name == replica), None)
    if found is None:
        names = ", ".join(item.name for item in config.replicas)
        fail(f"there is no replica {replica!r}", f"one of {names}")
    return RecoverySettings(
        kafka=config.kafka,
        topics=config.topics,
        replicas=tuple((item.name, item.incarnation) for item in config.replicas),
        name=found.name,
        address=found.address,
        origin=config.origin,
        datasets=config.datasets,
        data_folder=config.data_folder,
        seal_key=config.seal_key,
        limits=config.limits,
        reads_all=reads_all,
        is_dry=is_dry,
    )


def _recover(settings: RecoverySettings) -> Findings:
    from tidestore.api.recovery.run import RecoveryRefusedError, recover  # noqa: PLC0415
    from tidestore.connectors.errors import StoreError  # noqa: PLC0415
    from tidestore.connectors.kafka import LogError  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        known: dict[str, TaskID] = {}

        def progress(word: str, done: int, total: int) -> None:
            if word not in known:
                known[word] = bars.add_task(word, total=None)
            bars.update(known[word], completed=done, total=total or None)

        try:
            return run_async(lambda: recover(settings, progress))
        except RecoveryRefusedError as error:
            bars.stop()
            fail(str(error), error.hint)
        except StoreError as error:
            bars.stop()
            fail(str(error), "the same command goes on when the store answers")
        except LogError as error:
            bars.stop()
            fail(str(error), "the same command goes on when Kafka answers")


def _show(findings: Findings, *, is_dry: bool) -> None:
    verb = "would be appended" if is_dry else "appended"
    for kind in ("blob", "file", "bundle", "collection"):
        old = f", {count} by an earlier run" if (count := findings.already[kind]) else ""
        click.echo(f"{findings.appended[kind]:>8} {kind}s {verb}{old}")
    for word, count in sorted(findings.restored.items()):
        click.echo(f"{count:>8} {word} {'kept' if is_dry else 'restored'}")
    if findings.others:
        click.echo(f"{findings.others:>8} other things lie there; nothing is done about them")
    for word, names in findings.wrong.items():
        click.echo(f"{findings.totals[word]:>8} {word}:")
        for key, reason in names[:_NAMES_SHOWN]:
            click.echo(f"           {key}: {reason}")
        if findings.totals[word] > _NAMES_SHOWN:
            click.echo("           ... (--json names more)")
    click.echo("what does not come back:")
    for line in findings.document()["lost_for_good"]:
        click.echo(f"  - {line}")
