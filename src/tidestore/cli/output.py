"""How commands speak: errors in one line with a hint, JSON where a program reads."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import click

T = TypeVar("T")


class CommandError(click.ClickException):
    """An error of a command: what went wrong, and what to do about it."""

    def __init__(self, message: str, hint: str = "", exit_code: int = 1) -> None:
        super().__init__(message)
        self.hint = hint
        self.exit_code = exit_code

    def show(self, file: Any = None) -> None:
        """Print the error in its one line, and the hint after it."""
        text = " ".join(self.message.split("\n")) if "\n  " not in self.message else self.message
        click.echo(f"tidestore: {text}", err=True, file=file)
        if self.hint:
            click.echo(f"  hint: {self.hint}", err=True, file=file)


def fail(message: str, hint: str = "", exit_code: int = 1) -> NoReturn:
    """End the command with an error."""
    raise CommandError(message, hint, exit_code)


def print_json(value: object) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(value, ensure_ascii=False, default=str))


def run_async(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a fast event loop; Ctrl-C ends it as an error of the command."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work())
    except KeyboardInterrupt:
        click.echo("tidestore: interrupted", err=True)
        sys.exit(130)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  not on every system
    except ImportError:
        return None
    return uvloop.new_event_loop
