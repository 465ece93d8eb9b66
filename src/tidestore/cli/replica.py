"""`tidestore replica`: add, list, pause, resume, lose and retire replicas while the store runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tidestore.cli.connect import connect_options, speak
from tidestore.cli.join import join, leave
from tidestore.cli.output import print_json
from tidestore.cli.party import invite, parties, send_away
from tidestore.client import Client

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_reason_option = click.option("--reason", default="", help="Why, for people who wonder later.")


@click.group()
def replica() -> None:
    """Replicas: which there are, changing that while the store runs, and third parties' own."""


@replica.command("add")
@click.argument("name")
@click.argument("place")
@click.option("--credential", default="", help="The name of a credential; see docs/replicas.md.")
@click.option("--adopt", is_flag=True, help="Take a place that holds objects already.")
@click.option(
    "--filter", "filters", multiple=True, metavar="NAME=VALUES",
    help="dataset=A,B or kind=bundle: only these, and what they refer to. May be given twice.",
)  # fmt: skip
@_json_option
@connect_options
@click.pass_obj
def add(
    environ: dict[str, str],
    name: str,
    place: str,
    credential: str,
    adopt: bool,
    filters: tuple[str, ...],
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Make PLACE, a URL like s3://bucket/prefix, the replica NAME. It is examined first."""
    del dataset
    body: dict[str, Any] = {"name": name, "url": place, "credential": credential, "adopt": adopt}
    if filters:
        body["filter"] = " ".join(filters)
    found = speak(environ, data_folder, url, lambda client: client.post("/v1/replicas", body))
    if as_json:
        print_json(found)
    else:
        click.echo(f"{name} is a replica now (incarnation {found['incarnation']})")
        if found["filter"]:
            click.echo(f"  only {found['filter']}, and what these refer to")
        click.echo(f"  its workers: tidestore worker {name}, or one `tidestore worker --all`")


@replica.command("ls")
@click.option("--retired", is_flag=True, help="Those that are not served any more.")
@_json_option
@connect_options
@click.pass_obj
def ls(
    environ: dict[str, str],
    retired: bool,
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """List the replicas, one a line."""
    del dataset
    found = speak(environ, data_folder, url, lambda client: client.get("/v1/replicas"))
    for item in found["retired" if retired else "replicas"]:
        if as_json:
            print_json(item)
        elif retired:
            click.echo(f"{item['name']}  incarnation {item['incarnation']}  {item['reason']}")
        else:
            click.echo(line_of(item))


@replica.command("pause")
@click.argument("name")
@_reason_option
@connect_options
@click.pass_obj
def pause(
    environ: dict[str, str],
    name: str,
    reason: str,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Let the workers of NAME stand still; what is written is owed to it."""
    del dataset
    body = {"paused": True, "reason": reason}
    speak(environ, data_folder, url, lambda client: client.patch(f"/v1/replicas/{name}", body))
    click.echo(f"{name} is paused")


@replica.command("resume")
@click.argument("name")
@connect_options
@click.pass_obj
def resume(
    environ: dict[str, str], name: str, data_folder: Path, url: str | None, dataset: str
) -> None:
    """Let the workers of NAME go on."""
    del dataset
    body = {"paused": False}
    speak(environ, data_folder, url, lambda client: client.patch(f"/v1/replicas/{name}", body))
    click.echo(f"{name} goes on")


@replica.command("lost")
@click.argument("name")
@_reason_option
@connect_options
@click.pass_obj
def lost(
    environ: dict[str, str],
    name: str,
    reason: str,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Declare the content of NAME gone: nothing it said is believed, and it is filled anew.

    Whatever is still at its place is proved and kept. To be said when its place can be written.
    """
    del dataset

    async def work(client: Client) -> dict[str, Any]:
        life = (await client.get(f"/v1/replicas/{name}"))["incarnation"]
        body = {"incarnation": life, "reason": reason}
        return await client.post(f"/v1/replicas/{name}/losses", body)

    found = speak(environ, data_folder, url, work)
    click.echo(f"{name} begins again (incarnation {found['incarnation']}) and is being filled")


@replica.command("retire")
@click.argument("name")
@_reason_option
@connect_options
@click.pass_obj
def retire(
    environ: dict[str, str],
    name: str,
    reason: str,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Serve NAME no more. Its objects stay where they are; adding it again begins a new life."""
    del dataset
    more = {"reason": reason} if reason else {}
    speak(environ, data_folder, url, lambda client: client.delete(f"/v1/replicas/{name}", **more))
    click.echo(f"{name} is retired")


for command in (invite, parties, send_away, join, leave):
    replica.add_command(command)


def line_of(item: dict[str, Any]) -> str:
    """One replica in one line."""
    words = [word for word, holds in (("origin", item["is_origin"]),) if holds]
    words += ["paused"] if item["is_paused"] else []
    words += [progress_of(item)] if item["lag"]["objects"] else ["complete"]
    words += [filter_of(item)] if item["filter"] else []
    return f"{item['name']}.{item['incarnation']}  {item['url']}  {', '.join(words)}"


def filter_of(item: dict[str, Any]) -> str:
    """What a replica is to have, in words."""
    return f"only {item['filter']}: {item['excluded']} excluded"


def progress_of(item: dict[str, Any]) -> str:
    """How far it is, in words: done of total, rate, time left."""
    progress = item["progress"]
    word = "backfill " if progress["is_backfill"] else ""
    text = f"{word}{progress['done']}/{progress['total']}"
    if item["is_paused"]:
        return text
    left = progress["seconds_left"]
    text += f", {progress['per_second']:.0f}/s"
    return text if left is None else f"{text}, {_duration(left)} left"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
