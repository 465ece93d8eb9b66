"""Samples of records that are about a partition, a dataset or the log itself: see samples.py."""

from __future__ import annotations

from typing import Final

from tidestore.schemas.canaries import CanaryProved, CanarySent
from tidestore.schemas.datasets import DatasetRegistered
from tidestore.schemas.events import Event
from tidestore.schemas.generations import GenerationChanged
from tidestore.schemas.ticks import PartitionTicked

_MS: Final = 1_795_435_200_000

PARTITION_SAMPLES: Final[dict[str, Event]] = {
    "partition_ticked.v1": PartitionTicked(
        partition=3, ticked_by="gateway-é", ticked_at_ms=_MS + 40
    ),
    "canary_sent.v1": CanarySent(partition=11, sent_at_ms=_MS + 50, sent_by="gateway-ü"),
    "canary_proved.v1": CanaryProved(
        partition=4,
        replica="onprem",
        incarnation=3,
        claim=70_000,
        sent_at_ms=_MS + 51,
        proved_at_ms=_MS + 52,
    ),
    "dataset_registered.v1": DatasetRegistered(
        name="lab-7", registered_at_ms=_MS + 42, registered_by="gateway-ü"
    ),
    "generation_changed.v1": GenerationChanged(
        130, 24, "open", 129, 12, "höst/7/ab", _MS + 41, "129:4.0.9", "130:5.0"
    ),
}
