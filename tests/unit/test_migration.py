"""api/migration: what is carried, what is left behind, where readers begin; without a broker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.made import copy, written

from tidestore.api.migration.places import Carried, Places
from tidestore.api.migration.rules import Cursors, StampedRecords, log_record
from tidestore.api.migration.run import MigrationRefusedError, MigrationSettings, find_route
from tidestore.connectors.kafka import KafkaSettings
from tidestore.schemas.codec import decode, encode
from tidestore.schemas.events import CursorMoved, PartitionClaimed
from tidestore.schemas.generations import GenerationChanged
from tidestore.schemas.topics import Topics, canary_key, partition_of, tick_key

FIRST = Topics(prefix="t.", partitions=2)
STEP = GenerationChanged(2, 6, "building", 1, 2, "r", 1)
OPEN = replace(STEP, state="open", from_cut="1:1.1", cut="2:1.1.1.1.1.1")


def claim(partition: int) -> bytes:
    return encode(PartitionClaimed("w", partition, 1))


def settings(partitions: int, topics: Topics = FIRST) -> MigrationSettings:
    return MigrationSettings(KafkaSettings(""), topics, partitions, Path())


# Which way.


def test_a_move_goes_to_the_next_generation() -> None:
    """Goal: the names are free. Method: a first move, and one after another."""
    route = find_route(settings(6), [])
    assert (route.old.log, route.new.log, route.new.partitions) == ("t.log", "t.g2.log", 6)
    route = find_route(settings(8), [OPEN])
    assert (route.old.log, route.old.partitions) == ("t.g2.log", 6)
    assert (route.new.log, route.new.partitions) == ("t.g3.log", 8)


@pytest.mark.parametrize("state", ["building", "closing"])
def test_an_interrupted_move_goes_on_to_the_same_place(state: str) -> None:
    """Goal: one move at a time. Method: the same number, and another one."""
    step = replace(STEP, state=state)
    route = find_route(settings(6), [step])
    assert (route.new.log, route.new.partitions, route.step) == ("t.g2.log", 6, step)
    with pytest.raises(MigrationRefusedError, match="under way") as refused:
        find_route(settings(12), [step])
    assert "--partitions 6" in refused.value.hint


def test_a_move_that_is_done_is_only_tidied() -> None:
    """Goal: giving the command again is safe. Method: the number that the log has by now."""
    route = find_route(settings(6), [OPEN])
    assert (route.old.log, route.old.partitions, route.new.log) == ("t.log", 2, "t.g2.log")
    assert route.step == OPEN


@pytest.mark.parametrize("partitions", [1, 2])
def test_fewer_partitions_are_refused(partitions: int) -> None:
    """Goal: no promise that cannot be kept. Method: as many, and fewer."""
    with pytest.raises(MigrationRefusedError, match="has 2 partitions"):
        find_route(settings(partitions), [])


# What is carried.


def test_events_are_carried_as_they_are_and_ticks_are_not() -> None:
    """Goal: the log stays what it is, what cannot be read too. Method: three records."""
    value = encode(written())
    assert log_record(b"public/blobs/a", value) == value
    assert log_record(b"public/blobs/a", b"\x07 of a newer release") == b"\x07 of a newer release"
    for key in (tick_key(3), canary_key(3)):
        assert log_record(key.encode(), value) is None


def test_late_words_and_claims_stay_behind() -> None:
    """Goal: what did not count counts no more. Method: a frozen worker's word behind a claim."""
    rule = StampedRecords(lambda key, partition, offset: 100 * partition + offset)
    assert rule.take(1, 40, claim(1)) is None
    found = decode(rule.take(1, 41, encode(copy("k", claim=40, log_offset=7))) or b"")
    assert found == copy("k", claim=0, log_offset=107)
    assert rule.take(1, 57, claim(1)) is None
    assert rule.take(1, 58, encode(copy("k", claim=40))) is None
    assert rule.take(2, 58, encode(copy("k", claim=40))) is not None
    assert rule.take(1, 59, b"broken") is None


def test_the_newest_cursor_that_counts_is_taken() -> None:
    """Goal: a frozen gateway's cursor moves nobody. Method: two claims, three cursors."""
    cursors = Cursors()
    cursors.take(0, 0, claim(0))
    cursors.take(0, 1, encode(CursorMoved("h", 0, 5, 0, 1, delivered=3)))
    cursors.take(0, 2, claim(0))
    cursors.take(0, 3, encode(CursorMoved("h", 0, 9, 0, 1, delivered=9)))
    assert cursors.of("h", (1, 2)) == {0: 5, 1: 2}
    assert cursors.of("other", (1, 2)) == {0: 1, 1: 2}
    assert (cursors.delivered("h"), cursors.delivered("other")) == (3, 0)


# Where readers begin.


@given(
    keys=st.lists(st.text("abcdef", min_size=1, max_size=2), max_size=40),
    read=st.lists(st.integers(0, 40), min_size=3, max_size=3),
    batches=st.integers(1, 7),
)
def test_no_reader_passes_over_what_it_has_not_read(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], read: list[int], batches: int
) -> None:
    """Goal: a hook hears all, a group reads all.

    Method: any records, carried in any interleaving that keeps the order of each old partition;
    any place that the reader had come to.
    """
    old: dict[int, list[str]] = {number: [] for number in range(3)}
    for key in keys:
        old[partition_of(key, 3)].append(key)
    new: dict[int, list[tuple[int, int]]] = {number: [] for number in range(5)}
    places = Places(tmp_path_factory.mktemp("places") / "p.sqlite")
    for first in range(0, 40, batches):
        for partition, records in old.items():
            found = []
            for offset, key in enumerate(records[first : first + batches], first):
                target = partition_of(key, 5)
                found.append(Carried(partition, offset, target, len(new[target]), key))
                new[target].append((partition, offset))
            places.note("changes.public", found)
    ends = {number: len(records) for number, records in new.items()}
    begin = places.begin("changes.public", dict(enumerate(read)), ends)
    places.close()
    for target, moved in new.items():
        for partition, offset in moved[: begin[target]]:
            assert offset < read[partition], "it was passed over"
        rest = moved[begin[target] :]
        assert not rest or rest[0][1] >= read[rest[0][0]], "it begins earlier than it need"


def test_a_place_in_the_log_is_found_also_after_compaction(tmp_path: Path) -> None:
    """Goal: records point to their event. Method: the one meant, the next one, the last, none."""
    places = Places(tmp_path / "p.sqlite")
    carried = [Carried(0, 5, 3, 50, "k"), Carried(0, 9, 3, 51, "k"), Carried(0, 6, 1, 7, "x")]
    places.note("log", carried, are_events=True)
    assert places.event_offset("k", 5) == 50
    assert places.event_offset("k", 6) == 51
    assert places.event_offset("k", 10) == 51
    assert places.event_offset("unknown", 3) == 0
    assert places.has("log", 0, 9)
    assert not places.has("log", 0, 7)
    places.close()
