"""`tidestore log show`: any topic of ours, readably."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from tidestore.cli.output import fail, print_json
from tidestore.cli.serve import config_option, find_config
from tidestore.config import Config, ConfigError, read_config

_BYTES_SHOWN = 32


@click.group()
def log() -> None:
    """The replication log and its neighbours."""


@log.command("show")
@click.argument("topic", default="log")
@config_option
@click.option("--key", help="Only records of this key.")
@click.option(
    "--limit", type=int, default=100, show_default=True, help="At most so many; 0 is all."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document per line.")
@click.pass_obj
def show(
    environ: dict[str, str],
    topic: str,
    config_path: Path,
    key: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show TOPIC from its beginning: log, copies.aws, changes.public, hooks, cursors, tasks, ..."""
    from tidestore.connectors.kafka import LogError  # noqa: PLC0415
    from tidestore.connectors.tail import read_topic  # noqa: PLC0415

    try:
        found = read_config(find_config(config_path), environ)
    except ConfigError as error:
        fail(str(error))
    shown = 0
    try:
        found = found.in_use()
        for record in read_topic(found.kafka, _full_name(found, topic), key):
            document = {
                "partition": record.partition,
                "offset": record.offset,
                "timestamp_ms": record.timestamp_ms,
                "key": record.key,
                "event": type(record.event).__name__ if record.event else "unreadable",
                **(_plain(record.event) if record.event else {"reason": record.reason}),
            }
            if as_json:
                print_json(document)
            else:
                rest = {k: v for k, v in document.items() if v not in (None, "", ())}
                place = f"{rest.pop('partition')}/{rest.pop('offset')}"
                rest.pop("timestamp_ms")
                words = " ".join(f"{k}={v}" for k, v in rest.items() if k not in ("key", "event"))
                click.echo(f"{place:>8}  {document['event']:<16} {document['key']}  {words}")
            shown += 1
            if limit and shown >= limit:
                click.echo(f"(the first {limit}; --limit 0 shows all)", err=True)
                return
    except LogError as error:
        fail(str(error), "`tidestore config check` says what there is")


def _full_name(found: Config, topic: str) -> str:
    """A topic by its short or its full name; a replica's copies by its name alone."""
    topics = found.topics
    replicas = [(item.name, item.incarnation) for item in found.replicas]
    names = [spec.name for spec in topics.specs(replicas, list(found.datasets))]
    for name in names:
        # "log" is the one in use, whatever its generation.
        short = name.removeprefix(topics.prefix).removeprefix(f"g{topics.generation}.")
        if topic in (name, name.removeprefix(topics.prefix), short) or (
            short.startswith("copies.") and short.rsplit(".", 1)[0] == topic
        ):
            return name
    known = ", ".join(name.removeprefix(topics.prefix) for name in names)
    return fail(f"there is no topic {topic!r}", f"one of {known}")


def _plain(event: Any) -> dict[str, Any]:
    document = dataclasses.asdict(event)
    for name, value in document.items():
        if isinstance(value, bytes):
            more = "..." if len(value) > _BYTES_SHOWN else ""
            document[name] = f"{len(value)} bytes: {value[:_BYTES_SHOWN]!r}{more}"
    return {name: value for name, value in document.items() if name != "key"}
