"""Generations of the log: the record of a move to more partitions, and what old positions mean.

    building --> closing --> open       docs/migration.md

A generation that is open was filled from the one before it: all records below `from_cut` were
carried, and stand below `cut`. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tidestore.schemas.objects import MalformedError
from tidestore.schemas.positions import Cut, Position
from tidestore.schemas.topics import Topics

GENERATION_PREFIX: Final = "!generation/"


class GenerationState(StrEnum):
    """How far a generation is. Kept as text: see ChangeAnnounced."""

    BUILDING = "building"
    CLOSING = "closing"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class GenerationChanged:
    """A generation of the log came to be, filled from another one.

    `run` is the run of `tidestore migrate` that wrote it; the newest run alone goes on. The cuts
    are those of the logs and belong to an open generation.
    """

    generation: int
    partitions: int
    state: str
    from_generation: int
    from_partitions: int
    run: str
    changed_at_ms: int
    from_cut: str = ""
    cut: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it is the one to use."""
        return self.state == GenerationState.OPEN


class PositionLostError(Exception):
    """A position of a log that is gone, or of a place where nothing ever stood."""


class PositionAheadError(Exception):
    """A position of a generation that this process has not heard of yet."""


def generation_key(generation: int) -> str:
    """The key under which a generation's steps are compacted: no replica can have it."""
    return f"{GENERATION_PREFIX}{generation}"


def topics_now(topics: Topics, known: Iterable[GenerationChanged]) -> Topics:
    """The topics to use: of the newest open generation, unless the configuration is ahead.

    `topics` are those of the configuration, or those in use. A configuration is ahead after a
    recovery, which begins a generation that no record names.
    """
    for record in known:
        if record.is_open and record.generation >= topics.generation:
            topics = replace(topics, generation=record.generation, partitions=record.partitions)
    return topics


def step_ahead(topics: Topics, known: Iterable[GenerationChanged]) -> GenerationChanged | None:
    """The newest record of a generation that `topics` are left for; None while there is none."""
    ahead = [record for record in known if record.generation > topics.generation]
    return max(ahead, key=lambda record: record.generation, default=None)


def carried(cut: Cut, topics: Topics, known: Iterable[GenerationChanged]) -> Cut:
    """A cut, in words of the generation in use: what was inside it is inside the answer.

    Raises PositionLostError, PositionAheadError, and MalformedError for a cut of another width.
    """
    known = list(known)
    moves = {record.from_generation: record for record in known if record.is_open}
    if cut.generation > topics.generation:
        if any(record.generation >= cut.generation for record in known):
            raise PositionAheadError
        raise MalformedError("position", "is of a log generation that there is not")
    # Bounded: each step leads to a later generation.
    while cut.generation < topics.generation:
        move = moves.get(cut.generation)
        if move is None or move.generation <= cut.generation:
            raise PositionLostError
        end = Cut.parse(move.from_cut)
        if len(end.offsets_next) != len(cut.offsets_next):
            raise MalformedError("position", "names partitions that its generation did not have")
        if not end.reaches(cut):
            raise PositionLostError
        cut = Cut.parse(move.cut)
    return cut


def carried_position(
    position: Position, topics: Topics, known: Iterable[GenerationChanged]
) -> Cut | None:
    """What a reader has to know for a position of an earlier generation; None for one of ours.

    Raises as `carried` does.
    """
    if position.generation == topics.generation:
        return None
    known = list(known)
    for record in known:
        if record.is_open and record.from_generation == position.generation:
            if position.partition >= record.from_partitions:
                raise MalformedError("position", "names a partition that the log did not have")
            offsets = [0] * record.from_partitions
            offsets[position.partition] = position.offset + 1
            return carried(Cut(position.generation, tuple(offsets)), topics, known)
    return carried(Cut(position.generation, (0,)), topics, known)
