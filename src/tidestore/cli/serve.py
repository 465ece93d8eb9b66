"""The processes of a store: gateway, workers, feeds. Each runs until SIGTERM or until it breaks."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import click

from tidestore.cli.memory import collect_less_often, return_large_blocks
from tidestore.cli.output import fail, run_async
from tidestore.cli.telemetry import log_option, set_up_logging

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("tidestore.toml"),
    show_default=True,
    help="The configuration file.",
)


def find_config(path: Path) -> Path:
    """The file that was named; without one, that of the stack which `tidestore run` keeps here."""
    local = Path(".tidestore/tidestore.toml")
    if path == Path("tidestore.toml") and not path.exists() and local.exists():
        return local
    return path


class Worker(Protocol):
    """What all kinds of worker can do."""

    async def start(self) -> None:
        """Open everything and join the group."""
        ...

    async def run(self) -> None:
        """Wait for the end."""
        ...

    async def stop(self) -> None:
        """Finish and close."""
        ...


@click.command()
@config_option
@click.option("--id", "gateway_id", default="0", help="Names this gateway among several.")
@click.option("--port", type=int, help="Listen here instead of where the configuration says.")
@log_option
@click.pass_obj
def gateway(
    environ: dict[str, str],
    config_path: Path,
    gateway_id: str,
    port: int | None,
    log_format: str | None,
) -> None:
    """Serve the API."""
    set_up_logging(environ, f"gateway-{gateway_id}", log_format)
    config = _read(config_path, environ)
    from tidestore.api.app import serve  # noqa: PLC0415  imports aiohttp and the stores

    async def work() -> None:
        stop = _stop_on_signals()
        await serve(config.gateway(gateway_id, port), stop)

    _run(work)


@click.command()
@click.argument("replica", required=False)
@click.option("--all", "is_for_all", is_flag=True, help="Serve every replica there is, or comes.")
@config_option
@click.option("--id", "worker_id", default="0", help="Names this worker; keep it over restarts.")
@click.option("--metrics-port", type=int, help="Answer Prometheus here, on the gateway's host.")
@log_option
@click.pass_obj
def worker(
    environ: dict[str, str],
    replica: str | None,
    is_for_all: bool,
    config_path: Path,
    worker_id: str,
    metrics_port: int | None,
    log_format: str | None,
) -> None:
    """Copy objects to REPLICA, or to all: then in a process for each replica."""
    if (replica is None) is not is_for_all:
        fail("name one replica, or say --all", "`tidestore replica ls` lists them")
    if replica is None and metrics_port is not None:
        fail("--all has no metrics of its own", "its children cannot share a port; name a replica")
    set_up_logging(environ, f"worker-{replica or 'all'}-{worker_id}", log_format)
    config = _read(config_path, environ)
    if replica is None:
        words = ["--id", worker_id, "--config", str(config_path)]
        words += ["--log-format", log_format] if log_format else []
        from tidestore.cli.workers import Workers  # noqa: PLC0415

        _run(lambda: _work(config, lambda _: Workers(config, words, environ)))
        return
    from tidestore.streams.metrics import WorkerMetrics  # noqa: PLC0415
    from tidestore.streams.serving import ServingWorker  # noqa: PLC0415

    metrics = WorkerMetrics()

    async def work() -> None:
        if metrics_port is not None:
            metrics.serve(config.host, metrics_port)
        await _work(config, lambda now: ServingWorker(now.serving(replica, worker_id), metrics))

    _run(work)


@click.command()
@config_option
@click.option("--id", "worker_id", default="0", help="Names this worker; keep it over restarts.")
@log_option
@click.pass_obj
def feeds(
    environ: dict[str, str], config_path: Path, worker_id: str, log_format: str | None
) -> None:
    """Announce changes of objects on the feed topics."""
    set_up_logging(environ, f"feeds-{worker_id}", log_format)
    config = _read(config_path, environ)
    from tidestore.streams.feeds import FeedsWorker  # noqa: PLC0415

    _run(lambda: _work(config, lambda now: FeedsWorker(now.feeds(worker_id))))


async def _work(config: Any, make: Callable[[Any], Worker]) -> None:
    """Keep a worker running in the log's newest generation, until told to stop or it breaks."""
    from tidestore.connectors.generations import GenerationMovedError  # noqa: PLC0415

    stop = _stop_on_signals()
    while not stop.is_set():
        now = await asyncio.to_thread(config.in_use)
        try:
            await _work_once(make(now), stop)
        except GenerationMovedError as moved:
            logging.getLogger("tidestore").warning("going over: %s", moved)


async def _work_once(made: Worker, stop: asyncio.Event) -> None:
    """Start a worker, wait for its end or ours, stop it. A worker that broke ends with an error."""
    asked = asyncio.create_task(stop.wait())
    try:
        await made.start()
        running = asyncio.create_task(made.run())
        await asyncio.wait([running, asked], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        else:
            running.cancel()
    finally:
        asked.cancel()
        await made.stop()
    if not stop.is_set():
        raise RuntimeError("the worker broke; see the lines above")


def _run(work: Any) -> None:
    from tidestore.connectors.errors import StoreError  # noqa: PLC0415
    from tidestore.connectors.kafka import LogError  # noqa: PLC0415
    from tidestore.schemas.objects import MalformedError  # noqa: PLC0415

    return_large_blocks()
    collect_less_often()
    try:
        run_async(work)
    except (StoreError, LogError, MalformedError) as error:
        fail(str(error), getattr(error, "hint", ""))
    except OSError as error:
        fail(f"cannot serve: {error.strerror or error}", "is the port in use?")
    except RuntimeError as error:
        fail(str(error))
    except Exception as error:
        # A service's log is where its trace belongs.
        logging.getLogger("tidestore").exception("broke")
        fail(f"broke: {type(error).__name__}: {error}", "the trace above is worth a report")


def _stop_on_signals() -> asyncio.Event:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, _show_tasks)
    return stop


def _show_tasks() -> None:
    """SIGUSR1: write to the log what every task is waiting for."""
    for task in asyncio.all_tasks():
        frames = [
            f"{f.f_code.co_filename}:{f.f_lineno} {f.f_code.co_name}" for f in task.get_stack()
        ]
        logging.getLogger("tidestore.tasks").warning("%s: %s", task.get_name(), " < ".join(frames))


def _read(path: Path, environ: dict[str, str]) -> Any:
    from tidestore.config import ConfigError, read_config  # noqa: PLC0415

    try:
        return read_config(path, environ)
    except ConfigError as error:
        fail(str(error))
