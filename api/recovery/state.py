"""What people decided, read back from a replica and appended to empty state topics.

    .tidestore/kept/ --> newest record of each key --> redactions, replicas, hooks
                                                        |            |
                        the origin: this replica, under '            '-- start cut: the feed's
                        a newer epoch than any before                    beginning

Redactions come before any object's event, or a redacted object would come back. A hook's start cut
named offsets of a log that is gone, so it hears the new feed from its beginning: the ids of changes
are the same as before, so its receiver knows a repeat.

Crash points: anywhere. A key that the topic has is passed over by the next run.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from tidestore.api.recovery.findings import Findings
from tidestore.connectors.errors import ChecksumMismatchError, ObjectMissingError
from tidestore.connectors.sealing import RecordSeal
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.verify import CheckedSource
from tidestore.schemas.codec import CodecError, decode
from tidestore.schemas.datasets import DatasetRegistered
from tidestore.schemas.events import (
    Event,
    HookRemoved,
    HookSaved,
    OriginChosen,
    RedactionDecided,
    RedactionLifted,
)
from tidestore.schemas.generations import GenerationChanged
from tidestore.schemas.kept import KEPT_BYTES_MAX, Kept, newest_of, read_kept
from tidestore.schemas.objects import MalformedError
from tidestore.schemas.own_keys import KEPT_PREFIX
from tidestore.schemas.positions import Cut
from tidestore.schemas.topics import ORIGIN_KEY

# Redactions first: see above. Hooks last: they ring when everything else is there.
_ORDER: Final = ("redactions", "replicas", "hooks")

# topic word, key, event
AppendState = Callable[[str, str, Event], Awaitable[None]]


@dataclass(slots=True)
class KeptState:
    """What was kept on a replica: the newest event of each key, by topic."""

    events: dict[str, dict[str, Event]] = field(default_factory=dict)
    # The newest log generation that anything was kept under; 0 when nothing was.
    generation: int = 0

    @property
    def redactions(self) -> dict[str, RedactionDecided]:
        """The decisions that stand, by target."""
        found = self.events.get("redactions", {})
        return {key: item for key, item in found.items() if isinstance(item, RedactionDecided)}

    @property
    def datasets(self) -> set[str]:
        """The datasets that the store had, with objects or without."""
        found = self.events.get("replicas", {}).values()
        return {event.name for event in found if isinstance(event, DatasetRegistered)}

    @property
    def epoch(self) -> int:
        """The newest epoch of the origin; 0 when none was kept."""
        chosen = self.events.get("replicas", {}).get(ORIGIN_KEY)
        return chosen.epoch if isinstance(chosen, OriginChosen) else 0


async def read_state(store: ObjectStore, seal: RecordSeal, findings: Findings) -> KeptState:
    """Everything that was kept on a replica. Raises StoreError; notes what cannot be read."""
    records: list[Kept] = []
    async for info in store.list(KEPT_PREFIX):
        if info.size > KEPT_BYTES_MAX:
            findings.note("unreadable records", info.key, "is larger than any that was kept")
            continue
        try:
            stream = await store.get(info.key)
            try:
                source = CheckedSource(stream.chunks, sha256=None, size=info.size)
                data = b"".join([chunk async for chunk in source])
            finally:
                await stream.close()
            records.append(read_kept(info.key, data))
        except (MalformedError, ObjectMissingError, ChecksumMismatchError) as error:
            findings.note("unreadable records", info.key, str(error))
    state = KeptState(generation=max((record.generation for record in records), default=0))
    for record in newest_of(records):
        try:
            value = record.value
            if record.is_sealed:
                value = seal.open(value, f"{record.topic}/{record.key}")
            state.events.setdefault(record.topic, {})[record.key] = decode(value)
        except (ValueError, CodecError) as error:
            findings.note("unreadable records", f"{record.topic}/{record.key}", str(error))
    return state


async def restore_state(
    state: KeptState,
    known: dict[str, dict[str, Event]],
    append: AppendState,
    findings: Findings,
    *,
    replica: str,
    partitions: int,
) -> int:
    """Append what was kept and is not there, and make `replica` the origin; its epoch.

    `known` is what the topics hold already. Raises LogError.
    """
    for topic in _ORDER:
        for key, event in state.events.get(topic, {}).items():
            if not _comes_back(event):
                continue
            findings.restored[topic] += 1
            if key in known.get(topic, {}):
                continue  # by an earlier run
            if isinstance(event, HookSaved):
                start = Cut(findings.generation, (0,) * partitions)
                event = replace(event, start_cut=str(start))  # noqa: PLW2901
            await append(topic, key, event)
    chosen = known.get("replicas", {}).get(ORIGIN_KEY)
    if isinstance(chosen, OriginChosen) and chosen.epoch > state.epoch:
        if chosen.replica == replica:
            return chosen.epoch  # by an earlier run
        state_epoch = chosen.epoch
    else:
        state_epoch = state.epoch
    now_ms = int(time.time() * 1000)
    # Newer than any epoch before, so that a gateway of the lost log may write no more.
    await append("replicas", ORIGIN_KEY, OriginChosen(replica, state_epoch + 1, now_ms))
    return state_epoch + 1


def _comes_back(event: Event) -> bool:
    """Whether an event says anything to an empty topic.

    The origin is chosen anew, and so is the generation: what it was moved from is gone.
    """
    return not isinstance(event, (HookRemoved, RedactionLifted, OriginChosen, GenerationChanged))
