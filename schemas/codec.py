"""Events to bytes and back: Avro behind the Confluent wire header.

    byte 0      0, the magic byte
    bytes 1-4   id of the writer's schema, big-endian
    bytes 5-    the record in Avro binary, nothing after it

Reading takes the writer's schema by id and resolves it into the newest one, so old records keep
working. Two kinds of failure must stay apart (design section 4, point 9): an id that we do not
know may be known to the next release, so the reader has to wait; a record that breaks under a
schema we do know will never be better, so it is set aside.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, cast

import fastavro

from tidestore.schemas import events
from tidestore.schemas.catalogue import newest_schemas, released_schemas
from tidestore.schemas.parties import PartySaved
from tidestore.schemas.topics import VALUE_BYTES_MAX

MAGIC: Final = 0
_HEADER: Final = struct.Struct(">bI")


class CodecError(ValueError):
    """A record could not be turned into bytes or back."""


class RecordTooLargeError(CodecError):
    """The encoded event would not fit into a record of the log; nothing may be put for it."""


class UnknownSchemaError(CodecError):
    """The record names a schema id that this release does not have: wait, do not skip."""

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} is not known to this release")
        self.schema_id = schema_id


class PoisonedRecordError(CodecError):
    """The record does not read under the schema it names: it never will, set it aside."""


_EVENTS_BY_NAME: Final[dict[str, type[Any]]] = {
    event.__name__: event for event in events.EVENT_TYPES
}
_FIELDS: Final = {event: tuple(f.name for f in fields(event)) for event in events.EVENT_TYPES}


def encode(event: events.Event) -> bytes:
    """The wire bytes of an event; raises RecordTooLargeError."""
    kind = type(event)
    schema = newest_schemas()[kind.__name__]
    buffer = io.BytesIO()
    buffer.write(_HEADER.pack(MAGIC, schema.id))
    record = {name: getattr(event, name) for name in _FIELDS[kind]}
    if kind is events.ChangeAnnounced:
        record["copies"] = [_place_record(place) for place in record["copies"]]
    fastavro.schemaless_writer(buffer, schema.parsed, record)
    data = buffer.getvalue()
    if len(data) > VALUE_BYTES_MAX:
        raise RecordTooLargeError(
            f"{kind.__name__} takes {len(data)} bytes encoded, a record of the log holds at most "
            f"{VALUE_BYTES_MAX}"
        )
    return data


def decode(data: bytes) -> events.Event:
    """The event in wire bytes; raises UnknownSchemaError or PoisonedRecordError."""
    if len(data) < _HEADER.size:
        raise PoisonedRecordError(f"{len(data)} bytes are too few for a wire header")
    if len(data) > VALUE_BYTES_MAX:
        # Bounds what a hostile record can make the decoder allocate.
        raise PoisonedRecordError(f"{len(data)} bytes are more than any record of ours has")
    magic, schema_id = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise PoisonedRecordError(f"begins with byte {magic}, not with the magic byte 0")
    writer = released_schemas().get(schema_id)
    if writer is None:
        raise UnknownSchemaError(schema_id)
    reader = newest_schemas()[writer.record]
    stream = io.BytesIO(data)
    stream.seek(_HEADER.size)
    try:
        if writer is reader:  # resolving a schema into itself costs and changes nothing
            record = fastavro.schemaless_reader(stream, writer.parsed, None)
        else:
            record = fastavro.schemaless_reader(stream, writer.parsed, reader.parsed)
        if stream.tell() != len(data):
            raise PoisonedRecordError(f"{len(data) - stream.tell()} bytes are left over")
        return _BUILDERS[writer.record](cast("dict[str, Any]", record))
    except PoisonedRecordError:
        raise
    except Exception as error:  # noqa: BLE001
        # fastavro has no common base class for what broken bytes make it raise.
        raise PoisonedRecordError(f"{writer.record}: {type(error).__name__}: {error}") from None


def schema_id_of(data: bytes) -> int:
    """The schema id in wire bytes, without decoding them; raises PoisonedRecordError."""
    if len(data) < _HEADER.size or data[0] != MAGIC:
        raise PoisonedRecordError("no wire header")
    return int(_HEADER.unpack_from(data)[1])


def _place_record(place: events.CopyPlace) -> dict[str, object]:
    return {
        "replica": place.replica,
        "incarnation": place.incarnation,
        "state": place.state,
        "url": place.url,
        "changed_at_ms": place.changed_at_ms,
    }


def _place(record: dict[str, Any]) -> events.CopyPlace:
    record["state"] = events.CopyState(record["state"])
    return events.CopyPlace(**record)


def _build_copy(record: dict[str, Any]) -> events.CopyChanged:
    record["state"] = events.CopyState(record["state"])
    return events.CopyChanged(**record)


def _build_task(record: dict[str, Any]) -> events.TaskChanged:
    record["state"] = events.TaskState(record["state"])
    return events.TaskChanged(**record)


def _build_hook(record: dict[str, Any]) -> events.HookSaved:
    record["events"] = tuple(record["events"])
    return events.HookSaved(**record)


def _build_party(record: dict[str, Any]) -> PartySaved:
    record["datasets"] = tuple(record["datasets"])
    return PartySaved(**record)


def _build_change(record: dict[str, Any]) -> events.ChangeAnnounced:
    record["expected"] = tuple(record["expected"])
    record["copies"] = tuple(_place(place) for place in record["copies"])
    return events.ChangeAnnounced(**record)


def _builder(name: str) -> Callable[[dict[str, Any]], events.Event]:
    event = _EVENTS_BY_NAME[name]
    return lambda record: event(**record)


_BUILDERS: Final[dict[str, Callable[[dict[str, Any]], events.Event]]] = {
    **{name: _builder(name) for name in _EVENTS_BY_NAME},
    "CopyChanged": _build_copy,
    "TaskChanged": _build_task,
    "HookSaved": _build_hook,
    "ChangeAnnounced": _build_change,
    "PartySaved": _build_party,
}
