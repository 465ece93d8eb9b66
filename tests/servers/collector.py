"""An OpenTelemetry collector for tests: OTLP over HTTP, keeps each span and who sent it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Seen:
    """One span as it came."""

    process: str
    name: str
    trace: str
    id: str
    parent: str
    facts: dict[str, str | int]
    is_failed: bool


class Collector:
    """Listens on loopback from its making on."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def of(self, trace: str) -> list[Seen]:
        """The spans of a trace that came so far."""
        return [span for span in list(self.spans) if span.trace == trace]

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kept = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/v1/traces":
                    self.send_error(404)
                    return
                kept.extend(_spans(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def _spans(body: bytes) -> list[Seen]:
    found = []
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        facts = _facts(group.resource.attributes)
        assert facts["service.name"] == "tidestore"
        for scope in group.scope_spans:
            found += [
                Seen(
                    str(facts["service.instance.id"]), span.name, span.trace_id.hex(),
                    span.span_id.hex(), span.parent_span_id.hex(), _facts(span.attributes),
                    span.status.code == 2,
                )
                for span in scope.spans
            ]  # fmt: skip
    return found


def _facts(attributes: Any) -> dict[str, str | int]:
    return {
        item.key.removeprefix("tidestore."): item.value.string_value or item.value.int_value
        for item in attributes
    }
