"""Run the benchmark: rounds of ours and of the peer in turn; a table; one JSON line last."""

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

from bench.figures import last_line, summarise
from bench.ground import ROOT, Ground, GroundError, find_tools
from bench.loads import LOADS, MIB, WARM_UP, LoadError, burst, idle, pass_large
from bench.meters import Meter, commit, machine, versions
from bench.sides import Ours, Peer, Side
from bench.table import table
from bench.wire import WireError

RESULTS: Final = ROOT / "bench" / "results"
# Two copies of the large object, and all small ones of all rounds.
_FREE_BYTES_MIN: Final = 24 * 1024**3


def main() -> int:
    """Run; the exit code is 0 when all was measured."""
    options = _options()
    facts, measured = machine(), commit(ROOT)
    _say("looking for minio and mc; the first time they are built, which takes minutes")
    tools = find_tools()
    signal.signal(signal.SIGALRM, _out_of_time)
    signal.signal(signal.SIGTERM, _ended)
    signal.setitimer(signal.ITIMER_REAL, options.seconds)
    folder = Path(tempfile.mkdtemp(prefix="tidestore-bench-", dir=options.folder))
    ground = Ground(folder, tools)
    try:
        if shutil.disk_usage(folder).free < _FREE_BYTES_MIN:
            raise GroundError(f"{_FREE_BYTES_MIN >> 30} GiB must be free under {folder.parent}")
        ground.start()
        result = _measure(ground, options)
    except (GroundError, LoadError, WireError, OSError, SubprocessError) as error:
        _say(f"bench: {error}")
        _show_logs(folder)
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        ground.stop()
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    line = last_line(result["summary"], result["large_object"])
    document = {
        "machine": facts,
        "commit": measured,
        "versions": versions(tools["minio"]),
        "options": {"rounds": options.rounds, "quick": options.quick, "idle": options.idle},
        "figures": line,
        **result,
    }
    path = _write(document, options.out)
    print(table(document))
    print(f"\nwritten to {path}")
    shown = {
        **line,
        "rounds": options.rounds,
        "cores": facts["cores"],
        "load_average": facts["load_average"][0],
        "commit": measured,
    }
    print(json.dumps(shown))
    return 0


def _measure(ground: Ground, options: argparse.Namespace) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
    loads = [LOADS[name] for name in options.loads.split(",")]
    sides: list[Side] = [Ours(ground), Peer(ground)]
    for number in range(1, options.rounds + 1):
        for side in sides:
            side.start(number)
            meter = None
            try:
                meter = Meter(side.pids())
                burst(side, WARM_UP, meter)
                done: dict[str, Any] = {"loads": {}}
                for load in loads:
                    done["loads"][load.name] = found = burst(side, load, meter)
                    _say(f"{side.name} {number} {load.name}: {found['objects_per_s']} objects/s")
                done["idle"] = idle(side, options.idle)
                done["rss_mb"] = meter.rss_mb()
                _say(f"{side.name} {number} idle: {done['idle']['lag_ms']}")
                ground.check_alive()
            finally:
                if meter is not None:
                    meter.stop()
                side.stop()
            rounds[side.name].append(done)
    return {
        "summary": summarise(rounds),
        "large_object": _measure_large(ground, sides[0], options),
        "rounds": rounds,
    }


def _measure_large(ground: Ground, side: Side, options: argparse.Namespace) -> dict[str, Any]:
    """One large object through new processes of ours, for their memory."""
    if not options.large_gib:
        return {}
    side.start(options.rounds + 1)
    meter = Meter(side.pids())
    try:
        burst(side, WARM_UP, meter)
        _say(f"passing {options.large_gib:g} GiB")
        found = pass_large(side, int(options.large_gib * 1024 * MIB))
        found["rss_mb"] = meter.rss_mb()
        ground.check_alive()
        return found
    finally:
        meter.stop()
        side.stop()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round, within ten minutes")
    parser.add_argument("--rounds", type=int, help="rounds of each side (5; quick: 1)")
    parser.add_argument("--loads", default="small,mib", help=f"of {', '.join(LOADS)}")
    parser.add_argument("--idle", type=int, default=200, help="objects of the idle measurement")
    parser.add_argument("--large-gib", type=float, default=5.0, help="the large object; 0: none")
    parser.add_argument("--seconds", type=float, help="end after this long (quick: 540)")
    parser.add_argument("--folder", type=Path, help="where the data lies meanwhile")
    parser.add_argument("--out", type=Path, help="where the result goes (bench/results/DATE.json)")
    parser.add_argument("--keep", action="store_true", help="keep data and logs")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (540.0 if options.quick else 2_400.0)
    unknown = set(options.loads.split(",")) - LOADS.keys()
    if unknown:
        parser.error(f"no such load: {', '.join(sorted(unknown))}")
    return options


def _out_of_time(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise LoadError("out of time; --seconds says how long it may take")


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    sys.exit(143)


def _write(document: dict[str, Any], out: Path | None) -> Path:
    path = out or RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return path


def _show_logs(folder: Path) -> None:
    for log in sorted((folder / "logs").glob("*.log")):
        words = log.read_bytes()[-1_500:].decode("utf-8", "replace").strip()
        if words:
            _say(f"== {log.name}\n{words}")


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
