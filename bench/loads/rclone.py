"""The copy alone: objects lie at the source, and are copied to the other server.

    ours    written through a gateway while the target's worker is not there; the worker is started,
            its log says that it got its partitions: the clock starts
    rclone  copies the origin's bucket, the very same objects, into an empty one; its wall time

Ours stops when the target lists all. rclone is run with several sets of flags; what is compared is
its best. Both classes of size: 200 x 1 MiB and 4 x 256 MiB; the ratio on the last line is the
lesser of the two.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.arrivals import must_arrive, write_all
from bench.bursts import MEBIBYTE, QUARTER_GIB, Load, LoadError
from bench.ground import SOURCE, TARGET, Ground, alias_of
from bench.loads.stage import Figures, Measure, Round, Stage, median
from bench.sides import KEY_PREFIX, Ours
from bench.wire import REGION

_WORKER: Final = "worker-target"
_ASSIGNED: Final = "assigned partitions [0"
_PLAIN: Final = ("--s3-no-check-bucket", "--no-traverse", "--s3-no-head", "--retries", "1")
FLAGS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    MEBIBYTE.name: {
        "default": ("--retries", "1"),
        "transfers-8": (*_PLAIN, "--transfers", "8", "--checkers", "16"),
        "transfers-16": (*_PLAIN, "--transfers", "16", "--checkers", "16"),
    },
    QUARTER_GIB.name: {
        "transfers-16": (*_PLAIN, "--transfers", "16", "--checkers", "16"),
        "parts-16M-4": (
            *_PLAIN, "--transfers", "4", "--s3-chunk-size", "16M", "--s3-upload-concurrency", "4",
            "--multi-thread-streams", "0",
        ),
        "parts-64M-2": (
            *_PLAIN, "--transfers", "2", "--s3-chunk-size", "64M", "--s3-upload-concurrency", "4",
            "--multi-thread-streams", "0",
        ),
    },
}  # fmt: skip
_COPY_SECONDS: Final = 120.0


def _play(stage: Stage) -> Round:
    side = Ours(stage.ground, "rclone")
    found: Round = {}
    with stage.playing(side):
        for load in (MEBIBYTE, QUARTER_GIB):
            found[load.name] = _measure(stage, side, load)
            stage.say(f"{load.name}: {found[load.name]}")
    return found


def _measure(stage: Stage, side: Ours, load: Load) -> dict[str, Any]:
    side.end(_WORKER)
    items = write_all(side, load)
    since = stage.ground.log_size(_WORKER)
    side.begin(_WORKER)
    begun = side.await_line(_WORKER, _ASSIGNED, since)
    ours = must_arrive(side, items, _COPY_SECONDS) - begun
    runs = {
        name: _copy(stage.ground, side, load, flags, number)
        for number, (name, flags) in enumerate(FLAGS[load.name].items())
    }
    best = min(runs, key=lambda name: runs[name])
    size = load.size * load.count / 1e6
    return {
        "ours_mb_per_s": round(size / ours, 1),
        "rclone_mb_per_s": round(size / runs[best], 1),
        "rclone_best": best,
        "rclone_s": {name: round(seconds, 2) for name, seconds in runs.items()},
        "ours_s": round(ours, 2),
    }


def _copy(ground: Ground, side: Ours, load: Load, flags: tuple[str, ...], number: int) -> float:
    """One run of rclone into a bucket of its own; its wall time."""
    bucket = f"{side.mark}-{load.name}-{number}"
    ground.mc("mb", f"{alias_of(TARGET)}/{bucket}")
    prefix = KEY_PREFIX.rstrip("/")
    # Of the two classes only this one.
    sizes = ("--min-size", f"{load.size}B", "--max-size", f"{load.size}B")
    command = [str(ground.tools["rclone"]), "copy", f"SOURCE:{side.mark}-source/{prefix}"]
    command += [f"TARGET:{bucket}/{prefix}", *sizes, *flags]
    begun = time.monotonic()
    done = subprocess.run(
        command, env=_environ(ground), capture_output=True, text=True, timeout=_COPY_SECONDS,
        check=False,
    )  # fmt: skip
    seconds = time.monotonic() - begun
    if done.returncode:
        raise LoadError(f"rclone: {done.stderr[-500:]}")
    copied = ground.stores[TARGET].list_bucket(bucket, KEY_PREFIX)
    if sum(item.size == load.size for item in copied.values()) != load.count:
        raise LoadError(f"rclone copied {len(copied)} of {load.count} objects")
    ground.remove_bucket(TARGET, bucket)
    return seconds


def _environ(ground: Ground) -> dict[str, str]:
    environ = {**os.environ, "RCLONE_CONFIG": os.devnull}
    for remote, store in (("SOURCE", SOURCE), ("TARGET", TARGET)):
        server = ground.stores[store]
        said = {
            "TYPE": "s3",
            "PROVIDER": "Minio",
            "ENDPOINT": f"http://127.0.0.1:{server.port}",
            "ACCESS_KEY_ID": server.key_id,
            "SECRET_ACCESS_KEY": server.secret,
            "REGION": REGION,
        }
        environ |= {f"RCLONE_CONFIG_{remote}_{name}": value for name, value in said.items()}
    return environ


def _figures(rounds: Sequence[Round]) -> Figures:
    ratios: dict[str, float] = {}
    for name in (MEBIBYTE.name, QUARTER_GIB.name):
        ours, theirs = (median(rounds, name, f"{who}_mb_per_s") for who in ("ours", "rclone"))
        ratios[name] = round(ours / theirs, 3)
    return {
        "rclone_ratio": min(ratios.values()),
        **{f"rclone_{name}_ratio": value for name, value in ratios.items()},
    }


RCLONE: Final = Measure("rclone", _play, _figures, ("rclone_ratio",), 360, 110, tools=("rclone",))
