"""The record that a dataset exists: kept on every replica with the others of its topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DATASET_PREFIX: Final = "!dataset/"


@dataclass(frozen=True, slots=True)
class DatasetRegistered:
    """A dataset exists, since a gateway was first started with it."""

    name: str
    registered_at_ms: int
    registered_by: str


def dataset_key(name: str) -> str:
    """The key under which a dataset's record is compacted: no replica can have it."""
    return f"{DATASET_PREFIX}{name}"
