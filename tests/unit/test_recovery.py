"""The events of a replica, made from what lies there alone; on the in-memory store, in no time."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tidestore.api.recovery.findings import Findings
from tidestore.api.recovery.inventory import Inventory
from tidestore.api.recovery.rebuild import Rebuild, Task
from tidestore.api.recovery.run import RecoveryRefusedError, RecoverySettings, recover
from tidestore.api.settings import Limits
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.errors import ObjectMissingError, StoreUnreachableError
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.store import ByteStream
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.codec import decode
from tidestore.schemas.events import ObjectRedacted, ObjectWritten, RedactionDecided
from tidestore.schemas.manifests import (
    BundleEntry,
    FileManifest,
    Link,
    bundle_manifest_bytes,
    collection_manifest_bytes,
    file_manifest_bytes,
)
from tidestore.schemas.objects import (
    PUBLIC,
    Kind,
    ObjectKey,
    ObjectUuid,
    ReplicaName,
    Version,
    blob_key,
    versioned_key,
)
from tidestore.schemas.topics import Topics

VERSION = Version("2026-11-24T055245.148316Z")
LIMITS = Limits(inline_bytes_max=100)
SMALL, LARGE = b"small", b"l" * 5_000


class Crash(Exception):  # noqa: N818  the end of a process, not an error of one
    """Here the process is killed."""


class Replica:
    """A replica with a few objects, and what a recovery makes of it."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore("onprem")
        self.folder = folder
        self.log: list[tuple[str, ObjectWritten | ObjectRedacted]] = []
        self.numbers = itertools.count()
        self.redactions: dict[str, RedactionDecided] = {}

    async def put(self, key: ObjectKey, body: bytes) -> ObjectKey:
        await self.store.put_if_absent(key, body, checksums_of(body), content_type="")
        return key

    async def blob(self, body: bytes) -> ObjectKey:
        return await self.put(blob_key(PUBLIC, checksums_of(body).sha256), body)

    async def file(self, body: bytes, sums: Checksums | None = None) -> ObjectKey:
        identity = ObjectUuid(str(uuid.uuid4()))
        manifest = FileManifest(identity, VERSION, "a", "text/plain", sums or checksums_of(body))
        key = versioned_key(PUBLIC, Kind.FILE, identity, VERSION)
        return await self.put(key, file_manifest_bytes(manifest))

    async def bundle(self, files: dict[ObjectKey, bytes]) -> ObjectKey:
        entries = [
            BundleEntry(
                key, ObjectUuid(key[13:49]), VERSION, "text/plain", len(body),
                checksums_of(body).sha256,
            )
            for key, body in files.items()
        ]  # fmt: skip
        identity = ObjectUuid(str(uuid.uuid4()))
        body = bundle_manifest_bytes(identity, VERSION, entries)
        return await self.put(versioned_key(PUBLIC, Kind.BUNDLE, identity, VERSION), body)

    async def collection(self, bundle: ObjectKey) -> ObjectKey:
        identity = ObjectUuid(str(uuid.uuid4()))
        link = Link(Kind.BUNDLE, uuid=ObjectUuid(bundle[15:51]), version=VERSION)
        body = collection_manifest_bytes(identity, VERSION, [link])
        return await self.put(versioned_key(PUBLIC, Kind.COLLECTION, identity, VERSION), body)

    async def whole(self) -> list[ObjectKey]:
        """One of each kind, and a blob that no manifest names: children before parents."""
        small, large = await self.file(SMALL), await self.file(LARGE)
        blobs = [await self.blob(body) for body in (SMALL, LARGE, b"alone" * 100)]
        bundle = await self.bundle({small: SMALL, large: LARGE})
        return [*blobs, small, large, bundle, await self.collection(bundle)]

    async def recover(self, *, dies_after: int = 10**9, reads_all: bool = False) -> Findings:
        """One run; what it appends stays in the log, also when it dies."""
        inventory = Inventory(self.folder / f"{next(self.numbers)}.sqlite")
        inventory.add_logged((key, getattr(event, "sha256", "")) for key, event in self.log)
        findings = Findings("onprem", 2)
        left = itertools.count()

        async def append(key: ObjectKey, value: bytes) -> None:
            if next(left) >= dies_after:
                raise Crash
            event = decode(value)
            assert isinstance(event, (ObjectWritten, ObjectRedacted))
            self.log.append((key, event))

        task = Task(3, LIMITS, self.redactions, reads_all)
        rebuild = Rebuild(self.store, inventory, findings, task, append, lambda *_: None)
        try:
            await rebuild.list()
            await rebuild.append()
        finally:
            inventory.close()
        return findings

    def keys(self) -> list[str]:
        return [key for key, _ in self.log]


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    """An empty one."""
    return Replica(tmp_path)


async def test_every_object_gets_the_event_that_it_had_children_first(replica: Replica) -> None:
    """Goal: index and workers find what they had. Method: one of each kind; compare each event."""
    keys = await replica.whole()
    findings = await replica.recover()
    assert findings.is_whole, findings.document()
    order = replica.keys()
    assert sorted(order) == sorted(keys)
    assert max(map(order.index, keys[:3])) < min(map(order.index, keys[3:]))
    assert max(map(order.index, keys[3:5])) < order.index(keys[5]) < order.index(keys[6])
    for key, event in replica.log:
        assert isinstance(event, ObjectWritten)
        stream = await replica.store.get(ObjectKey(key))
        body = b"".join([chunk async for chunk in stream.chunks])
        sums = checksums_of(body)
        assert (event.key, event.size, event.sha256) == (key, sums.size, sums.sha256)
        assert (event.sha1, event.crc32c, event.md5) == (sums.sha1, sums.crc32c, sums.md5)
        assert (event.origin, event.origin_epoch) == ("onprem", 3)
        is_inline = "/blobs/" not in key or len(body) <= LIMITS.inline_bytes_max
        assert event.data == (body if is_inline else None)


async def test_only_what_nothing_else_proves_is_read(replica: Replica) -> None:
    """Goal: terabytes are not read to be sure of them. Method: count the bytes that were read."""
    keys = await replica.whole()
    sizes = {key: (await replica.store.head(key)).size for key in keys}
    findings = await replica.recover()
    assert findings.bytes_read == sum(sizes.values()) - len(LARGE)
    replica.log.clear()
    assert (await replica.recover(reads_all=True)).bytes_read == sum(sizes.values())


@pytest.mark.parametrize("dies_after", range(7))
async def test_a_run_that_was_killed_is_ended_by_the_next(
    replica: Replica, dies_after: int
) -> None:
    """Goal: resumable. Method: die before each append in turn; nothing is twice, nothing lacks."""
    keys = await replica.whole()
    with pytest.raises(Crash):
        await replica.recover(dies_after=dies_after)
    assert len(replica.log) == dies_after
    findings = await replica.recover()
    assert sorted(replica.keys()) == sorted(keys)
    assert findings.already.total() == dies_after
    assert findings.appended.total() == len(keys) - dies_after


async def swap(replica: Replica, key: ObjectKey, body: bytes) -> None:
    """Other bytes under a key, as a failing disk or a stranger would leave them."""
    await replica.store.delete(key)
    await replica.put(key, body)


async def test_what_is_damaged_is_named_and_never_appended(replica: Replica) -> None:
    """Goal: the new log says nothing false.

    Method: a small and a large blob and a manifest with one byte changed; what names them is there
    all the same, and said to be incomplete.
    """
    small, large, _, file, other, bundle, collection = await replica.whole()
    await swap(replica, small, b"smalL")
    await swap(replica, large, LARGE[:-1] + b"x")
    stream = await replica.store.get(other)
    body = b"".join([chunk async for chunk in stream.chunks])
    await swap(replica, other, body.replace(b'"format":', b'"format": '))
    findings = await replica.recover()
    wrong = {word: {key for key, _ in names} for word, names in findings.wrong.items()}
    assert wrong == {"damaged": {small, large, other}, "incomplete": {file, bundle}}
    assert not {small, large, other} & set(replica.keys())
    assert {file, bundle, collection} <= set(replica.keys())


async def test_two_files_that_contradict_each_other_are_settled_by_the_blob(
    replica: Replica,
) -> None:
    """Goal: a lying manifest harms only itself. Method: one with another md5; the blob is large."""
    blob, good = await replica.blob(LARGE), await replica.file(LARGE)
    bad = await replica.file(LARGE, dataclasses.replace(checksums_of(LARGE), md5="0" * 32))
    findings = await replica.recover()
    assert set(replica.keys()) == {blob, good}
    assert [key for key, _ in findings.wrong["damaged"]] == [bad]


async def test_a_redacted_object_does_not_come_back(replica: Replica) -> None:
    """Goal: a decision outlives the log. Method: by key and by uuid; the bytes are still there."""
    keys = await replica.whole()
    blob, file = keys[0], keys[3]
    for target in (blob, file.partition(".")[0]):
        decided = RedactionDecided(target, 4, "withdrawn", "tester", 1, 2)
        replica.redactions[target] = decided
    findings = await replica.recover()
    assert findings.is_whole, findings.document()  # what is redacted is settled, not missing
    events = dict(replica.log)
    assert isinstance(events[blob], ObjectRedacted)
    assert isinstance(events[file], ObjectRedacted)
    assert isinstance(events[keys[5]], ObjectWritten)
    before = len(replica.log)
    await replica.recover()
    assert len(replica.log) == before


async def test_a_redaction_is_said_again_also_where_nothing_is_left_to_remove(
    replica: Replica,
) -> None:
    """Goal: a replica that was away learns of it (R7). Method: the survivor had removed it."""
    gone = blob_key(PUBLIC, checksums_of(b"gone").sha256)
    replica.redactions[gone] = RedactionDecided(gone, 2, "withdrawn", "tester", 1, 2)
    await replica.blob(SMALL)
    for _ in range(2):
        await replica.recover()
        said = [event for key, event in replica.log if key == gone]
        assert said == [ObjectRedacted(gone, 2, "withdrawn", "tester", 1, None)]


class Failing(MemoryStore):
    """Lists everything, gives nothing."""

    error: type[Exception] = ObjectMissingError

    async def get(self, key: ObjectKey, *, start: int = 0, length: int | None = None) -> ByteStream:
        """See ObjectStore."""
        del start, length
        raise self.error("get", self.name, key)


async def test_a_store_that_is_down_ends_the_run_and_damages_nothing(replica: Replica) -> None:
    """Goal: an outage is not a hundred damaged objects. Method: every read fails, in two ways."""
    replica.store = Failing("onprem")
    for number in range(30):
        await replica.blob(b"%d" % number)
    assert (await replica.recover()).totals["unreadable"] == 30
    Failing.error = StoreUnreachableError
    with pytest.raises(StoreUnreachableError):
        await replica.recover()
    assert not replica.log


async def test_other_things_in_a_bucket_are_counted_and_left(replica: Replica) -> None:
    """Goal: shared buckets work. Method: strange names, and ours under .tidestore/."""
    await replica.blob(SMALL)
    for name in ("readme.txt", "public/blobs/x", ".tidestore/damaged/public/blobs/y@1"):
        await replica.put(ObjectKey(name), b"other")
    findings = await replica.recover()
    assert (findings.others, len(replica.log), findings.is_whole) == (2, 1, True)
    left: AsyncIterator[object] = replica.store.list()
    assert len([item async for item in left]) == 4


def settings(folder: Path, **more: Any) -> RecoverySettings:
    """A recovery from a folder; no broker listens where it is told."""
    name, root = ReplicaName("onprem"), folder / "onprem"
    values: dict[str, Any] = {
        "kafka": KafkaSettings("127.0.0.1:1"), "topics": Topics(generation=2),
        "replicas": ((name, 1),), "name": name, "address": StoreAddress.parse(root.as_uri(), {}),
        "origin": name, "datasets": (PUBLIC,), "data_folder": folder, "seal_key": Secret(""),
        "limits": LIMITS,
    }  # fmt: skip
    return RecoverySettings(**{**values, **more})


async def test_what_must_be_put_right_first_is_said(tmp_path: Path) -> None:
    """Goal: no log is built that has to be thrown away.

    Method: the lost log's generation, another origin, a place where nothing lies.
    """
    for more, hint in (
        ({"topics": Topics(generation=1)}, "set generation = 2"),
        ({"origin": ReplicaName("aws")}, 'set origin = "onprem"'),
        ({"is_dry": True}, "is its URL right"),
    ):
        with pytest.raises(RecoveryRefusedError) as refused:
            await recover(settings(tmp_path, **more), lambda *_: None)
        assert hint in refused.value.hint


async def test_a_dry_run_reads_all_and_asks_no_broker(tmp_path: Path) -> None:
    """Goal: known before it is needed. Method: a blob and a damaged one, and no Kafka anywhere."""
    place = tmp_path / "onprem" / "public" / "blobs"
    place.mkdir(parents=True)
    (place / checksums_of(SMALL).sha256).write_bytes(SMALL)
    (place / ("0" * 64)).write_bytes(SMALL)
    findings = await recover(settings(tmp_path, is_dry=True), lambda *_: None)
    assert (findings.appended, findings.totals["damaged"]) == ({"blob": 1}, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onprem"]
