"""The log of a process of a store, as text or as JSON.

In JSON each line is one object. It has FIELDS, and of STORY_FIELDS those that its event has;
docs/operations.md says what each means. With it come the lines of each object's story, one for each
outcome, which the text form leaves out. Spans go to an OpenTelemetry collector if one is named.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import click

from tidestore.cli.output import fail
from tidestore.connectors.correlation import STORY, current_id, trace_of
from tidestore.connectors.traces import TracesUnavailableError, start_traces

FIELDS: Final = (
    "time", "level", "logger", "process", "message", "request_id", "trace_id", "trace",
)  # fmt: skip
STORY_FIELDS: Final = (
    "key", "replica", "state", "size", "position", "attempt", "lag_ms", "error_class",
    "hook_id", "delivery_id", "event", "status", "duration_ms",
)  # fmt: skip
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"

F = TypeVar("F", bound=Callable[..., Any])


def log_option(command: F) -> F:
    """Add `--log-format`."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        help="Lines for people, or JSON with the story of each object; TIDESTORE_LOG_FORMAT.",
    )(command)


class JsonFormatter(logging.Formatter):
    """One line, one JSON object."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter. Characters outside of ASCII are escaped: no terminal is harmed."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "process": self._process,
            "message": record.getMessage(),
        }
        if request_id := current_id():
            line["request_id"], line["trace_id"] = request_id, trace_of(request_id)
        fields: dict[str, object] = getattr(record, "fields", {})
        line.update((name, value) for name, value in fields.items() if value is not None)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(environ: dict[str, str], process: str, log_format: str | None = None) -> None:
    """Log to standard error, in the form that the option says, else TIDESTORE_LOG_FORMAT."""
    level = environ.get("TIDESTORE_LOG", "INFO").upper()
    is_json = (log_format or environ.get("TIDESTORE_LOG_FORMAT", "text")) == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process) if is_json else logging.Formatter(_TEXT))
    logging.basicConfig(handlers=[handler], level=level)
    STORY.setLevel(logging.INFO if is_json else logging.WARNING)
    for name in ("faust", "mode", "aiokafka"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if endpoint := environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""):
        try:
            start_traces(endpoint, process)
        except TracesUnavailableError as error:
            fail(
                f"OTEL_EXPORTER_OTLP_ENDPOINT is set, but: {error}",
                "pip install 'tidestore[tracing]'",
            )
