"""`tidestore replica invite`, `parties` and `send-away`: who may keep a replica of their own."""

from __future__ import annotations

from pathlib import Path

import click

from tidestore.cli.connect import connect_options, speak
from tidestore.cli.output import print_json

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command("invite")
@click.argument("name")
@click.option(
    "--grant", "grants", multiple=True, help="A dataset; again for more. By default public."
)
@_json_option
@connect_options
@click.pass_obj
def invite(
    environ: dict[str, str],
    name: str,
    grants: tuple[str, ...],
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Let a third party keep a replica NAME of its own; its token is shown this once."""
    body = {"name": name, "datasets": list(grants) or [dataset]}
    found = speak(environ, data_folder, url, lambda client: client.post("/v1/parties", body))
    if as_json:
        print_json(found)
    else:
        click.echo(f"{name} may read {', '.join(found['datasets'])}; give it this token:")
        click.echo(f"  {found['token']}")


@click.command("parties")
@_json_option
@connect_options
@click.pass_obj
def parties(
    environ: dict[str, str], as_json: bool, data_folder: Path, url: str | None, dataset: str
) -> None:
    """List who keeps a replica of their own, and what each claims to hold."""
    del dataset
    found = speak(environ, data_folder, url, lambda client: client.get("/v1/parties"))
    for item in found["parties"]:
        if as_json:
            print_json(item)
            continue
        said = [
            f"{count['objects']} {count['state']} ({count['verdict']})"
            for count in item["receipts"]
        ]
        click.echo(f"{item['name']}  {', '.join(item['datasets'])}  {', '.join(said) or 'nothing'}")


@click.command("send-away")
@click.argument("name")
@connect_options
@click.pass_obj
def send_away(
    environ: dict[str, str], name: str, data_folder: Path, url: str | None, dataset: str
) -> None:
    """Make the token of NAME worthless, and forget what it said. Its copies are beyond our hand."""
    del dataset
    speak(environ, data_folder, url, lambda client: client.delete(f"/v1/parties/{name}"))
    click.echo(f"{name} is sent away; what it has copied is beyond our hand")
