"""`tidestore hook`: register, list and remove webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tidestore.cli.connect import connect_options, speak
from tidestore.cli.output import print_json


@click.group()
def hook() -> None:
    """Webhooks: who is told when objects are written and arrive."""


@hook.command("add")
@click.argument("target")
@click.option(
    "--event", "events", multiple=True, default=("*",), help="Which events; all by default."
)
@click.option("--secret", help="The signing secret; one is made if you give none.")
@click.option("--earliest", is_flag=True, help="Also tell what was announced before.")
@connect_options
@click.pass_obj
def add(
    environ: dict[str, str],
    target: str,
    events: tuple[str, ...],
    secret: str | None,
    earliest: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Register a hook that is POSTed to TARGET. Prints it, its secret included, as JSON."""
    config = {"url": target, **({"secret": secret} if secret else {})}
    document = {"name": "web", "events": list(events), "config": config}
    document["start"] = "earliest" if earliest else "now"
    _print(
        speak(environ, data_folder, url, lambda c: c.post("/v1/hooks", document, dataset=dataset))
    )


@hook.command("list")
@connect_options
@click.pass_obj
def list_(environ: dict[str, str], data_folder: Path, url: str | None, dataset: str) -> None:
    """List the hooks of a dataset, one JSON document per line."""
    _print(speak(environ, data_folder, url, lambda c: c.get("/v1/hooks", dataset=dataset)))


@hook.command("remove")
@click.argument("hook_id")
@connect_options
@click.pass_obj
def remove(
    environ: dict[str, str], hook_id: str, data_folder: Path, url: str | None, dataset: str
) -> None:
    """Remove a hook; nothing more is sent to it."""
    _print(
        speak(
            environ, data_folder, url, lambda c: c.delete(f"/v1/hooks/{hook_id}", dataset=dataset)
        )
    )


def _print(found: Any) -> None:
    """One document, or each of a list."""
    for item in found if isinstance(found, list) else [found] if found else []:
        print_json(item)
