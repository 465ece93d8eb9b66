"""Which gateway a command speaks to: TIDESTORE_URL and TIDESTORE_TOKEN, else the stack run here."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from tidestore.cli.output import fail, run_async
from tidestore.client import Client, ClientError
from tidestore.local.layout import Layout, cache_folder

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connection:
    """A gateway's address and the token to write with; the stack's folder if it is a local one."""

    url: str
    token: str
    layout: Layout | None


def connect_options(command: F) -> F:
    """Options of every command that speaks to a gateway."""
    data = click.option(
        "--data",
        "data_folder",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="TIDESTORE_DATA",
        default=Path(".tidestore"),
        show_default=True,
        help="The stack that `tidestore run` keeps there.",
    )
    url = click.option("--url", envvar="TIDESTORE_URL", help="The gateway, if it is another one.")
    dataset = click.option("--dataset", default="public", show_default=True)
    return data(url(dataset(command)))


def find_connection(environ: dict[str, str], data_folder: Path, url: str | None) -> Connection:
    """The gateway that is meant; ends the command when there is none."""
    token = environ.get("TIDESTORE_TOKEN", "")
    if url:
        return Connection(url, token, None)
    layout = Layout(data_folder.absolute(), cache_folder(environ))
    found = layout.read_state().get("url")
    if not isinstance(found, str):
        fail(
            f"no stack lies in {data_folder}",
            "start one with `tidestore run`, or name a gateway with --url or TIDESTORE_URL",
        )
    if not token and layout.token.exists():
        token = layout.token.read_text("utf-8").strip()
    return Connection(found, token, layout)


def speak(
    environ: dict[str, str],
    data_folder: Path,
    url: str | None,
    call: Callable[[Client], Coroutine[Any, Any, T]],
) -> T:
    """What `call` makes of the gateway that is meant; its refusal ends the command with a hint."""
    connection = find_connection(environ, data_folder, url)

    async def work() -> T:
        async with Client(connection.url, connection.token) as client:
            return await call(client)

    try:
        return run_async(work)
    except ClientError as error:
        fail(str(error), error.hint)
