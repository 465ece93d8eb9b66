"""The log as JSON, and one id for everything that is done for one write."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from tests.unit.made import copy
from tests.unit.ours import text_of

from tidestore.cli.telemetry import FIELDS, STORY_FIELDS, JsonFormatter
from tidestore.connectors.correlation import (
    STORY,
    correlated,
    current_id,
    parent_in,
    span_of,
    tell,
    trace_of,
    traceparent,
)
from tidestore.connectors.webhook import Delivery, _correlation
from tidestore.schemas.events import CopyState
from tidestore.streams.story import tell_outcome

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What the story's logger writes as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("worker-gcp-0"))
    STORY.addHandler(handler)
    STORY.setLevel(logging.INFO)
    yield stream
    STORY.removeHandler(handler)
    STORY.setLevel(logging.NOTSET)


def test_a_line_is_one_json_object_with_the_id_of_its_request(lines: io.StringIO) -> None:
    """Goal: a program can follow one write. Method: a story line inside and outside a request."""
    with correlated("req-7"):
        tell("written", key="public/blobs/é\n", position="1.2.3", state=None)
    tell("written", key="k")
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert first["request_id"] == "req-7"
    assert (first["key"], first["position"]) == ("public/blobs/é\n", "1.2.3")
    assert "state" not in first, "what is not known is left out"
    assert "request_id" not in second
    assert (first["process"], first["level"], first["message"]) == (
        "worker-gcp-0", "INFO", "written",
    )  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert current_id() == ""


def test_an_error_keeps_its_trace_on_the_same_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("nobody foresaw")
    except ValueError:
        STORY.exception("broke")
    (line,) = lines.getvalue().splitlines()
    assert "ValueError: nobody foresaw" in json.loads(line)["trace"]


def test_every_field_is_documented_and_no_other(lines: io.StringIO) -> None:
    """Goal: the fields are a contract. Method: the documents' table against the code's lists."""
    text = text_of("docs/operations.md").split("## Following one object\n", 1)[1]
    text = text.split("\n## ", 1)[0]
    rows = [row for row in text.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {*FIELDS, *STORY_FIELDS}
    tell_outcome(copy(state=CopyState.PENDING, error_class="network"))
    assert json.loads(lines.getvalue()).keys() <= named


def test_without_json_nothing_is_told_of_single_objects() -> None:
    """Goal: no cost for who does not ask. Method: the story's logger as text leaves it."""
    STORY.setLevel(logging.WARNING)
    try:
        assert not STORY.isEnabledFor(logging.INFO)
    finally:
        STORY.setLevel(logging.NOTSET)


def test_a_trace_is_derived_from_the_id_and_is_it_where_it_can_be() -> None:
    """Goal: W3C ids without another field. Method: ids of both kinds, and the two that are not."""
    assert trace_of(TRACE) == TRACE
    for other in ("req-1", TRACE.upper(), "0" * 32, TRACE + "0"):
        found = trace_of(other)
        assert re.fullmatch("[0-9a-f]{32}", found)
        assert found == trace_of(other) != other
    assert span_of("a", "b", 1) == span_of("a", "b", 1) != span_of("a", "b1")


def test_a_delivery_carries_the_id_and_each_attempt_its_own_span() -> None:
    """Goal: the receiver's logs meet ours. Method: the headers of two attempts, and of a ping."""
    one, two = (
        _correlation(Delivery("chg_1", "object.written", b"", "7", attempt, TRACE))
        for attempt in (1, 2)
    )
    assert one["X-Request-Id"] == two["X-Request-Id"] == TRACE
    assert one["traceparent"] != two["traceparent"]
    assert parent_in(one["traceparent"]) == (TRACE, span_of(TRACE, "chg_1", "7", 1))
    assert _correlation(Delivery("ping_1", "ping", b"", "7", 1)) == {}
    assert _correlation(Delivery("chg_1", "x", b"", "7", 1, "a\r\nHost: evil")) == {}


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}",
        "x",
    ],
)
def test_a_header_that_is_no_traceparent_is_passed_over(header: str) -> None:
    assert parent_in(header) is None
    assert parent_in(traceparent("req-1", "span")) == (trace_of("req-1"), span_of("req-1", "span"))
