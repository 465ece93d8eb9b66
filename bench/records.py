"""Records written straight into a store's topics: what a history of a million writes left behind.

Writing a million objects through a gateway takes hours; what start-up, memory, lookups and listings
cost depends on the records alone. So they are written as the processes would have written them: the
product's own event classes, codec, keys, partitions and compression, into topics that a gateway of
the store has made. What a loader must not do while the store is used:

    log              ObjectWritten for each object, with its bytes if it is inline
    copies.<target>  CopyChanged `present` under claim 0: older than any claim that a worker makes
    the group        committed at the log's end, as that of a worker that has done all this

No object is put anywhere. A gateway answers about such objects as about any; reading one fails.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from bench.bursts import LoadError
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.codec import encode
from tidestore.schemas.events import CopyChanged, CopyState, ObjectWritten
from tidestore.schemas.manifests import (
    MANIFEST_CONTENT_TYPE,
    BundleEntry,
    FileManifest,
    bundle_manifest_bytes,
    file_manifest_bytes,
)
from tidestore.schemas.objects import (
    PUBLIC,
    Kind,
    ObjectKey,
    ObjectUuid,
    ReplicaName,
    Sha256,
    Version,
    blob_key,
    versioned_key,
)
from tidestore.schemas.topics import Topics, partition_of

ORIGIN: Final = "source"
TARGET_NAME: Final = "target"
VERSION: Final = Version("2026-01-01T000000.000000Z")
_BLOB_TYPE: Final = "application/octet-stream"
# A size that no event carries: what a log of large objects is made of.
_SIZE: Final = 1024 * 1024
_QUEUE_KIB: Final = 64 * 1024
_FLUSH_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1
_COMMIT_SECONDS: Final = 30.0
_COMMIT_PAUSE_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class Made:
    """An object of a history: its key, its checksums, and its bytes if they ride in its event."""

    key: ObjectKey
    sums: Checksums
    data: bytes | None = None
    content_type: str = _BLOB_TYPE


def far_blobs(first: int, count: int) -> Iterator[Made]:
    """Blobs whose bytes nobody has; the same for the same number."""
    for number in range(first, first + count):
        sums = _far_sums(number)
        yield Made(blob_key(PUBLIC, sums.sha256), sums)


def far_sha256(number: int) -> str:
    """The name of one of far_blobs."""
    return _far_sums(number).sha256


def inline_blobs(size: int, count: int) -> Iterator[Made]:
    """Blobs of random bytes that ride in their events."""
    for _ in range(count):
        data = os.urandom(size)
        sums = checksums_of(data)
        yield Made(blob_key(PUBLIC, sums.sha256), sums, data)


def bundles(count: int) -> Iterator[Made]:
    """Bundles of one file each, every one after its file and its blob."""
    for number in range(count):
        blob = next(far_blobs(number, 1))
        file_uuid = ObjectUuid(str(uuid.UUID(int=2 * number + 1)))
        name = f"cell-{number}.fastq.gz"
        data = file_manifest_bytes(FileManifest(file_uuid, VERSION, name, _BLOB_TYPE, blob.sums))
        file = _manifest(Kind.FILE, file_uuid, data)
        entry = BundleEntry(name, file_uuid, VERSION, _BLOB_TYPE, _SIZE, blob.sums.sha256)
        bundle_uuid = ObjectUuid(str(uuid.UUID(int=2 * number + 2)))
        data = bundle_manifest_bytes(bundle_uuid, VERSION, [entry])
        yield from (blob, file, _manifest(Kind.BUNDLE, bundle_uuid, data))


def _manifest(kind: Kind, uuid_: ObjectUuid, data: bytes) -> Made:
    key = versioned_key(PUBLIC, kind, uuid_, VERSION)
    return Made(key, checksums_of(data), data, MANIFEST_CONTENT_TYPE)


def _far_sums(number: int) -> Checksums:
    sha256 = hashlib.sha256(b"%d" % number).hexdigest()
    return Checksums(_SIZE, Sha256(sha256), sha256[:40], sha256[:8], sha256[:32])


class Loader:
    """Writes histories into the topics of one store."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int) -> None:
        self._client = {"bootstrap.servers": bootstrap}
        self._topics = Topics(prefix=prefix, partitions=partitions)
        self._producer = Producer(
            {
                **self._client,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "compression.type": "lz4",
                "queue.buffering.max.kbytes": _QUEUE_KIB,
            }
        )
        self._failed: list[str] = []

    def write(self, objects: Iterable[Made], *, is_copied: bool) -> int:
        """Append each object's event, and that the target has it if so; how many records."""
        count = 0
        copies = self._topics.copies(ReplicaName(TARGET_NAME), 1)
        for made in objects:
            now_ms = int(time.time() * 1000)
            self._append(self._topics.log, _written(made, now_ms))
            count += 1
            if is_copied:
                self._append(copies, _present(made, now_ms))
                count += 1
        if self._producer.flush(_FLUSH_SECONDS) or self._failed:
            raise LoadError(f"records were not taken: {self._failed[:1]}")
        return count

    def commit_group(self) -> None:
        """Let the target's group begin at the end of the log.

        A worker that ended keeps its place in the group for the session's time: that is waited for.
        """
        group = f"{self._topics.prefix}replicate.{TARGET_NAME}.1"
        consumer = Consumer({**self._client, "group.id": group, "enable.auto.commit": False})
        try:
            places = []
            for partition in range(self._topics.partitions):
                place = TopicPartition(self._topics.log, partition)
                _, end = consumer.get_watermark_offsets(place, timeout=_COMMIT_SECONDS)
                places.append(TopicPartition(self._topics.log, partition, end))
            deadline = time.monotonic() + _COMMIT_SECONDS
            while True:
                try:
                    consumer.commit(offsets=places, asynchronous=False)
                except KafkaException:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_COMMIT_PAUSE_SECONDS)
                else:
                    break
        finally:
            consumer.close()

    def _append(self, topic: str, event: ObjectWritten | CopyChanged) -> None:
        value, key = encode(event), event.key.encode()
        partition = partition_of(event.key, self._topics.partitions)
        while True:
            try:
                self._producer.produce(
                    topic, value, key, partition=partition, on_delivery=self._delivered
                )
            except BufferError:
                self._producer.poll(_POLL_SECONDS)
            else:
                self._producer.poll(0)
                return

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}: {error}")


def _written(made: Made, now_ms: int) -> ObjectWritten:
    sums = made.sums
    return ObjectWritten(
        key=made.key,
        size=sums.size,
        sha256=sums.sha256,
        sha1=sums.sha1,
        crc32c=sums.crc32c,
        md5=sums.md5,
        content_type=made.content_type,
        origin=ORIGIN,
        origin_epoch=1,
        written_at_ms=now_ms,
        written_by="bench",
        request_id="",
        data=made.data,
    )


def _present(made: Made, now_ms: int) -> CopyChanged:
    return CopyChanged(
        key=made.key,
        replica=TARGET_NAME,
        incarnation=1,
        state=CopyState.PRESENT,
        claim=0,
        log_offset=0,
        size=made.sums.size,
        sha256=made.sums.sha256,
        content_type=made.content_type,
        origin=ORIGIN,
        written_at_ms=now_ms,
        changed_at_ms=now_ms,
    )
