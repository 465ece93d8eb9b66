"""Where a record stands in the log, and how far a reader has come.

A position is what a writer gets back and what a reader may wait for. A cut is one position per
partition: "all that was in the log at this moment". Both carry the log's generation, because a
new generation has other partitions, and an old position must be refused, not misread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidestore.schemas.objects import MalformedError

_POSITION = re.compile(r"(\d{1,9})\.(\d{1,9})\.(\d{1,18})", re.ASCII)
_CUT = re.compile(r"(\d{1,9}):(\d{1,18}(?:\.\d{1,18})*)", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """One record of the log: `generation.partition.offset`."""

    generation: int
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.generation}.{self.partition}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what str() wrote; raises MalformedError."""
        match = _POSITION.fullmatch(text)
        if match is None:
            raise MalformedError("position", "is not a position", hint="as a write returned it")
        return cls(int(match[1]), int(match[2]), int(match[3]))


@dataclass(frozen=True, slots=True)
class Cut:
    """For each partition the offset of the next record: all before it is inside the cut."""

    generation: int
    offsets_next: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.generation}:" + ".".join(str(offset) for offset in self.offsets_next)

    def holds(self, position: Position) -> bool:
        """Whether the record at `position` is inside the cut. The generations must agree."""
        if position.generation != self.generation:
            raise MalformedError(
                "position",
                "is of another log generation",
                hint=f"this store's log is at generation {self.generation}",
            )
        if position.partition >= len(self.offsets_next):
            raise MalformedError("position", "names a partition that the log does not have")
        return position.offset < self.offsets_next[position.partition]

    def reaches(self, other: Cut) -> bool:
        """Whether everything inside `other` is inside this cut too."""
        if other.generation != self.generation or len(other.offsets_next) != len(self.offsets_next):
            raise MalformedError("cut", "is of another log generation", hint="start again")
        pairs = zip(self.offsets_next, other.offsets_next, strict=True)
        return all(mine >= theirs for mine, theirs in pairs)

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Read what str() wrote; raises MalformedError."""
        match = _CUT.fullmatch(text)
        if match is None:
            raise MalformedError("cut", "is not a cut", hint="as an answer gave it")
        return cls(int(match[1]), tuple(int(offset) for offset in match[2].split(".")))
