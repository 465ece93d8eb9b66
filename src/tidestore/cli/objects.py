"""`tidestore get` and `tidestore ls`: read what is there."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import click

from tidestore.cli.connect import connect_options, find_connection, speak
from tidestore.cli.output import fail, print_json, run_async
from tidestore.client import Client, ClientError
from tidestore.schemas.manifests import check_name

_UUID = re.compile(r"[0-9a-fA-F-]{36}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = ("blobs", "files", "bundles", "collections")


@click.command()
@click.argument("what")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File or folder to write to.")
@click.option("--version", help="Which version; the latest by default.")
@click.option("--replica", help="Read from this replica only.")
@click.option(
    "--kind",
    type=click.Choice(["auto", "file", "bundle", "collection"]),
    default="auto",
    show_default=True,
)
@connect_options
@click.pass_obj
def get(
    environ: dict[str, str],
    what: str,
    output: Path | None,
    version: str | None,
    replica: str | None,
    kind: str,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """Fetch WHAT, a blob by its sha256, a file or a bundle by its uuid, and check its hash.

    A collection is printed: what it names can be fetched in turn.
    """
    connection = find_connection(environ, data_folder, url)
    asked = {"dataset": dataset, "replica": replica}

    async def work() -> list[Path]:
        async with Client(connection.url, connection.token) as client:
            if kind == "collection":
                path = f"/v1/collections/{what}"
                print_json(await client.get(path, delivery="stream", version=version, **asked))
                return []
            if _SHA256.fullmatch(what):
                return [
                    await _fetch(client, f"/v1/blobs/{what}", what, output or Path(what), asked)
                ]
            if not _UUID.fullmatch(what):
                fail(
                    f"{what!r} is neither a sha256 nor a uuid", "`tidestore ls` shows what is there"
                )
            return await _get_by_uuid(client, what, kind, output, {**asked, "version": version})

    try:
        for path in run_async(work):
            click.echo(path)
    except ClientError as error:
        fail(str(error), error.hint)
    except OSError as error:
        fail(f"cannot write {error.filename}: {error.strerror}")


@click.command()
@click.argument("kind", type=click.Choice(_KINDS), default="bundles")
@click.option("--json", "as_json", is_flag=True, help="One JSON document per line.")
@connect_options
@click.pass_obj
def ls(
    environ: dict[str, str],
    kind: str,
    as_json: bool,
    data_folder: Path,
    url: str | None,
    dataset: str,
) -> None:
    """List objects of KIND, with the replicas where each can be read."""

    async def work(client: Client) -> None:
        async for item in client.pages(f"/v1/{kind}", dataset=dataset):
            if as_json:
                print_json(item)
                continue
            name = item.get("uuid") or item["sha256"]
            places = ",".join(item["present_on"])
            words = [name, item.get("version", ""), f"{item['size']:>12}", places]
            click.echo("  ".join(word for word in [*words, item.get("name") or ""] if word))

    speak(environ, data_folder, url, work)


async def _get_by_uuid(
    client: Client, uuid: str, kind: str, output: Path | None, asked: dict[str, Any]
) -> list[Path]:
    if kind in ("auto", "file"):
        try:
            manifest = await client.head(f"/v1/files/{uuid}", **asked)
            target = output or Path(manifest.name or uuid)
            return [await _fetch(client, f"/v1/files/{uuid}", manifest.sha256, target, asked)]
        except ClientError as error:
            if error.status != 404 or kind == "file":
                raise
    bundle = await client.get(f"/v1/bundles/{uuid}", delivery="stream", **asked)
    folder = output or Path(uuid)
    found = []
    for entry in bundle["files"]:
        # Names come from the store, and the store's writers are not this machine's user.
        target = folder / check_name(entry["name"])
        path = f"/v1/files/{entry['uuid']}"
        one = {**asked, "version": entry["version"]}
        found.append(await _fetch(client, path, entry["sha256"], target, one))
    return found


async def _fetch(
    client: Client, path: str, sha256: str, target: Path, asked: dict[str, Any]
) -> Path:
    """Fetch into a temporary file, compare, rename: a name never holds wrong or half bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as opened:
            async for chunk in client.read(path, **asked):
                digest.update(chunk)
                opened.write(chunk)
        if digest.hexdigest() != sha256:
            raise ClientError(
                f"{path} came with sha256 {digest.hexdigest()}, not {sha256}",
                hint="try another --replica, and tell the operator",
            )
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
