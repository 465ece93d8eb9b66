"""`tidestore config check`: is the configuration sound, and does everything it names answer?"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from tidestore.cli.output import fail, print_json, run_async
from tidestore.cli.serve import config_option, find_config
from tidestore.config import Config, ConfigError, read_config


@click.group()
def config() -> None:
    """The configuration file."""


@config.command("check")
@config_option
@click.option("--offline", is_flag=True, help="Read the file only; ask no broker and no store.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_obj
def check(
    environ: dict[str, str],
    config_path: Path,
    offline: bool,
    as_json: bool,
) -> None:
    """Read tidestore.toml and ask Kafka and every replica whether they answer.

    Ends with 2 when the file has a mistake, with 1 when something that it names does not answer.
    """
    config_path = find_config(config_path)
    try:
        found = read_config(config_path, environ)
    except ConfigError as error:
        if as_json:
            print_json({"what": str(config_path), "ok": False, "detail": str(error)})
        fail(str(error), exit_code=2)
    findings: list[dict[str, Any]] = [{"what": str(config_path), "ok": True, "detail": "is sound"}]
    if not offline:
        findings += run_async(lambda: _ask(found))
    for finding in findings:
        if as_json:
            print_json(finding)
        else:
            click.echo(
                f"{'ok ' if finding['ok'] else 'BAD'}  {finding['what']}: {finding['detail']}"
            )
    if not all(finding["ok"] for finding in findings):
        fail("not everything answers", "see the lines marked BAD")


async def _ask(found: Config) -> list[dict[str, Any]]:
    from tidestore.connectors.errors import StoreError  # noqa: PLC0415  imports the clouds' libraries
    from tidestore.connectors.kafka import LogError  # noqa: PLC0415
    from tidestore.connectors.provision import check_topics  # noqa: PLC0415
    from tidestore.connectors.registry import make_store  # noqa: PLC0415
    from tidestore.connectors.store import Capabilities  # noqa: PLC0415

    findings: list[dict[str, Any]] = []
    replicas = [(item.name, item.incarnation) for item in found.replicas]
    try:
        now = await asyncio.to_thread(found.in_use)
        specs = now.topics.specs(replicas, list(found.datasets))
        missing = await check_topics(found.kafka, specs)
        detail = f"{len(specs)} topics as they must be"
        if missing:
            detail = f"answers; {len(missing)} topics will be made at the first start"
        findings.append({"what": f"kafka {found.kafka.bootstrap}", "ok": True, "detail": detail})
    except LogError as error:
        findings.append(
            {"what": f"kafka {found.kafka.bootstrap}", "ok": False, "detail": str(error)}
        )
    for item in found.replicas:
        what = f"replica {item.name}"
        store = make_store(item.name, item.address)
        try:
            await store.open()
            gaps = store.capabilities.gaps(Capabilities())
            detail = "answers" + (f"; lacks {', '.join(gaps)}" if gaps else "")
            findings.append({"what": what, "ok": True, "detail": detail})
        except StoreError as error:
            findings.append({"what": what, "ok": False, "detail": str(error)})
        finally:
            await store.close()
    return findings
