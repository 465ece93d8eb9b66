"""Where a reader of the feed is: a text that it keeps and gives back, and that we do not.

    1.9f2c01aa.17.40-38_0-0_112-90_7-7
    | |        |  `- per partition of changes.<dataset>: the next offset, and the newest claim read
    | |        `---- the next offset of `redactions`
    | `------------- which topics these are offsets of (a hash of the cluster's ids for them)
    `--------------- the log's generation

The claim goes along because the word of a frozen feeds worker is known by it (design point 4), and
its claim may have been read pages ago. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tidestore.connectors.feed_pages import FeedPage
from tidestore.schemas.events import (
    ChangeAnnounced,
    PartitionClaimed,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.schemas.objects import MalformedError

# A head line of 8,190 bytes is the most that a gateway reads; 200 partitions fit.
CURSOR_CHARS_MAX: Final = 8_000
_CURSOR = re.compile(
    r"(\d{1,9})\.([0-9a-f]{8})\.(\d{1,18})\.(\d{1,18}-\d{1,18}(?:_\d{1,18}-\d{1,18})*)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class FeedCursor:
    """For each partition of the feed the next offset and the newest claim."""

    generation: int
    identity: str
    redactions_next: int
    offsets_next: tuple[int, ...]
    claims: tuple[int, ...]

    def __str__(self) -> str:
        pairs = zip(self.offsets_next, self.claims, strict=True)
        places = "_".join(f"{offset}-{claim}" for offset, claim in pairs)
        return f"{self.generation}.{self.identity}.{self.redactions_next}.{places}"

    @classmethod
    def parse(cls, text: str) -> FeedCursor:
        """Read what str() wrote; raises MalformedError."""
        match = _CURSOR.fullmatch(text) if len(text) <= CURSOR_CHARS_MAX else None
        if match is None:
            raise MalformedError("after", "is not a cursor", hint="`next` of a page, unchanged")
        pairs = [pair.split("-") for pair in match[4].split("_")]
        return cls(
            int(match[1]), match[2], int(match[3]),
            tuple(int(pair[0]) for pair in pairs), tuple(int(pair[1]) for pair in pairs),
        )  # fmt: skip

    @classmethod
    def first(cls, generation: int, identity: str, partitions: int) -> FeedCursor:
        """Before everything."""
        return cls(generation, identity, 0, (0,) * partitions, (0,) * partitions)

    def is_of(self, other: FeedCursor) -> bool:
        """Whether both are places in the same topics."""
        mine = (self.generation, self.identity, len(self.offsets_next))
        return mine == (other.generation, other.identity, len(other.offsets_next))


@dataclass(frozen=True, slots=True)
class FeedNews:
    """What a page tells: changes with their partition, decisions, and where to go on.

    `is_held` says that a record of a newer release was met, which nobody here may go past.
    """

    changes: Sequence[tuple[int, ChangeAnnounced]]
    decisions: Sequence[RedactionDecided | RedactionLifted]
    cursor: FeedCursor
    is_held: bool


def read_news(cursor: FeedCursor, page: FeedPage, feed: str, redactions: str) -> FeedNews:
    """Sort a page of the topics `feed` and `redactions` out; late words of old claims are left."""
    offsets, claims = list(cursor.offsets_next), list(cursor.claims)
    for partition in range(len(offsets)):
        offsets[partition] = page.offsets_next.get((feed, partition), offsets[partition])
    redactions_next = page.offsets_next.get((redactions, 0), cursor.redactions_next)
    changes: list[tuple[int, ChangeAnnounced]] = []
    decisions: list[RedactionDecided | RedactionLifted] = []
    held: set[tuple[str, int]] = set()
    for place, record in page.records:
        if place in held:
            continue
        event, (topic, partition) = record.event, place
        if record.is_unknown:
            held.add(place)
            if topic == redactions:
                redactions_next = record.offset
            else:
                offsets[partition] = record.offset
        elif topic == redactions:
            if isinstance(event, (RedactionDecided, RedactionLifted)):
                decisions.append(event)
        elif isinstance(event, PartitionClaimed):
            claims[partition] = record.offset
        elif isinstance(event, ChangeAnnounced) and event.claim >= claims[partition]:
            claims[partition] = event.claim
            changes.append((partition, event))
    after = replace(
        cursor,
        redactions_next=redactions_next,
        offsets_next=tuple(offsets),
        claims=tuple(claims),
    )
    return FeedNews(changes, decisions, after, bool(held))


def identity_of(topic_ids: Sequence[str]) -> str:
    """What names the topics that a cursor is of."""
    return hashlib.sha256("\0".join(topic_ids).encode()).hexdigest()[:8]
