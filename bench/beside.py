"""How late are small objects while large ones are copied? Run: python -m bench.beside.

    idle      4 KiB objects one at a time, each when the one before has arrived
    beside    the same, while large objects are written from another thread and copied

One JSON document at the end: p50 and p99 of both, and their ratio. It ends by itself: after
--seconds it gives up, and it refuses to begin without room for two copies of everything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from subprocess import SubprocessError
from types import FrameType
from typing import Any, Final, NoReturn

from bench.bursts import MIB, WARM_UP, Load, LoadError, burst, idle, make_items, one_by_one, put
from bench.figures import percentile, spread
from bench.ground import ROOT, Ground, GroundError, find_tools
from bench.meters import Meter, commit, machine
from bench.sides import Ours
from bench.wire import Connection, WireError

_GIB: Final = 1024 * MIB
# Beside both copies: what Kafka, views and the small objects take.
_SLACK_BYTES: Final = 2 * _GIB
# Small objects between two looks at how far the large ones are.
_PORTION: Final = 10
_LOOK_SECONDS: Final = 0.2


class Large:
    """Writes large objects one after another, in a thread of its own; each has bytes of its own."""

    def __init__(self, side: Ours, size: int, count: int) -> None:
        self._side = side
        self._size = size
        self.keys: list[str] = []
        self.failure = ""
        self._count = count
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        try:
            with contextlib.closing(Connection(self._side.port)) as writer:
                for _ in range(self._count):
                    (item,) = make_items(self._side, Load("large", self._size, 1, 1))
                    put(writer, item)
                    self.keys.append(item.key)
        except (LoadError, WireError, OSError) as error:
            self.failure = f"{type(error).__name__}: {error}"

    def left(self, reader: Connection) -> int:
        """How many are not on the target; raises LoadError when the writing failed."""
        if self.failure:
            raise LoadError(self.failure)
        target, bucket = self._side.target, self._side.target_bucket
        present = sum(
            reader.ask(target.head_of("HEAD", f"/{bucket}/{key}")).status == 200
            for key in list(self.keys)
        )
        return self._count - present


def measure(ground: Ground, options: argparse.Namespace) -> dict[str, Any]:
    """Both parts, on one store."""
    side = Ours(ground, "beside")
    side.start(1)
    meter = Meter(side.pids())
    try:
        burst(side, WARM_UP, meter)
        alone = idle(side, options.idle)
        _say(f"alone: {alone['lag_ms']}")
        large = Large(side, options.large_mib * MIB, options.count)
        large.start()
        beside, seconds = _beside(side, large)
        _say(f"beside: {spread(beside)}")
        ground.check_alive()
        ratio = percentile(beside, 0.99) / alone["lag_ms"]["p99"]
        return {
            "large": {"count": options.count, "mib": options.large_mib, "seconds": seconds},
            "alone_ms": alone["lag_ms"],
            "beside_ms": spread(beside),
            "p99_ratio": round(ratio, 2),
            "rss_mb": meter.rss_mb(),
        }
    finally:
        meter.stop()
        side.stop()


def _beside(side: Ours, large: Large) -> tuple[list[float], float]:
    """Lags of small objects until the last large one is there; only what was beside one counts."""
    lags: list[float] = []
    begun = time.monotonic()
    with contextlib.closing(Connection(side.target.port)) as reader:
        while not large.keys:  # until then nothing is copied, only written
            large.left(reader)
            time.sleep(_LOOK_SECONDS)
        while True:
            found = one_by_one(side, _PORTION)[0]
            if not large.left(reader):
                break  # the last one ended among these: they do not count
            lags += found
    if not lags:
        raise LoadError("the large objects were there before a small one was: take larger ones")
    return lags, round(time.monotonic() - begun, 1)


def main() -> int:
    """Measure; the exit code is 0 when all was measured."""
    options = _options()
    signal.signal(signal.SIGALRM, _out_of_time)
    tools = find_tools()
    signal.setitimer(signal.ITIMER_REAL, options.seconds)
    folder = Path(tempfile.mkdtemp(prefix="tidestore-beside-", dir=options.folder))
    ground = Ground(folder, tools)
    needed = 2 * options.count * options.large_mib * MIB + _SLACK_BYTES
    try:
        if shutil.disk_usage(folder).free < needed:
            raise GroundError(f"{needed / _GIB:.1f} GiB must be free under {folder.parent}")
        facts = machine()
        ground.start()
        found = measure(ground, options)
    except (GroundError, LoadError, WireError, OSError, SubprocessError) as error:
        _say(f"bench: {error}")
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        ground.stop()
        shutil.rmtree(folder, ignore_errors=True)
    document = {"machine": facts, "commit": commit(ROOT), **found}
    if options.out:
        options.out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(json.dumps(document))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("--count", type=int, default=10, help="large objects")
    parser.add_argument("--large-mib", type=int, default=1024, help="the size of each")
    parser.add_argument("--idle", type=int, default=200, help="small objects of the first part")
    parser.add_argument("--seconds", type=float, default=900.0, help="give up after this long")
    parser.add_argument("--folder", type=Path, help="where the data lies meanwhile")
    parser.add_argument("--out", type=Path, help="write the document there, too")
    return parser.parse_args()


def _out_of_time(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise LoadError("out of time; --seconds says how long it may take")


def _say(text: str) -> None:
    sys.stderr.write(f"[{time.strftime('%H:%M:%S')}] {text}\n")


if __name__ == "__main__":
    sys.exit(main())
