"""One topic of the old generation, carried into its namesake of the new one.

    old topic --Source--> rule: the record as it is to be, or nothing --Target--> new topic
                                                                         |
                       Places: which one stands where  <-----------------'

Each pass reads from the end of the last one to the present end. Killed between two batches: the
next run reads the headers of what is there (`read_carried`), reads the old topic from its start,
so that claims are known, and passes over what was carried.
"""

from __future__ import annotations

from collections.abc import Callable

from tidestore.api.migration.places import Carried, Places
from tidestore.connectors.carrying import Moved, Raw, Source, Target
from tidestore.connectors.kafka import KafkaSettings
from tidestore.schemas.topics import partition_of

# The value to be carried; None leaves the record behind.
Rule = Callable[[Raw], bytes | None]


class Carrier:
    """Belongs to one run."""

    def __init__(
        self,
        kafka: KafkaSettings,
        word: str,
        source: tuple[str, int],
        target: tuple[str, int],
        rule: Rule,
        places: Places,
        appender: Target,
        *,
        are_events: bool = False,
        subject_of: Callable[[str], str] = str,
    ) -> None:
        self.word = word
        self._target, self._partitions = target
        self._rule = rule
        self._places = places
        self._appender = appender
        self._are_events = are_events
        # What decides a record's partition: the object's key, which the record's may only contain.
        self._subject_of = subject_of
        self._source = Source(kafka, *source)
        self._carried = Source(kafka, *target)
        self.count = 0

    @property
    def ends(self) -> dict[int, int]:
        """Where the old topic ended when it was last read."""
        return self._source.ends

    def catch_up(self, partition: int, offset: int) -> None:
        """Carry what is there now, unless the record at this place was carried. Raises LogError."""
        if not self._source.has_read(partition, offset):
            self.carry()

    def read_carried(self) -> None:
        """Learn what earlier runs have carried. Raises LogError."""
        for batch in self._carried.read():
            found = [
                Carried(
                    *record.origin,
                    record.partition,
                    record.offset,
                    record.key.decode("utf-8", "replace"),
                )
                for record in batch
                if record.origin is not None
            ]
            self._note(found)

    def carry(self) -> int:
        """Carry everything up to the present end; how many records were read. Raises LogError."""
        read = 0
        for batch in self._source.read():
            read += len(batch)
            moved = [item for record in batch if (item := self._moved(record)) is not None]
            offsets = self._appender.append(self._target, moved)
            self._note(
                [
                    Carried(
                        *item.origin, item.partition, offset, item.key.decode("utf-8", "replace")
                    )
                    for item, offset in zip(moved, offsets, strict=True)
                    if item.origin is not None
                ]
            )
        return read

    def _moved(self, record: Raw) -> Moved | None:
        value = self._rule(record) if record.value is not None else None
        if value is None or self._places.has(self.word, record.partition, record.offset):
            return None
        subject = self._subject_of(record.key.decode("utf-8", "replace"))
        target = partition_of(subject, self._partitions)
        return Moved(target, record.key, value, (record.partition, record.offset))

    def _note(self, found: list[Carried]) -> None:
        self.count += len(found)
        self._places.note(self.word, found, are_events=self._are_events)
