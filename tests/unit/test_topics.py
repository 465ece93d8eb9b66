"""schemas/topics.py: names, partitions and settings, frozen where others depend on them."""

from __future__ import annotations

import zlib

import pytest

from tidestore.schemas.objects import DatasetName, ReplicaName, find_key_parts
from tidestore.schemas.topics import (
    CLAIM_PREFIX,
    DAY_MS,
    ORIGIN_KEY,
    RECORD_BYTES_MAX,
    VALUE_BYTES_MAX,
    Topics,
    TopicSpec,
    Windows,
    claim_key,
    partition_of,
)

# Computed once, by zlib's crc32 of the UTF-8 bytes. A change would put one object's records into
# two partitions, and no worker could join them any more.
FROZEN = {
    "public/blobs/" + "0" * 64: 1_033_087_866,
    "public/files/6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d.2026-11-23T120000.000000Z": 3_192_906_669,
    "データ": 3_175_782_308,
    "": 0,
    "123456789": 0xCBF43926,  # the published check value of CRC-32
}


@pytest.mark.parametrize("key", FROZEN)
@pytest.mark.parametrize("partitions", [1, 2, 6, 12, 96])
def test_a_keys_partition_never_changes(key: str, partitions: int) -> None:
    """Goal: one key, one partition, for ever. Method: values written down once."""
    assert zlib.crc32(key.encode()) == FROZEN[key]
    assert partition_of(key, partitions) == FROZEN[key] % partitions


def test_keys_spread_over_all_partitions() -> None:
    """Goal: work is shared. Method: 10,000 keys on 12 partitions, none 20 % off."""
    counts = [0] * 12
    for number in range(10_000):
        counts[partition_of(f"public/blobs/{number:064x}", 12)] += 1
    assert all(0.8 < count / (10_000 / 12) < 1.2 for count in counts)


def test_no_object_can_have_the_key_of_a_claim() -> None:
    """Goal: a claim never overwrites an object's record. Method: parse our own keys."""
    assert claim_key(3) == f"{CLAIM_PREFIX}3"
    assert len({claim_key(number) for number in range(100)}) == 100
    for key in (claim_key(0), ORIGIN_KEY):
        assert find_key_parts(key) is None


def test_topics_have_the_names_of_the_design() -> None:
    """Goal: outsiders find topics. Method: literal names of the first and of a later generation."""
    topics = Topics(prefix="t.")
    assert topics.log == "t.log"
    assert topics.copies(ReplicaName("onprem"), 2) == "t.copies.onprem.2"
    assert topics.changes(DatasetName("public")) == "t.changes.public"
    assert (topics.redactions, topics.replicas, topics.hooks) == (
        "t.redactions",
        "t.replicas",
        "t.hooks",
    )
    assert (topics.cursors, topics.deliveries) == ("t.cursors", "t.deliveries")
    assert (topics.tasks, topics.poison) == ("t.tasks", "t.poison")
    assert topics.retries == "t.retries"
    later = Topics(prefix="t.", generation=3)
    assert later.log == "t.g3.log"
    assert later.copies(ReplicaName("aws"), 1) == "t.g3.copies.aws.1"
    assert later.changes(DatasetName("d")) == "t.g3.changes.d"
    assert later.cursors == "t.g3.cursors"
    assert later.redactions == "t.redactions", "what outlives a generation keeps its name"


def _specs(replication: int = 1) -> dict[str, TopicSpec]:
    topics = Topics(prefix="", partitions=7, replication=replication)
    found = topics.specs(
        [(ReplicaName("aws"), 1), (ReplicaName("gcp"), 4)], [DatasetName("public")]
    )
    names = [spec.name for spec in found]
    assert len(names) == len(set(names))
    return {spec.name: spec for spec in found}


def test_log_copies_and_changes_have_one_partition_count() -> None:
    """Goal: one worker joins them without a shuffle. Method: the specs."""
    specs = _specs()
    for name in ("log", "copies.aws.1", "copies.gcp.4", "changes.public", "cursors"):
        assert specs[name].partitions == 7
    for name in ("redactions", "replicas", "hooks", "tasks", "retries", "poison", "audit"):
        assert specs[name].partitions == 1


def test_what_is_replayed_is_not_compacted_within_the_replay_window() -> None:
    """Goal: R9, and redacted bytes leave in time. Method: the three times and their order."""
    windows = Windows()
    settings = _specs()["log"].settings
    assert settings["cleanup.policy"] == "compact"
    assert int(settings["min.compaction.lag.ms"]) == windows.replay_ms == 7 * DAY_MS
    assert int(settings["max.compaction.lag.ms"]) == windows.redaction_ms
    assert windows.replay_ms < windows.redaction_ms
    room = windows.redaction_ms - windows.replay_ms
    assert 0 < int(settings["segment.ms"]) < room
    tight = Topics(windows=Windows(replay_ms=5, redaction_ms=5)).specs([], [])
    assert tight[0].settings["segment.ms"] == "1", "never zero: Kafka refuses that"


def test_no_topic_loses_acknowledged_records() -> None:
    """Goal: R1 on a real cluster. Method: the durable settings of every topic."""
    for replication, in_sync in ((1, "1"), (3, "2"), (5, "2")):
        for spec in _specs(replication=replication).values():
            assert spec.settings["min.insync.replicas"] == in_sync
            assert spec.settings["unclean.leader.election.enable"] == "false"
            assert spec.settings["message.timestamp.type"] == "LogAppendTime"
            assert spec.settings["max.message.bytes"] == str(RECORD_BYTES_MAX)


def test_only_history_is_deleted_by_age() -> None:
    """Goal: the truth is kept for ever. Method: the clean-up policy of every topic."""
    deleted = {
        name for name, spec in _specs().items() if spec.settings["cleanup.policy"] == "delete"
    }
    assert deleted == {"deliveries", "poison", "audit"}
    assert _specs()["audit"].settings["retention.ms"] == "-1", "for ever"
    assert _specs()["poison"].settings["retention.ms"] == str(30 * DAY_MS)


def test_a_value_leaves_room_for_its_record() -> None:
    """Goal: an accepted event is never refused by the broker. Method: the bounds."""
    assert RECORD_BYTES_MAX == 1_048_576
    assert RECORD_BYTES_MAX - VALUE_BYTES_MAX >= 1_024
