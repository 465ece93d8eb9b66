"""Commit of a bundle of 1,000 files: from the first byte of its PUT to its 201.

1,000 blobs of 1 KiB and a file for each are written before, and are on the target. The bundle is
then committed several times under fresh uuids, one commit after the other; a round's figure is
the median of them. Ours alone: the peer knows no bundles.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import statistics
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from bench.bursts import LoadError
from bench.loads.stage import Figures, Measure, Round, Stage, median
from bench.meters import Meter
from bench.records import VERSION
from bench.sides import Ours
from bench.wire import Connection, WireError

FILES: Final = 1_000
_THREADS: Final = 8
_BYTES: Final = 1_024
_COMMITS: Final = 5
_PRESENT_SECONDS: Final = 60.0


def _play(stage: Stage) -> Round:
    side = Ours(stage.ground, "commit")
    with stage.playing(side):
        begun = time.monotonic()
        files = _write_files(side)
        written = time.monotonic()
        _await_present(side, files[-1])
        meter = Meter(side.pids())
        try:
            before = meter.cpu()["gateway"]
            seconds = [_commit(side, files) for _ in range(_COMMITS)]
            cpu = (meter.cpu()["gateway"] - before) / _COMMITS
        finally:
            meter.stop()
    found: Round = {
        "files": FILES,
        "write_s": round(written - begun, 2),
        "commits_s": [round(item, 3) for item in seconds],
        "commit_s": round(statistics.median(seconds), 3),
        "gateway_cpu_s": round(cpu, 3),
    }
    stage.say(str(found))
    return found


def _write_files(side: Ours) -> list[str]:
    """The uuids of files that were acknowledged."""
    uuids = [str(uuid.uuid4()) for _ in range(FILES)]
    failures: list[str] = []

    def write(mine: list[str]) -> None:
        try:
            with contextlib.closing(Connection(side.port)) as connection:
                for one in mine:
                    _write_file(side, connection, one)
        except (WireError, OSError) as error:
            failures.append(f"{type(error).__name__}: {error}")

    threads = [
        threading.Thread(target=write, args=(uuids[number::_THREADS],), daemon=True)
        for number in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise LoadError(f"a writer failed: {failures[0]}")
    return uuids


def _write_file(side: Ours, connection: Connection, one: str) -> None:
    body = os.urandom(_BYTES)
    sha256 = hashlib.sha256(body).hexdigest()
    side.ask(connection, "PUT", f"/v1/blobs/{sha256}", body)
    manifest = {"blob": sha256, "name": f"{one}.fastq.gz"}
    path = f"/v1/files/{one}?version={VERSION}"
    side.ask(connection, "PUT", path, json.dumps(manifest).encode())


def _await_present(side: Ours, one: str) -> None:
    """Wait until the target has a file, after which the store is quiet."""
    path = f"/v1/files/{one}/copies?version={VERSION}"

    def is_present(answer: Any) -> bool:
        return all(copy["state"] == "present" for copy in answer["copies"])

    side.await_read(path, is_present, _PRESENT_SECONDS)


def _commit(side: Ours, files: list[str]) -> float:
    document = {"files": [{"uuid": one, "version": VERSION} for one in files]}
    body = json.dumps(document).encode()
    path = f"/v1/bundles/{uuid.uuid4()}?version={VERSION}"
    with contextlib.closing(Connection(side.port)) as connection:
        side.ask(connection, "GET", "/healthz")  # the connection is there
        begun = time.monotonic()
        answer = side.ask(connection, "PUT", path, body)
        seconds = time.monotonic() - begun
    if answer.status != 201:
        raise LoadError(f"a bundle's commit was answered with {answer.status}")
    return seconds


def _figures(rounds: Sequence[Round]) -> Figures:
    return {"commit_1000_s": median(rounds, "commit_s")}


COMMIT: Final = Measure("commit", _play, _figures, ("commit_1000_s",), 120, 60)
