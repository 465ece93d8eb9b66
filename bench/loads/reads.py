"""How many bytes leave the origin for each byte that is written, with three replicas outside.

The origin stands behind a gate (proxy.py) that counts the bodies of what is read of objects, for
gateway and workers alike. The replicas are priced as three places would be: one of one's own, which
is free to read from, and two in other clouds. They are buckets of the second server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from bench.arrivals import must_arrive, write_all
from bench.bursts import MIB, Load, LoadError
from bench.ground import TARGET
from bench.loads.stage import Figures, Measure, Round, Stage, median
from bench.proxy import Gate
from bench.sides import Ours
from tidestore.local.ports import choose_ports

_REPLICAS: Final = (("onprem", TARGET), ("gcp", TARGET), ("azure", TARGET))
_SOURCES: Final = """
[sources]
places = { source = "aws/us-east-1", onprem = "onprem", gcp = "gcp", azure = "azure" }
"""
# Too large for their events, and two of the largest kind: parts, by the durable lane.
_READ: Final = (Load("mib", MIB, 30, 1), Load("parts", 64 * MIB, 2, 1))
_INLINE: Final = (Load("inline", 4 * 1024, 200, 1),)
_ARRIVAL_SECONDS: Final = 100.0


def _play(stage: Stage) -> Round:
    port = choose_ports(["gate"], {}, {})["gate"]
    gate = Gate(port, stage.ground.source.port)
    gate.start()
    try:
        side = Ours(stage.ground, "reads", _REPLICAS, extra_toml=_SOURCES, source_port=port)
        with stage.playing(side):
            found = {"read": _measure(gate, side, _READ), "inline": _measure(gate, side, _INLINE)}
    finally:
        stage.clear()  # before the gate goes, or its clients would wait for their answers
        gate.stop()
    if gate.errors:
        raise LoadError(f"the gate could not read along: {gate.errors[0]}")
    stage.say(str(found))
    return found


def _measure(gate: Gate, side: Ours, loads: Sequence[Load]) -> dict[str, Any]:
    before = (gate.counts.object_bytes, gate.counts.object_reads, gate.counts.answered_bytes)
    for load in loads:
        must_arrive(side, write_all(side, load), _ARRIVAL_SECONDS)
    written = sum(load.size * load.count for load in loads)
    read = gate.counts.object_bytes - before[0]
    return {
        "written_bytes": written,
        "read_bytes": read,
        "reads": gate.counts.object_reads - before[1],
        "answered_bytes": gate.counts.answered_bytes - before[2],
        "reads_per_byte": round(read / written, 4),
    }


def _figures(rounds: Sequence[Round]) -> Figures:
    return {
        "origin_reads_per_byte": median(rounds, "read", "reads_per_byte"),
        "origin_reads_inline": median(rounds, "inline", "reads_per_byte"),
    }


READS: Final = Measure(
    "reads", _play, _figures, ("origin_reads_per_byte", "origin_reads_inline"), 240, 120
)
