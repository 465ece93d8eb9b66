"""`tidestore redact` and `lift`: take something away everywhere, and back within its grace."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from tidestore.cli.connect import connect_options, speak
from tidestore.cli.output import fail, print_json
from tidestore.client import Client
from tidestore.schemas.objects import Kind, MalformedError, check_uuid, parse_key

# Names of each list that are printed; --json has up to 100.
_NAMES_MAX: Final = 10


def place_of(target: str) -> tuple[str, dict[str, str]]:
    """The API's path and parameters of a key, or of `<dataset>/<kind>s/<uuid>`.

    Raises MalformedError.
    """
    dataset, _, rest = target.partition("/")
    plural, _, name = rest.partition("/")
    kind = Kind.from_plural(plural)
    parameters = {"dataset": dataset}
    if kind is not Kind.BLOB and "." not in name:
        return f"/v1/{plural}/{check_uuid(name)}", parameters
    parts = parse_key(target)
    if parts.version:
        parameters["version"] = parts.version
    return f"/v1/{plural}/{parts.sha256 or parts.uuid}", parameters


@click.command()
@click.argument("key")
@click.option("--reason", required=True, help="Why; readers are shown it with every 410.")
@click.option(
    "--grace-seconds",
    type=click.IntRange(min=0),
    help="How long it can be lifted; by default what the store is configured to.",
)
@click.option("--yes", is_flag=True, help="Do not ask after the preview.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON; needs --yes.")
@connect_options
@click.pass_obj
def redact(
    environ: dict[str, str],
    key: str,
    reason: str,
    grace_seconds: int | None,
    yes: bool,
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Take KEY away from every replica: a key, or DATASET/KINDs/UUID for all its versions.

    Shows what goes, what goes along, and what refers to it, and asks. Needs an admin's token.
    """
    del dataset  # the key says it
    if as_json and not yes:
        fail("--json cannot ask", "add --yes when you have seen the preview")
    try:
        path, parameters = place_of(key)
    except MalformedError as error:
        fail(f"{key} is no key: {error}", "`tidestore ls` shows keys")
    order: dict[str, Any] = {"reason": reason}
    if grace_seconds is not None:
        order["grace_seconds"] = grace_seconds

    async def work(client: Client) -> None:
        preview = await client.delete(path, preview="true", **parameters)
        if not as_json:
            for line in preview_lines(preview):
                click.echo(line)
        if not yes and not click.confirm("Take all of this away?"):
            fail("nothing was changed")
        order["token"] = preview["token"]
        done = await client.delete(path, document=order, **parameters)
        if as_json:
            print_json(done)
            return
        click.echo(f"redacted: {done['reason']}")
        click.echo(f"`tidestore explain {(done['keys'] or [key])[0]}` follows its removal")

    speak(environ, data_folder, url, work)


@click.command()
@click.argument("key")
@click.option("--reason", required=True, help="Why; kept for ever with who and when.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@connect_options
@click.pass_obj
def lift(
    environ: dict[str, str],
    key: str,
    reason: str,
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Take the redaction of KEY back, within its grace: just what was given to `redact`."""
    del dataset  # the key says it

    async def work(client: Client) -> None:
        document = {"target": key, "reason": reason}
        done = await client.post("/v1/redactions/lifts", document)
        if as_json:
            print_json(done)
            return
        for name in done["keys"][:_NAMES_MAX]:
            click.echo(f"  comes back: {name}")
        click.echo(f"lifted: {key}")

    speak(environ, data_folder, url, work)


def preview_lines(preview: dict[str, Any]) -> list[str]:
    """A preview for people."""
    lines = _names("goes", preview["keys"], preview["keys_count"])
    lines += _names("goes along", preview["takes_along"], preview["takes_along_count"])
    for kept in preview["keeps"][:_NAMES_MAX]:
        lines.append(f"  stays: {kept['key']}, named by {kept['named_by'][0]}")
    lines += _names("refers to it", preview["referred_by"], preview["referred_by_count"])
    if not preview["is_complete"]:
        lines.append("  more may refer to it: not all manifests could be read")
    lines.append("  beyond our hand:")
    lines += [f"    {line}" for line in preview["beyond_our_hand"]]
    return lines


def _names(word: str, names: list[str], count: int) -> list[str]:
    lines = [f"  {word}: {name}" for name in names[:_NAMES_MAX]]
    if count > len(lines):
        lines.append(f"  {word}: {count - len(lines)} more")
    return lines
