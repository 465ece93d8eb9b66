"""Records of the state topics as small objects on every replica: nothing is only in Kafka.

What people decided (redactions, hooks, replicas, the origin) stands in topics of its own. Each
record is also written to every replica, as an object that is never changed:

    .tidestore/kept/<topic>/<append time, 15 digits>-<offset, 12 digits>-<16 digits of its sha256>

Its name orders it among those of its topic, also after a recovery, when offsets begin again: time
goes on. Its bytes are canonical JSON, the same on every replica, so that writing it twice is
writing it once; the name proves them. A value that the owner of a bucket must not read is sealed
(hooks: they hold addresses of others).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tidestore.schemas.manifests import canonical_json
from tidestore.schemas.objects import MalformedError, ObjectKey
from tidestore.schemas.own_keys import KEPT_PREFIX

# The topics, by the words of Topics.
KEPT_TOPICS: Final = ("hooks", "redactions", "replicas")
# Their values hold addresses and secrets of others.
SEALED_TOPICS: Final = frozenset({"hooks"})
KEPT_CONTENT_TYPE: Final = "application/json"
# A record has at most 1 MiB; in base64, with what stands around it.
KEPT_BYTES_MAX: Final = 2 * 1024 * 1024
_FORMAT: Final = "tidestore.kept/1"


@dataclass(frozen=True, slots=True)
class Kept:
    """One record of a state topic. `value` is in wire bytes, or sealed."""

    topic: str
    key: str
    generation: int
    offset: int
    appended_at_ms: int
    value: bytes
    is_sealed: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """Its order among the records of its topic."""
        return self.appended_at_ms, self.offset


def kept_prefix(topic: str) -> str:
    """What the names of all records of a topic begin with."""
    return f"{KEPT_PREFIX}{topic}/"


def kept_key(record: Kept) -> ObjectKey:
    """The name of a record, made from its place and its bytes."""
    digest = hashlib.sha256(kept_bytes(record)).hexdigest()[:16]
    return ObjectKey(
        f"{kept_prefix(record.topic)}{record.appended_at_ms:015}-{record.offset:012}-{digest}"
    )


def kept_bytes(record: Kept) -> bytes:
    """The bytes of a record's object."""
    return canonical_json(
        {
            "format": _FORMAT,
            "topic": record.topic,
            "key": record.key,
            "generation": record.generation,
            "offset": record.offset,
            "appended_at_ms": record.appended_at_ms,
            "is_sealed": record.is_sealed,
            "value": base64.b64encode(record.value).decode("ascii"),
        }
    )


def read_kept(name: str, data: bytes) -> Kept:
    """The inverse of kept_bytes; raises MalformedError, also when the name is that of others."""
    try:
        found = json.loads(data)
        if found["format"] != _FORMAT:
            raise MalformedError("record", f"is not a {_FORMAT}")
        record = Kept(
            topic=str(found["topic"]),
            key=str(found["key"]),
            generation=int(found["generation"]),
            offset=int(found["offset"]),
            appended_at_ms=int(found["appended_at_ms"]),
            value=base64.b64decode(found["value"], validate=True),
            is_sealed=bool(found["is_sealed"]),
        )
        if kept_key(record) != name or kept_bytes(record) != data:
            raise MalformedError("record", "is not the one that its name says")
        return record
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError("record", f"lacks or mistypes {error}") from None


def newest_of(records: Iterable[Kept]) -> list[Kept]:
    """The last record of each key, in the order in which they were appended."""
    newest: dict[tuple[str, str], Kept] = {}
    for record in records:
        known = newest.get((record.topic, record.key))
        if known is None or known.place < record.place:
            newest[record.topic, record.key] = record
    return sorted(newest.values(), key=lambda record: (record.place, record.topic, record.key))
