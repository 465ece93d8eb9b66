"""`tidestore parked`, `retry` and `explain`: what waits for a person, and what a person does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from tidestore.cli.connect import connect_options, speak
from tidestore.cli.output import fail, print_json
from tidestore.cli.story import age_words, story_lines
from tidestore.client import Client

F = TypeVar("F", bound=Callable[..., Any])

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE = re.compile(r"(\d{1,7})([smhd]?)", re.ASCII)
# The API's own bound for one call.
_KEYS_MAX: Final = 500


class _Age(click.ParamType):
    """A length of time: 90, 90s, 15m, 2h, 7d."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Seconds of the text."""
        match = _AGE.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no age: say 90s, 15m, 2h or 7d", param, ctx)
        return int(match[1]) * _UNITS[match[2] or "s"]


def _filters(command: F) -> F:
    """Options that say which parked copies are meant."""
    replica = click.option("--replica", help="Only this replica's.")
    error_class = click.option(
        "--class", "error_class", help="Only this class of error: network, checksum, missing, ..."
    )
    older = click.option(
        "--older-than", type=_Age(), help="Only those parked at least so long ago: 90s, 15m, 2h."
    )
    return replica(error_class(older(command)))


@click.command()
@_filters
@click.option("--json", "as_json", is_flag=True, help="One JSON document per line.")
@connect_options
@click.pass_obj
def parked(
    environ: dict[str, str],
    replica: str | None,
    error_class: str | None,
    older_than: int | None,
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """List the copies that were tried often enough and wait for a person, with the reason."""
    del dataset  # of all datasets
    asked: dict[str, Any] = {
        "replica": replica,
        "error_class": error_class,
        "older_than_seconds": older_than,
    }

    async def work(client: Client) -> None:
        count = 0
        async for item in client.pages("/v1/parked", **asked):
            count += 1
            if as_json:
                print_json(item)
            else:
                click.echo(parked_line(item, int(time.time() * 1000)))
        if not count and not as_json:
            click.echo("nothing is parked" + (" that fits" if any(asked.values()) else ""))

    speak(environ, data_folder, url, work)


def parked_line(item: dict[str, Any], now_ms: int) -> str:
    """One parked copy on one line."""
    age = age_words(now_ms - item["parked_at_ms"])
    words = [
        f"{item['replica']:<8}",
        f"{item.get('error_class', '-'):<9}",
        f"{age:>7}",
        f"{item['attempts']:>4}x",
        item["key"],
        " ".join(item.get("error", "").split()),
    ]
    return "  ".join(words).rstrip()


@click.command()
@click.argument("keys", nargs=-1)
@_filters
@click.option("--all", "is_all", is_flag=True, help="All that is parked.")
@click.option("--reason", help="Why it should work now; kept with the request.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@connect_options
@click.pass_obj
def retry(
    environ: dict[str, str],
    keys: tuple[str, ...],
    replica: str | None,
    error_class: str | None,
    older_than: int | None,
    is_all: bool,
    reason: str | None,
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Try parked copies again: those of KEYS, or those that the options name.

    What is parked because of another object follows that one by itself.
    """
    del dataset
    wanted = {"replica": replica, "error_class": error_class, "older_than_seconds": older_than}
    given = {name: value for name, value in wanted.items() if value is not None}
    if is_all and (keys or given):
        fail("--all goes with nothing else", "leave it out, or the rest")
    if not (is_all or keys or given):
        fail(
            "which ones?",
            "name keys, or --replica, --class, --older-than; --all is all that is parked",
        )
    if reason is not None:
        given["reason"] = reason

    async def work(client: Client) -> None:
        answer = await _ask(client, sorted(set(keys)), given)
        if as_json:
            print_json(answer)
        else:
            click.echo(f"{answer['asked']} copies are tried again")
        if answer["not_parked"]:
            fail(
                f"{len(answer['not_parked'])} of the keys have no parked copy that fits, "
                f"among them {answer['not_parked'][0]}",
                "`tidestore explain KEY` says how it is with one",
            )

    speak(environ, data_folder, url, work)


async def _ask(client: Client, keys: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """Ask in as many calls as it takes; what all of them said together."""
    asked, not_parked = 0, []
    if keys:
        for start in range(0, len(keys), _KEYS_MAX):
            document = {**given, "keys": keys[start : start + _KEYS_MAX]}
            answer = await client.post("/v1/parked/retries", document)
            asked += answer["asked"]
            not_parked += answer["not_parked"]
        return {"asked": asked, "not_parked": not_parked}
    document = given
    # Ends: the cursor goes forward through the replicas and keys there are.
    while True:
        answer = await client.post("/v1/parked/retries", document)
        asked += answer["asked"]
        if not answer["more"]:
            return {"asked": asked, "not_parked": []}
        document = {**given, "cursor": answer["next"]}


@click.command()
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@connect_options
@click.pass_obj
def explain(
    environ: dict[str, str],
    key: str,
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Tell the whole story of KEY: its event, every copy, and why one is not there."""
    del dataset  # the key says it

    async def work(client: Client) -> None:
        story = await client.get("/v1/explanations", key=key)
        if as_json:
            print_json(story)
            return
        for line in story_lines(story, int(time.time() * 1000)):
            click.echo(line)

    speak(environ, data_folder, url, work)
