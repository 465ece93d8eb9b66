"""The benchmark's arithmetic: a wrong percentile or ratio would praise or blame the wrong thing."""

from __future__ import annotations

import json
import re
import socket
import threading
from typing import Any

import pytest
from bench.figures import last_line, over_rounds, per_object, percentile, summarise
from bench.table import table
from bench.wire import Connection, Listed, S3Server, WireError, read_listing
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


def round_of(objects_per_s: float, idle: float, rss: dict[str, float]) -> dict[str, Any]:
    """One round with plain figures."""
    burst = {
        "objects_per_s": objects_per_s,
        "mb_per_s": objects_per_s / 2,
        "all_acked_s": 1.0,
        "all_present_s": 2.0,
        "ack_to_seen_ms": {"p50": 3.0},
        "cpu_ms_per_object": {"kafka": 1.0, "all": 2.0},
    }
    idle_figures = {"lag_ms": {"p50": idle, "p99": 2 * idle}, "ack_ms": {"p50": 1.0}}
    return {"loads": {"small": burst, "mib": burst}, "idle": idle_figures, "rss_mb": rss}


def test_a_percentile_is_a_sample_that_enough_others_do_not_exceed() -> None:
    """Goal: p50 and p99 mean what people take them for. Method: samples counted by hand."""
    samples = [float(number) for number in range(1, 201)]
    assert percentile(samples, 0.5) == 100.0
    assert percentile(samples, 0.99) == 198.0
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 0.5)


def test_cpu_per_object_counts_only_what_was_used_meanwhile() -> None:
    """Goal: start-up is not charged to objects. Method: two readings of two processes."""
    before, after = {"gateway": 5.0, "kafka": 1.0}, {"gateway": 6.0, "kafka": 1.5}
    assert per_object(before, after, 1000) == {"gateway": 1.0, "kafka": 0.5, "all": 1.5}


def test_the_last_line_compares_medians_and_names_our_greatest_process() -> None:
    """Goal: one bad round moves no ratio, and only our own memory counts. Method: three rounds."""
    ours = [
        round_of(200, 10, {"gateway": 100.0, "minio-source": 900.0}),
        round_of(10, 90, {"gateway": 120.0, "worker-target": 110.0}),
        round_of(300, 20, {"gateway": 90.0}),
    ]
    peer = [round_of(400, 30, {"minio-source": 500.0}) for _ in range(3)]
    summary = summarise({"ours": ours, "peer": peer})
    line = last_line(summary, {"rss_mb": {"worker-target": 250.0}, "mb_per_s": 9.0, "gib": 5.0})
    assert line["small_ratio"] == 0.5
    assert line["mib_ratio"] == 0.5
    assert (line["idle_p50_ms"], line["idle_p99_ms"]) == (20.0, 40.0)
    assert (line["peer_idle_p50_ms"], line["peer_idle_p99_ms"]) == (30.0, 60.0)
    assert line["rss_mb_max"] == 250.0
    assert last_line(summary, {})["rss_mb_max"] == 120.0
    json.dumps(line)


def test_the_table_shows_both_sides_and_their_ratio() -> None:
    """Goal: a person reads the comparison off one line. Method: look for it."""
    rounds = {"ours": [round_of(100, 10, {})], "peer": [round_of(400, 20, {})]}
    text = table({"summary": summarise(rounds), "large_object": {}})
    row = next(line for line in text.splitlines() if line.startswith("small: objects/s"))
    assert row.split()[2:] == ["100", "400", "0.25"]


def test_over_rounds_keeps_the_extremes() -> None:
    """Goal: a wide spread is seen. Method: figures counted by hand."""
    assert over_rounds([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0}


def test_a_listing_is_read_with_size_and_etag() -> None:
    """Goal: presence is judged by what the store lists. Method: S3's own form, both quotings."""
    page = (
        b"<ListBucketResult><Contents><Key>public/blobs/aa</Key><ETag>&#34;0f&#34;</ETag>"
        b"<Size>4096</Size></Contents><Contents><Key>public/blobs/bb</Key>"
        b'<ETag>"1e-2"</ETag><Size>7</Size></Contents></ListBucketResult>'
    )
    assert read_listing(page) == {
        "public/blobs/aa": Listed("0f", 4096),
        "public/blobs/bb": Listed("1e-2", 7),
    }
    with pytest.raises(WireError, match="without key or size"):
        read_listing(b"<Contents><Key>a</Key></Contents>")


def test_a_signature_is_the_one_that_s3_computes() -> None:
    """Goal: our own signing is right. Method: botocore signs the same request too."""
    server = S3Server(9000, "key", "secret")
    query = {"list-type": "2", "prefix": "public/blobs/"}
    head = server.head_of("GET", "/bucket", query).decode()
    moment = re.search(r"x-amz-date: (\S+)", head)
    assert moment is not None
    request = AWSRequest("GET", "http://127.0.0.1:9000/bucket", params=query)
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    request.headers["X-Amz-Date"] = moment[1]
    request.context["timestamp"] = moment[1]
    auth = S3SigV4Auth(Credentials("key", "secret"), "s3", "us-east-1")
    canonical = auth.canonical_request(request).replace(auth.payload(request), "UNSIGNED-PAYLOAD")
    signed = auth.signature(auth.string_to_sign(request, canonical), request)
    assert f"Signature={signed}\r\n" in head


class OneAnswer:
    """A server on a socket pair: gives prepared bytes, however they are cut."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.ours, theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, args=(theirs, pieces), daemon=True)
        self._thread.start()

    @staticmethod
    def _serve(end: socket.socket, pieces: list[bytes]) -> None:
        with end:
            end.recv(65_536)
            for piece in pieces:
                end.sendall(piece)


@pytest.mark.parametrize(
    ("pieces", "status", "body"),
    [
        ([b"HTTP/1.1 201 Created\r\nContent-Len", b"gth: 4\r\n\r\nab", b"cd"], 201, b"abcd"),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r", b"\n0\r\n\r\n"],
            200,
            b"abc",
        ),
    ],
)
def test_an_answer_is_read_whole_however_it_is_cut(
    pieces: list[bytes], status: int, body: bytes
) -> None:
    """Goal: the client never takes half an answer. Method: pieces over a socket pair."""
    server = OneAnswer(pieces)
    connection = Connection(0)
    connection._socket = server.ours
    answer = connection.ask(b"PUT / HTTP/1.1\r\n\r\n", b"x")
    connection.close()
    assert (answer.status, answer.body) == (status, body)


def test_a_cut_answer_is_an_error() -> None:
    """Goal: a server that dies is not taken for success. Method: the end comes too early."""
    server = OneAnswer([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
    connection = Connection(0)
    connection._socket = server.ours
    with pytest.raises(WireError, match="closed the connection"):
        connection._ask(b"GET / HTTP/1.1\r\n\r\n", b"")
    connection.close()
