"""Run the benchmark: every load, ours and the peer in turn; tables; one JSON line last."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from subprocess import SubprocessError
from types import FrameType
from typing import Any, Final, NoReturn

from confluent_kafka import KafkaException

from bench.bursts import MEBIBYTE, SMALL, LoadError
from bench.figures import last_line
from bench.ground import ROOT, Ground, GroundError, find_tools
from bench.loads import ALL
from bench.loads.stage import Measure, Round, Stage
from bench.meters import commit, machine, versions
from bench.picture import picture
from bench.rounds import measure_rounds
from bench.table import table
from bench.wire import WireError

RESULTS: Final = ROOT / "bench" / "results"
# Two copies of the large object, and all small ones of all rounds.
_FREE_BYTES_MIN: Final = 24 * 1024**3
# Those that share rounds, in their order; "idle" is measured with each of them.
_BURSTS: Final = {load.name: load for load in (SMALL, MEBIBYTE)}
_IDLE: Final = "idle"
_NAMES: Final = (*_BURSTS, _IDLE, *ALL)
_SECONDS: Final = 7_200.0
_QUICK_SECONDS: Final = 585.0
# Less than any load needs.
_SECONDS_MIN: Final = 5.0
_FAILURES: Final = (
    GroundError,
    LoadError,
    WireError,
    OSError,
    SubprocessError,
    KafkaException,
)


def main() -> int:
    """Run; the exit code is 0 when all that was asked for was measured."""
    options = _options()
    facts, measured = machine(), commit(ROOT)
    _say("looking for minio and mc; the first time they are built, which takes minutes")
    tools = find_tools(*(tool for name in options.loads if name in ALL for tool in ALL[name].tools))
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.signal(signal.SIGTERM, _ended)
    folder = Path(tempfile.mkdtemp(prefix="tidestore-bench-", dir=options.folder))
    ground = Ground(folder, tools)
    runner = _Runner(ground, options)
    try:
        if shutil.disk_usage(folder).free < _FREE_BYTES_MIN:
            raise GroundError(f"{_FREE_BYTES_MIN >> 30} GiB must be free under {folder.parent}")
        ground.start()
        runner.run()
    except _FAILURES as error:
        runner.failed["ground"] = str(error)
        _say(f"bench: {error}")
        _show_logs(folder)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        ground.stop()
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    document = {
        "machine": facts,
        "commit": measured,
        "versions": versions(tools["minio"]),
        "options": {
            "rounds": options.rounds,
            "quick": options.quick,
            "idle": options.idle,
            "loads": options.loads,
        },
        "figures": runner.figures,
        "failed": runner.failed,
        "seconds": runner.seconds,
        **runner.bursts,
        "loads": runner.loads,
    }
    if not runner.figures:
        return 1
    _show(document, options.out)
    return 1 if runner.failed else 0


class _Runner:
    """Runs what was chosen and keeps what was found; a load that fails leaves the others alone."""

    def __init__(self, ground: Ground, options: argparse.Namespace) -> None:
        self._ground = ground
        self._options = options
        self._deadline: float = time.monotonic() + options.seconds
        self.figures: dict[str, Any] = {}
        self.failed: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        self.bursts: dict[str, Any] = {}
        self.loads: dict[str, dict[str, list[Round]]] = {}

    def run(self) -> None:
        """Everything, in the order in which it is listed."""
        chosen = self._options.loads
        if any(name in chosen for name in (*_BURSTS, _IDLE)):
            self._run_bursts()
        for name in chosen:
            if name in ALL:
                self._run_load(ALL[name])

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _run_bursts(self) -> None:
        options, begun = self._options, time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, max(_SECONDS_MIN, self._left()))
            found = measure_rounds(
                self._ground,
                [_BURSTS[name] for name in options.loads if name in _BURSTS],
                rounds=options.rounds,
                idles=options.idle,
                large_gib=options.large_gib,
                say=_say,
            )
            self.bursts = found
            self.figures |= last_line(found["summary"], found["large_object"])
        except _FAILURES as error:
            self._note("bursts", error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.seconds["bursts"] = round(time.monotonic() - begun, 1)

    def _run_load(self, load: Measure) -> None:
        quick, begun = self._options.quick, time.monotonic()
        rounds: list[Round] = []
        self.figures |= dict.fromkeys(load.names)
        for number in range(1, min(self._options.rounds, load.rounds_max) + 1):
            patience = self._options.patience
            seconds = min(patience * load.budget(is_quick=quick), self._left())
            if seconds < _SECONDS_MIN:
                self._note(load.name, LoadError("no time was left for it; see --seconds"))
                break
            deadline = time.monotonic() + seconds
            stage = Stage(
                self._ground, number, quick, lambda text: _say(f"{load.name}: {text}"), deadline
            )
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds)
                rounds.append(load.play(stage))
                signal.setitimer(signal.ITIMER_REAL, 0)
                self._ground.check_alive()
            except _FAILURES as error:
                self._note(load.name, error)
                break
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                stage.clear()
        if rounds:
            self.loads[load.name] = {"rounds": rounds}
            self.figures |= load.figures(rounds)
        self.seconds[load.name] = round(time.monotonic() - begun, 1)

    def _note(self, name: str, error: BaseException) -> None:
        self.failed[name] = str(error)
        _say(f"{name}: FAILED: {error}")
        _show_logs(self._ground.folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, within ten minutes")
    parser.add_argument("--rounds", type=int, help="rounds of each side (5; quick: 1)")
    parser.add_argument("--loads", help=f"of {', '.join(_NAMES)}; all by default")
    parser.add_argument(
        "--idle", type=int, help="objects of the idle measurement (200; quick: 100)"
    )
    parser.add_argument("--large-gib", type=float, help="the large object (5; quick: 1); 0: none")
    parser.add_argument("--seconds", type=float, help="end after this long (quick: 585)")
    parser.add_argument(
        "--patience", type=float, default=1.0, help="times each load's own limit: a busy machine"
    )
    parser.add_argument("--folder", type=Path, help="where the data lies meanwhile")
    parser.add_argument("--out", type=Path, help="where the result goes (bench/results/DATE.json)")
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (_QUICK_SECONDS if options.quick else _SECONDS)
    if options.large_gib is None:
        options.large_gib = 1.0 if options.quick else 5.0
    if options.idle is None:
        options.idle = 100 if options.quick else 200
    chosen = set(options.loads.split(",") if options.loads else _NAMES)
    if unknown := chosen - set(_NAMES):
        parser.error(f"no such load: {', '.join(sorted(unknown))}")
    options.loads = [name for name in _NAMES if name in chosen]
    return options


def _out_of_time(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise LoadError("out of time; --seconds says how long all may take")


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    sys.exit(143)


def _show(document: dict[str, Any], out: Path | None) -> None:
    """Write the result and its picture; print tables, and the line that other tools read."""
    path = out or RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    growth = document["loads"].get("growth", {"rounds": [{"rows": []}]})["rounds"][0]["rows"]
    title = f"tidestore {document['commit']}, {document['machine']['begun_at'][:10]}"
    path.with_suffix(".svg").write_text(picture(document["figures"], growth, title), "utf-8")
    print(table(document))
    for name, reason in document["failed"].items():
        print(f"FAILED {name}: {reason}")
    print(f"\nwritten to {path}")
    shown = {
        **document["figures"],
        "rounds": document["options"]["rounds"],
        "cores": document["machine"]["cores"],
        "load_average": document["machine"]["load_average"][0],
        "commit": document["commit"],
    }
    if document["failed"]:
        shown["failed"] = sorted(document["failed"])
    print(json.dumps(shown))


def _show_logs(folder: Path) -> None:
    for log in sorted((folder / "logs").glob("*.log")):
        words = log.read_bytes()[-1_500:].decode("utf-8", "replace").strip()
        if words:
            _say(f"== {log.name}\n{words}")


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
