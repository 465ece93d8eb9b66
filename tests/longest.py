"""Which files of tests take long: they are begun first, the longest before all others.

Workers share whole files, and one that is begun last keeps the others waiting for its end.

Seconds of one quiet run on two cores; only their order matters. `--durations=0` tells them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

SECONDS: Final[dict[str, int]] = {
    "chaos/test_kill.py": 100,
    "integration/test_workers.py": 95,
    "chaos/test_power_cut.py": 85,
    "integration/test_producer_large.py": 80,
    "conformance/test_stores.py": 80,
    "integration/test_wire_faults.py": 75,
    "integration/test_scrub.py": 70,
    "integration/test_failures.py": 70,
    "integration/test_run.py": 70,
    "integration/test_hooks_faults.py": 65,
    "integration/test_hooks.py": 60,
    "integration/test_cli.py": 60,
    "integration/test_parked.py": 55,
    "integration/test_replicas.py": 50,
    "chaos/test_recover.py": 50,
    "integration/test_order.py": 45,
    "integration/test_edges.py": 45,
    "integration/test_feeds.py": 40,
    "integration/test_redactions.py": 40,
    "integration/test_unreadable.py": 40,
    "integration/test_removal.py": 35,
    "integration/test_log_writer.py": 35,
    "integration/test_source_choice.py": 35,
    "integration/test_producer_races.py": 35,
    "integration/test_openapi.py": 30,
    "integration/test_listing.py": 30,
    "integration/test_producer_writes.py": 30,
    "integration/test_staging_tasks.py": 30,
}
# Files that are not in the table, by the folder in which they lie.
_OTHERS: Final = {"conformance": 20, "integration": 12, "chaos": 30}


def seconds_of(path: Path) -> int:
    """How long a file's tests take, about."""
    folder, name = path.parts[-2:]
    return SECONDS.get(f"{folder}/{name}", _OTHERS.get(folder, 0))
