"""Spans for OpenTelemetry, for who names a collector; without one, nothing is imported or sent.

    write (gateway)            trace: the request id, or what is derived from it
      |-- append (gateway)     the event in the log
      |-- copy (worker)        one span for each try, of each replica
      |-- announce (feeds)     each time that something is said of the object
      '-- deliver (gateway)    one span for each attempt, named in the delivery's traceparent

The ids of a trace and of its first span follow from the request id (correlation.py), so a worker
that tries a copy a week later, in another process, adds to the right trace without being told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Final

from tidestore.connectors.correlation import current_id, span_of, trace_of

ROOT: Final = "write"
# Spans that wait to be sent; more are dropped, for a collector that is away must not cost memory.
_QUEUE_SPANS: Final = 2_048
_EXPORT_SECONDS: Final = 5
_SPAN_ID: ContextVar[str] = ContextVar("span_id", default="")
_CURRENT: ContextVar[Any] = ContextVar("span", default=None)
_NOTHING: Final = contextlib.nullcontext()


class _Traces:
    """Both are None while no collector was named: nothing else is looked at then."""

    tracer: Any = None
    provider: Any = None


class TracesUnavailableError(Exception):
    """Traces were asked for, and the packages for them are not installed."""


def start_traces(endpoint: str, process: str) -> None:
    """Send spans to a collector, OTLP over HTTP, from now on; what waits is sent at the exit.

    `endpoint` is without `/v1/traces`. Raises TracesUnavailableError.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise TracesUnavailableError(str(error)) from error

    class DerivedIds(RandomIdGenerator):
        """The span that is about to begin may have an id that follows from what it is about."""

        def generate_span_id(self) -> int:
            chosen = _SPAN_ID.get()
            return int(chosen, 16) if chosen else super().generate_span_id()

        def generate_trace_id(self) -> int:
            request_id = current_id()
            return int(trace_of(request_id), 16) if request_id else super().generate_trace_id()

    resource = Resource.create({"service.name": "tidestore", "service.instance.id": process})
    provider = TracerProvider(resource=resource, id_generator=DerivedIds())
    exporter = OTLPSpanExporter(
        endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=_EXPORT_SECONDS
    )
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=_QUEUE_SPANS))
    _Traces.provider, _Traces.tracer = provider, provider.get_tracer("tidestore")


def stop_traces() -> None:
    """Send what waits, and stop."""
    if _Traces.provider is not None:
        _Traces.provider.shutdown()
        _Traces.provider = _Traces.tracer = None


def is_tracing() -> bool:
    """Whether a collector was named."""
    return _Traces.tracer is not None


def span(
    name: str, *parts: object, parent: tuple[str, str] | None = None, **facts: object
) -> AbstractContextManager[None]:
    """Do something for the present request as a span of its trace.

    `parts` say what the span is about, and so its id; without any it gets one of its own. The
    request's first span is ROOT, below the client's own `parent` (trace and span) if it has one;
    all others are its children. `facts` become attributes.
    """
    return _NOTHING if _Traces.tracer is None else _span(name, parts, parent, facts)


def annotate(**facts: object) -> None:
    """Say how it went, on the span that is being worked for."""
    if _Traces.tracer is not None and (current := _CURRENT.get()) is not None:
        current.set_attributes(_attributes(facts))


@contextlib.contextmanager
def _span(
    name: str, parts: tuple[object, ...], parent: tuple[str, str] | None, facts: dict[str, object]
) -> Iterator[None]:
    from opentelemetry import trace  # noqa: PLC0415  it is there: start_traces imported it

    request_id = current_id()
    if request_id and name != ROOT:
        parent = (trace_of(request_id), span_of(request_id, ROOT))
    about = (ROOT,) if name == ROOT else parts
    chosen = _SPAN_ID.set(span_of(request_id, *about) if request_id and about else "")
    try:
        started = _Traces.tracer.start_span(
            name, context=_below(parent), attributes=_attributes(facts)
        )
    finally:
        _SPAN_ID.reset(chosen)
    current = _CURRENT.set(started)
    try:
        yield
    except Exception as error:
        started.record_exception(error)
        started.set_status(trace.StatusCode.ERROR)
        raise
    finally:
        _CURRENT.reset(current)
        started.end()


def _below(parent: tuple[str, str] | None) -> Any:
    """The context of a child; without a parent an empty one, so that nothing is inherited."""
    from opentelemetry import context, trace  # noqa: PLC0415

    if parent is None:
        return context.Context()
    place = trace.SpanContext(
        int(parent[0], 16), int(parent[1], 16),
        is_remote=True, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )  # fmt: skip
    return trace.set_span_in_context(trace.NonRecordingSpan(place), context.Context())


def _attributes(facts: dict[str, object]) -> dict[str, Any]:
    return {f"tidestore.{name}": value for name, value in facts.items() if value is not None}
