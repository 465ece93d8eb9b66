"""The command `tidestore` and its verbs. Each is imported when called: start-up stays quick."""

from __future__ import annotations

from importlib import import_module
from typing import ClassVar

import click

from tidestore import __version__


class LazyGroup(click.Group):
    """A group that knows where its commands are, and imports only the one that is called."""

    places: ClassVar[dict[str, str]] = {
        "config": "tidestore.cli.config:config",
        "demo": "tidestore.cli.run:demo",
        "explain": "tidestore.cli.parked:explain",
        "feeds": "tidestore.cli.serve:feeds",
        "gateway": "tidestore.cli.serve:gateway",
        "get": "tidestore.cli.objects:get",
        "hook": "tidestore.cli.hooks:hook",
        "lift": "tidestore.cli.redact:lift",
        "log": "tidestore.cli.log:log",
        "ls": "tidestore.cli.objects:ls",
        "migrate": "tidestore.cli.migrate:migrate",
        "parked": "tidestore.cli.parked:parked",
        "plan": "tidestore.cli.plan:plan",
        "put": "tidestore.cli.put:put",
        "recover": "tidestore.cli.recover:recover",
        "redact": "tidestore.cli.redact:redact",
        "replica": "tidestore.cli.replica:replica",
        "retry": "tidestore.cli.parked:retry",
        "run": "tidestore.cli.run:run",
        "scrub": "tidestore.cli.scrub:scrub",
        "smoke": "tidestore.cli.run:smoke",
        "statement": "tidestore.cli.statement:statement",
        "status": "tidestore.cli.status:status",
        "verify": "tidestore.cli.verify:verify",
        "worker": "tidestore.cli.serve:worker",
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs."""
        del ctx
        return sorted(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        del ctx
        place = self.places.get(cmd_name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidestore")
def cli() -> None:
    """Replicated data store over many clouds, with the state of every copy visible."""
