"""`tidestore replica join` and `leave`: a third party's replica, kept on their machine."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from tidestore.cli.output import fail, print_json, run_async
from tidestore.cli.telemetry import log_option, set_up_logging
from tidestore.client import Client, ClientError
from tidestore.client.kit.follow import Follower
from tidestore.client.kit.leaving import join as take_part
from tidestore.client.kit.leaving import leave as take_leave
from tidestore.client.kit.state import InUseError, State, name_in
from tidestore.config.keys import CredentialFile
from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import StoreError
from tidestore.connectors.marker import PlaceRefusedError
from tidestore.connectors.registry import make_store
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.objects import MalformedError

# A large object takes as long as its line; a silent line is noticed all the same.
_TOTAL_SECONDS: Final = 24 * 3600.0
_SILENCE_SECONDS: Final = 60.0

_state_option = click.option(
    "--state",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to remember what is done; by default a folder for each replica.",
)
_credential_option = click.option(
    "--credential",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with your store's credentials; see docs/run-a-replica.md.",
)


@click.command("join")
@click.argument("gateway")
@click.option("--token", help="As you were given it; TIDESTORE_TOKEN is better: nobody sees it.")
@click.option("--to", "place", help="Your store: s3://..., gs://..., az://... or file:///...")
@_credential_option
@_state_option
@click.option("--once", is_flag=True, help="Go to the end of the feed, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print what there is at the end as JSON.")
@log_option
@click.pass_obj
def join(
    environ: dict[str, str],
    gateway: str,
    token: str | None,
    place: str | None,
    credential: Path | None,
    folder: Path | None,
    once: bool,
    as_json: bool,
    log_format: str | None,
) -> None:
    """Keep a replica of the store at GATEWAY, with your credentials, on your machine.

    Started again it goes on where it was; token and place need not be named again.
    """
    with _told():
        asked = token or environ.get("TIDESTORE_TOKEN", "")
        state, name = _open(environ, folder, asked)
        set_up_logging(environ, f"replica-{name}", log_format)
        held = asked or state.token
        found = place or state.fact("place")
        if not found:
            fail("your store is not named", "--to s3://bucket/prefix, or file:///a/folder")
        if state.fact("place") not in ("", found):
            fail(
                f"this replica lies in {state.fact('place')}", "choose another --state for another"
            )
        store = _store(environ, name, found, credential, state)
        done = run_async(lambda: _keep(gateway, held, store, state, name, found, once=once))
        if as_json:
            print_json({"name": name, **done})
        if once and done["owed"]:
            fail(f"{done['owed']} objects are not here", "the lines above say why; run it again")


@click.command("leave")
@click.argument("gateway")
@click.option("--token", help="The token, if this machine has forgotten it.")
@_credential_option
@_state_option
@click.option("--delete-objects", is_flag=True, help="Erase the objects, too.")
@click.pass_obj
def leave(
    environ: dict[str, str],
    gateway: str,
    token: str | None,
    credential: Path | None,
    folder: Path | None,
    delete_objects: bool,
) -> None:
    """Stop keeping a replica: marker, token and memory go; the objects only if asked for."""
    with _told():
        state, name = _open(environ, folder, token or environ.get("TIDESTORE_TOKEN", ""))
        place = state.fact("place")
        if not place:
            fail("no replica is kept here", "name its folder with --state")
        store = _store(environ, name, place, credential, state)

        async def work() -> int:
            held = token or state.token
            async with Client(gateway, held) as client:
                try:
                    await store.open()
                    return await take_leave(
                        client, store, state, name, delete_objects=delete_objects
                    )
                finally:
                    await store.close()

        erased = run_async(work)
        words = f", {erased} objects erased" if delete_objects else "; the objects stay"
        click.echo(f"{name} has left{words}")


async def _keep(
    gateway: str, token: str, store: ObjectStore, state: State, name: str, place: str, *, once: bool
) -> dict[str, int]:
    async with Client(
        gateway, token, total_seconds=_TOTAL_SECONDS, silence_seconds=_SILENCE_SECONDS
    ) as client:
        try:
            party = await take_part(client, store, state, name)
            state.note({"name": name, "place": place})
            state.keep_token(token)
            follower = Follower(client, store, state, name, party["datasets"])
            if once:
                await follower.catch_up()
            else:
                await _until_told(follower)
            return state.counts()
        finally:
            await store.close()


async def _until_told(follower: Follower) -> None:
    """Until SIGTERM or Ctrl-C; what is under way is broken off, and done again."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = asyncio.ensure_future(follower.run(stop))
    asked = asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, asked], return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if running.done():
        running.result()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def _open(environ: dict[str, str], folder: Path | None, token: str) -> tuple[State, str]:
    """The memory of the replica that is meant, and its name."""
    if folder is None:
        if not token:
            fail("which replica?", "set TIDESTORE_TOKEN, or name its folder with --state")
        base = environ.get("XDG_STATE_HOME")
        root = Path(base) if base else Path.home() / ".local/state"
        folder = root / "tidestore" / "replicas" / name_in(token)
    state = State(folder)
    held = token or state.token
    if not held:
        state.close()
        fail("no token is kept there", "set TIDESTORE_TOKEN to the one that you were given")
    name = name_in(held)
    if state.fact("name") not in ("", name):
        state.close()
        fail(f"{folder} is of the replica {state.fact('name')}", "name another folder with --state")
    return state, name


def _store(
    environ: dict[str, str], name: str, place: str, credential: Path | None, state: State
) -> ObjectStore:
    if credential is not None:
        state.note({"credential": str(credential.absolute())})
    path = state.fact("credential")
    source = CredentialFile(Path(path), environ) if path else None
    if source is not None:
        source.read()  # what is wrong with it is said here, and not by the store
    return make_store(name, StoreAddress.parse(place).keyed(source))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Errors in one line with a hint."""
    try:
        yield
    except ClientError as error:
        hint = error.hint
        if error.status == 401:
            hint = "the token opens nothing (any more); `tidestore replica leave` cleans up here"
        fail(str(error), hint)
    except PlaceRefusedError as error:
        fail(str(error), error.hint)
    except (MalformedError, StoreError) as error:
        fail(str(error), error.hint)
    except InUseError as error:
        fail(str(error), "one process at a time")
    except OSError as error:
        fail(f"cannot keep its memory: {error}", "choose another place with --state")
