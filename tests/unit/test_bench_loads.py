"""The benchmark's loads: their arithmetic, the counting gate, the picture, the aims."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from bench.aims import AIMS
from bench.figures import last_line, summarise
from bench.loads import ALL
from bench.loads.growth import GROWTH, expected_seconds
from bench.loads.outage import OUTAGE
from bench.loads.rclone import RCLONE
from bench.loads.two import TWO
from bench.picture import picture
from bench.proxy import Answers, Counts, Requests
from bench.records import bundles, far_blobs, far_sha256
from bench.table import table
from tests.unit.test_bench import round_of

from tidestore.schemas.manifests import stored_children
from tidestore.schemas.objects import Kind, parse_key


def growth_rows() -> list[dict[str, Any]]:
    """Two sizes of a log."""
    names = ("gateway_cold_s", "worker_cold_s", "lookup_ms", "page_ms", "gateway_peak_mb")
    return [{"events": 10**n, **dict.fromkeys(names, float(n))} for n in (3, 6)]


@pytest.mark.parametrize("names", [("mib",), ("small",), ()])
def test_any_choice_of_bursts_has_a_last_line(names: tuple[str, ...]) -> None:
    """Goal: one load alone can be measured. Method: rounds with some of the loads, or none."""
    rounds = {}
    for side in ("ours", "peer"):
        done = round_of(100, 10, {"gateway": 90.0})
        done["loads"] = {name: done["loads"][name] for name in names}
        rounds[side] = [done]
    summary = summarise(rounds)
    line = last_line(summary, {})
    assert {f"{name}_ratio" for name in names} == {name for name in line if "ratio" in name}
    assert line["idle_p50_ms"] == 10
    assert "idle p50 ms" in table({"summary": summary, "large_object": {}})
    del rounds["ours"][0]["idle"]
    assert "idle_p50_ms" not in last_line(summarise(rounds), {})


def test_every_aim_is_a_name_of_some_load() -> None:
    """Goal: no aim goes unmeasured. Method: names of the bursts, and of all other loads."""
    bursts = {"small_ratio", "mib_ratio", "idle_p50_ms", "idle_p99_ms"}
    found = bursts.union(*(load.names for load in ALL.values()))
    assert AIMS.keys() <= found
    assert all(load.quick_seconds_max <= load.seconds_max for load in ALL.values())


def test_an_aim_knows_on_which_side_of_it_a_figure_is() -> None:
    """Goal: a missed aim is never shown as kept. Method: both directions, and an aim of 0."""
    assert AIMS["small_ratio"].is_met(1.0)
    assert not AIMS["small_ratio"].is_met(0.99)
    assert AIMS["outage_s"].is_met(5.0)
    assert not AIMS["outage_s"].is_met(5.1)
    assert AIMS["outage_s"].share(10.0) == 0.5
    assert not AIMS["origin_reads_inline"].is_met(0.001)
    assert AIMS["origin_reads_inline"].share(0.0) == 1.0


def test_loads_compare_medians_and_say_what_is_only_a_bound() -> None:
    """Goal: one odd round moves no figure, and a bound is no measurement. Method: three rounds."""
    rates = [{"ours": {"objects_per_s": n}, "peer": {"objects_per_s": 10.0}} for n in (5, 8, 900)]
    assert TWO.figures(rates) == {"small_two_ratio": 0.8}
    rounds = [
        {
            "ours": {"all_present_s": seconds, "is_over": False},
            "peer": {"all_present_s": 120.0, "is_over": True},
        }
        for seconds in (1.0, 2.0, 9.0)
    ]
    assert OUTAGE.figures(rounds) == {
        "outage_s": 2.0,
        "peer_outage_s": 120.0,
        "peer_outage_s_is_over": 1.0,
    }
    copied = [
        {
            "mib": {"ours_mb_per_s": 100.0, "rclone_mb_per_s": 50.0},
            "large": {"ours_mb_per_s": 90.0, "rclone_mb_per_s": 100.0},
        }
    ]
    assert RCLONE.figures(copied)["rclone_ratio"] == 0.9


def test_growth_is_told_from_the_smallest_log_to_the_greatest() -> None:
    """Goal: what grows is seen. Method: rows that grow by a known factor."""
    figures = GROWTH.figures([{"rows": growth_rows()}])
    assert figures["growth_events_max"] == 1_000_000
    assert figures["growth_times"] == 1_000
    assert figures["growth_lookup_ms"] == 2.0
    # Starts cost the same at each size; ten times the records cost ten times what grew.
    assert expected_seconds([], 1_000) == 0.0
    assert expected_seconds([(1_000, 20.0)], 10_000) == 40.0
    assert 50 <= expected_seconds([(1_000, 20.0), (10_000, 23.0)], 100_000) <= 80


def test_the_picture_shows_each_figure_and_how_cost_grows() -> None:
    """Goal: a well-formed SVG of what was measured. Method: parse it, look for words and bars."""
    figures = {"small_ratio": 1.2, "outage_s": 50.0, "origin_reads_inline": 0.0, "kill_s": None}
    text = picture(figures, growth_rows(), "a <title>")
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    bars = [item for item in root.iter(f"{space}rect") if item.get("fill") != "white"]
    assert len(bars) == 3
    assert bars[0].get("fill") != bars[1].get("fill"), "one keeps its aim and one does not"
    assert len(list(root.iter(f"{space}polyline"))) == 5
    assert "1,000,000" in text
    ET.fromstring(picture({}, [], "nothing"))


def message(head: str, body: bytes = b"") -> bytes:
    """An HTTP message whose lines end as they must."""
    return head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_the_gate_counts_the_bytes_of_objects_and_nothing_else(step: int) -> None:
    """Goal: what is called an origin read is one. Method: a conversation in slices of each size.

    Among it: a list, a HEAD with a length, a PUT that is told to go on, an error's body, a part of
    an object, and a body in chunks.
    """
    asked = b"".join(
        [
            message("GET /bucket?list-type=2 HTTP/1.1"),
            message("HEAD /bucket/public/blobs/a HTTP/1.1"),
            message(
                "PUT /bucket/public/blobs/a HTTP/1.1\nContent-Length: 30", b"GET /b/c" + b"x" * 22
            ),
            message("GET /bucket/public/blobs/a HTTP/1.1"),
            message("GET /bucket/public/blobs/gone HTTP/1.1"),
            message("GET /bucket/public/blobs/a HTTP/1.1"),
            message("GET /bucket/public/blobs/b HTTP/1.1"),
        ]
    )
    answered = b"".join(
        [
            message("HTTP/1.1 200 OK\nContent-Length: 50", b"l" * 50),
            message("HTTP/1.1 200 OK\nContent-Length: 1000"),
            message("HTTP/1.1 100 Continue"),
            message("HTTP/1.1 200 OK\nContent-Length: 0"),
            message("HTTP/1.1 200 OK\ncontent-length: 300", b"o" * 300),
            message("HTTP/1.1 404 Not Found\nContent-Length: 70", b"e" * 70),
            message("HTTP/1.1 206 Partial Content\nContent-Length: 40", b"p" * 40),
            message(
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked",
                b"5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n",
            ),
        ]
    )
    counts = Counts()
    requests = Requests()
    answers = Answers(requests, counts)
    for reader, data in ((requests, asked), (answers, answered)):
        for start in range(0, len(data), step):
            reader.feed(data[start : start + step])
    assert (counts.object_reads, counts.object_bytes) == (3, 300 + 40 + 8)
    assert not requests.asked, "every request got its answer"


def test_records_of_a_history_are_what_a_gateway_would_have_written() -> None:
    """Goal: what is measured is a true log. Method: bundles name their files, files blobs."""
    made = list(bundles(3))
    keys = {item.key for item in made}
    assert len(keys) == 9
    for item in made:
        if parse_key(item.key).kind is not Kind.BLOB:
            assert item.data is not None
            assert set(stored_children(item.key, item.data)) <= keys
    assert [item.sums.sha256 for item in far_blobs(5, 2)] == [far_sha256(5), far_sha256(6)]
