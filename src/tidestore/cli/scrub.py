"""`tidestore scrub`: compare a replica with the log now, and hand over what is wrong."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tidestore.cli.output import fail, print_json, run_async
from tidestore.cli.serve import config_option, find_config

if TYPE_CHECKING:
    from tidestore.config import Config

# Findings that are printed; all of them are in the topic `findings`.
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a person asked for."""

    is_dry: bool
    stop_percent: int | None
    read_back_gb: float


@click.command()
@click.argument("replica")
@config_option
@click.option("--dry-run", is_flag=True, help="Only tell: hand nothing over, publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--stop-percent", type=click.IntRange(0, 100),
    help="Stop when more than this share looks wrong; 100 never stops.",
)  # fmt: skip
@click.option(
    "--read-back", "read_back_gb", type=click.FloatRange(0), default=0.0, metavar="GB",
    help="Then read so many GB of bytes back, those that were read longest ago first.",
)  # fmt: skip
@click.pass_obj
def scrub(
    environ: dict[str, str],
    replica: str,
    config_path: Path,
    dry_run: bool,
    as_json: bool,
    stop_percent: int | None,
    read_back_gb: float,
) -> None:
    """Compare REPLICA with the log: what is lost, altered, dark, or redacted and still there.

    The workers of REPLICA mend what is lost or altered, from a good copy. Ends with 1 when
    something is wrong.
    """
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.ERROR)
    from tidestore.config import ConfigError, read_config  # noqa: PLC0415
    from tidestore.connectors.errors import StoreError  # noqa: PLC0415
    from tidestore.connectors.kafka import LogError  # noqa: PLC0415

    if dry_run and read_back_gb:
        fail("--dry-run does not go with --read-back", "leave one of them out")
    try:
        settings = _settings(read_config(find_config(config_path), environ).in_use(), replica)
    except ConfigError as error:
        fail(str(error))
    except LogError as error:
        fail(str(error), "`tidestore config check` says what answers")
    asked = _Asked(dry_run, stop_percent, read_back_gb)
    try:
        document = run_async(lambda: _work(settings, asked))
    except (StoreError, LogError) as error:
        hint = getattr(error, "hint", "") or "`tidestore config check` says what answers"
        fail(str(error), hint)
    if as_json:
        print_json(document)
    else:
        _show(document, is_dry=dry_run)
    if document["verdict"] in {"findings", "stopped"} or document["findings"]:
        sys.exit(1)


def _settings(config: Config, replica: str) -> Any:
    """Those of a worker of the replica, in the life that it has now. Raises LogError."""
    from tidestore.local.lives import read_lives  # noqa: PLC0415

    lives = read_lives(config)
    life = lives.served.get(replica)
    if life is None:
        fail(f"there is no replica {replica!r}", f"one of {', '.join(lives.served)}")
    make = config.serving(replica, "command").make_worker
    return make(life, tuple(lives.served.values()), replica == lives.origin)


async def _work(settings: Any, asked: _Asked) -> dict[str, Any]:
    from tidestore.connectors.log import LogWriter  # noqa: PLC0415
    from tidestore.connectors.provision import provision  # noqa: PLC0415
    from tidestore.connectors.registry import make_store  # noqa: PLC0415
    from tidestore.streams.readback import Readback  # noqa: PLC0415
    from tidestore.streams.scrub_merge import RANGES_AT_ONCE  # noqa: PLC0415
    from tidestore.streams.scrub_open import open_scrubber  # noqa: PLC0415
    from tidestore.streams.scrub_uploads import sweep_replica  # noqa: PLC0415

    topics = settings.topics
    if asked.stop_percent is not None:
        chosen = replace(settings.scrub, stop_percent=asked.stop_percent)
        settings = replace(settings, scrub=chosen)
    async with contextlib.AsyncExitStack() as stack:
        _lock(settings.data_folder, stack)
        replicas = [(item.name, item.incarnation) for item in settings.replicas]
        await provision(settings.kafka, topics.specs(replicas, []), replication=topics.replication)
        store = make_store(settings.replica.name, settings.replica.address)
        stack.push_async_callback(store.close)
        await store.open()
        writer = LogWriter(settings.kafka)
        await writer.start()
        stack.push_async_callback(writer.stop)
        scrubber = await open_scrubber(
            settings, store, writer, settings.data_folder, stack,
            keys_per_second_max=0, ranges_at_once=RANGES_AT_ONCE,
        )  # fmt: skip
        outcome = await scrubber.run(is_dry=asked.is_dry)
        swept = await sweep_replica(scrubber, int(time.time() * 1000), is_dry=asked.is_dry)
        read_back: dict[str, Any] | None = None
        findings = list(outcome.findings)
        if asked.read_back_gb:
            readback = Readback(scrubber)
            place = await readback.run(int(asked.read_back_gb * 1e9))
            read_back = {
                "bytes": readback.done_bytes, "rotten": len(readback.findings),
                "round": place.round, "after_key": place.after_key, "stopped": readback.stopped,
            }  # fmt: skip
            findings += readback.findings
        return {**_document(outcome, findings, read_back), "uploads": asdict(swept)}


def _lock(folder: Path, stack: contextlib.AsyncExitStack) -> None:
    """Two commands at once would share a view."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = stack.enter_context((folder / "lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        fail("another `tidestore scrub` of this replica runs here", "wait until it has ended")


def _document(
    outcome: Any, findings: Iterable[Any], read_back: dict[str, Any] | None
) -> dict[str, Any]:
    found = [_finding(item) for item in findings]
    document = asdict(outcome.report)
    if document["statement"]:
        document["statement"] = json.loads(document["statement"])
    document["keys_per_second"] = round(outcome.keys_per_second)
    document["findings"] = found
    document["findings_left_out"] = outcome.findings_left_out
    document["read_back"] = read_back
    return document


def _finding(item: Any) -> dict[str, Any]:
    names = ("kind", "key", "detail", "size", "seen_size", "seen_etag", "first_found_at_ms")
    return {name: getattr(item, name) for name in names}


def _show(document: dict[str, Any], *, is_dry: bool) -> None:
    numbers = ", ".join(
        f"{document[name]} {name}"
        for name in ("equal", "owed", "lost", "altered", "dark", "unredacted", "foreign")
    )
    click.echo(f"{document['replica']}: {document['verdict']}: {numbers}")
    click.echo(f"  {document['listed']} keys listed, {document['keys_per_second']} keys/s")
    uploads = document["uploads"]
    if uploads["abandoned"]:
        done = "found" if is_dry else f"found, {uploads['aborted']} aborted"
        click.echo(f"  {uploads['abandoned']} abandoned uploads {done}")
    for item in document["findings"][:_SHOWN]:
        click.echo(f"  {item['kind']}: {item['key']}: {item['detail']}")
    left = len(document["findings"]) + document["findings_left_out"] - _SHOWN
    if left > 0:
        click.echo(f"  and {left} more; `tidestore log show findings` tells all")
    if document["read_back"]:
        click.echo(f"  {document['read_back']['bytes']} bytes read back, "
                   f"{document['read_back']['rotten']} objects rotten")  # fmt: skip
    if document["reason"]:
        hint = "look at the store; `--stop-percent 100` goes on all the same"
        click.echo(f"STOPPED: {document['reason']}\n  hint: {hint}", err=True)
    elif document["findings"] and not is_dry:
        click.echo("handed to the workers of this replica; `tidestore status` shows them at work")
