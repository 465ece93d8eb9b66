"""Up to which size should an object ride inside its event? Run: python -m bench.inline --rounds 3.

One store, two gateways: one puts every blob into its event, the other none. Both ways in turn, each
size in each round, so that what counts is the ratio of two bursts that ran side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench.bursts import WARM_UP, Load, burst
from bench.ground import Ground, find_tools
from bench.meters import Meter, machine
from bench.sides import Ours
from tidestore.local.ports import choose_ports
from tidestore.local.servers import is_ready

_KIB: Final = 1024
SIZES: Final = tuple(kib * _KIB for kib in (4, 16, 32, 64, 128, 256))
# As many objects as take a few seconds at any of the sizes.
_COUNT: Final = 200
_THREADS: Final = 8
# A burst's figures, and which of the two ways is better when the ratio inline / fetched is below 1.
FIGURES: Final = ("all_present_s", "cpu_ms", "log_bytes")


class Way(Ours):
    """Ours, with a second gateway; `bound` is up to which size it puts blobs into events."""

    def __init__(self, ground: Ground, ours: Ours, name: str, bound: int) -> None:
        super().__init__(ground)
        self._ours = ours
        self._token = ours._token
        self.name = name
        self._bound = bound
        self.port = choose_ports(["gateway"], {}, {})["gateway"]

    def start(self, number: int) -> None:
        """Start the gateway beside the store that runs."""
        self.mark, self.target_bucket = self._ours.mark, self._ours.target_bucket
        folder = self._ground.folder / f"ours-{number}"
        text = (folder / "tidestore.toml").read_text("utf-8")
        config = folder / f"{self.name}.toml"
        config.write_text(f"{text}\n[limits]\ninline_bytes_max = {self._bound}\n", "utf-8")
        words = ["gateway", "--id", self.name, "--port", str(self.port), "--config", str(config)]
        child = self._ground.spawn(self.name, [sys.executable, "-m", "tidestore", *words], {})
        self._names.append(self.name)
        self._ground.await_true(child, lambda: is_ready(f"http://127.0.0.1:{self.port}/readyz"))

    def pids(self) -> dict[str, int]:
        """All processes but the other gateway."""
        return {**self._ours.pids(), **self._ground.pids(self.name)}


def measure(rounds: int) -> dict[str, Any]:
    """The medians of all rounds by size and way."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="tidestore-inline-") as folder:
        ground = Ground(Path(folder), find_tools())
        ours = Ours(ground)
        ways = [Way(ground, ours, "fetched", 0), Way(ground, ours, "inline", max(SIZES))]
        with _running(ground, ours, ways):
            found = [_round(ground, ways) for _ in range(rounds)]
    return {"machine": facts, "rounds": rounds, "objects": _COUNT, "sizes": _medians(found)}


@contextlib.contextmanager
def _running(ground: Ground, ours: Ours, ways: list[Way]) -> Iterator[None]:
    try:
        ground.start()
        ours.start(0)
        for way in ways:
            way.start(0)
            meter = Meter(way.pids())
            burst(way, WARM_UP, meter)
            meter.stop()
        yield
    finally:
        for side in (*ways, ours):
            side.stop()
        ground.stop()


def _round(ground: Ground, ways: list[Way]) -> dict[int, dict[str, dict[str, float]]]:
    found: dict[int, dict[str, dict[str, float]]] = {}
    for size in SIZES:
        found[size] = {}
        for way in ways:
            meter = Meter(way.pids())
            before = _log_bytes(ground)
            try:
                told = burst(way, Load(way.name, size, _COUNT, _THREADS), meter)
                worker_mb = meter.rss_mb()["worker-target"]
            finally:
                meter.stop()
            figures = {
                "all_present_s": told["all_present_s"],
                "cpu_ms": told["cpu_ms_per_object"]["all"],
                "log_bytes": (_log_bytes(ground) - before) / _COUNT,
                "worker_rss_mb": worker_mb,
            }
            found[size][way.name] = figures
            sys.stderr.write(f"{size // _KIB} KiB {way.name}: {figures}\n")
    return found


def _log_bytes(ground: Ground) -> int:
    """What the log's segments take on the broker's disk."""
    folders = (ground.folder / "kafka" / "data").glob("ours-0.log-*")
    return sum(file.stat().st_size for place in folders for file in place.glob("*.log"))


def _medians(
    rounds: list[dict[int, dict[str, dict[str, float]]]],
) -> dict[str, dict[str, Mapping[str, float]]]:
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for size in SIZES:
        ways = {
            way: {
                name: round(statistics.median(item[size][way][name] for item in rounds), 2)
                for name in rounds[0][size][way]
            }
            for way in ("fetched", "inline")
        }
        ratios = {
            name: round(
                statistics.median(
                    item[size]["inline"][name] / item[size]["fetched"][name] for item in rounds
                ),
                2,
            )
            for name in FIGURES
        }
        found[f"{size // _KIB} KiB"] = {**ways, "inline / fetched": ratios}
    return found


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    sys.stdout.write(json.dumps(measure(parser.parse_args().rounds), indent=1) + "\n")


if __name__ == "__main__":
    main()
