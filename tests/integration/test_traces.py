"""Spans at a collector: one trace from the PUT to the delivery; none, and no cost, without one."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.servers.collector import Collector
from tidestore.connectors.correlation import correlated, parent_in, span_of, trace_of, traceparent
from tidestore.connectors.traces import (
    ROOT,
    annotate,
    is_tracing,
    span,
    start_traces,
    stop_traces,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    stop_traces()
    found.stop()


def test_spans_of_several_processes_find_their_trace_by_the_request_id_alone(
    collector: Collector,
) -> None:
    """Goal: a copy a week later is in the write's trace. Method: each span from a new provider.

    Nothing but the request id leads from one to another, and it is no trace id itself.
    """
    request_id = f"req-{secrets.token_hex(4)}"
    start_traces(collector.url, "gateway-0")
    with correlated(request_id), span(ROOT, method="PUT"):
        annotate(status=201)
    stop_traces()
    start_traces(collector.url, "worker-gcp-0")
    with correlated(request_id), span("copy", key="k", replica="gcp"):
        annotate(state="present", error_class=None)
    with correlated(request_id), span("deliver", "chg_1", "7", 1):
        header = traceparent(request_id, "chg_1", "7", 1, is_sampled=is_tracing())
    stop_traces()

    write, copied, delivered = collector.of(trace_of(request_id))
    assert len(collector.spans) == 3
    assert (write.name, write.id, write.parent) == ("write", span_of(request_id, ROOT), "")
    assert copied.parent == delivered.parent == write.id
    assert copied.facts == {"key": "k", "replica": "gcp", "state": "present"}
    assert parent_in(header) == (delivered.trace, delivered.id)
    assert header.endswith("-01")


def test_a_failure_is_on_its_span_and_goes_on(collector: Collector) -> None:
    """Goal: a trace shows where it broke. Method: raise inside a span."""
    start_traces(collector.url, "worker-gcp-0")
    with pytest.raises(ValueError, match="broken"), correlated("r"), span("copy"):
        raise ValueError("broken")
    stop_traces()
    (failed,) = collector.spans
    assert failed.is_failed


def test_without_a_collector_nothing_of_it_is_imported() -> None:
    """Goal: no cost and nothing sent unless somebody names where. Method: a fresh process."""
    code = (
        "import sys\n"
        "from tidestore.connectors.correlation import correlated\n"
        "from tidestore.connectors.traces import span, annotate, is_tracing\n"
        "import tidestore.api.context, tidestore.streams.mover, tidestore.connectors.webhook\n"
        "with correlated('r'), span('copy', key='k'):\n"
        "    annotate(state='present')\n"
        "assert not is_tracing()\n"
        "found = [name for name in sys.modules if name.startswith('opentelemetry')]\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
