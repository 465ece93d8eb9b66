"""`tidestore migrate`: a log with more partitions, while writes go on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from tidestore.cli.output import fail, print_json
from tidestore.cli.serve import config_option, find_config
from tidestore.config import ConfigError, read_config


@click.command()
@config_option
@click.option("--partitions", type=click.IntRange(1, 10_000), required=True, help="So many then.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_obj
def migrate(environ: dict[str, str], config_path: Path, partitions: int, *, as_json: bool) -> None:
    """Move the log to a new generation with more partitions.

    The store runs on: all processes go over by themselves, and writes wait for some seconds. Killed
    or interrupted, give the same command again: it goes on; until then no write may be taken.
    docs/migration.md says what becomes of what.
    """
    from tidestore.api.migration.run import (  # noqa: PLC0415  imports Kafka's client
        MigrationRefusedError,
        MigrationSettings,
    )
    from tidestore.api.migration.run import migrate as move  # noqa: PLC0415
    from tidestore.connectors.kafka import LogError  # noqa: PLC0415
    from tidestore.schemas.codec import CodecError  # noqa: PLC0415

    try:
        found = read_config(find_config(config_path), environ)
    except ConfigError as error:
        fail(str(error))
    settings = MigrationSettings(found.kafka, found.topics, partitions, found.data_folder)
    again = f"the same command goes on: tidestore migrate --partitions {partitions}"

    def progress(word: str, count: int) -> None:
        click.echo(f"{word}: {count} records" if count else word, err=True)

    try:
        report = move(settings, progress)
    except MigrationRefusedError as error:
        fail(str(error), error.hint)
    except LogError as error:
        fail(str(error), again)
    except CodecError as error:
        fail(str(error), f"run the newest release here; {again}")
    except KeyboardInterrupt:
        fail("interrupted", again, 130)
    if as_json:
        print_json(dataclasses.asdict(report))
        return
    if report.was_open:
        click.echo(f"log generation {report.generation} was open already; the old topics are aside")
        return
    for word, count in sorted(report.carried.items()):
        click.echo(f"{count:>10} records of {word}")
    click.echo(
        f"log generation {report.generation} is open, with {report.partitions} partitions;"
        f" writes were held for {report.closed_seconds:.1f} s"
    )
