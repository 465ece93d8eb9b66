"""schemas/codec.py: events to wire bytes and back, and the two kinds of bytes that do not read."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import fastavro
import pytest
from tests.golden.samples import SAMPLES

from tidestore.schemas import catalogue, codec
from tidestore.schemas.catalogue import Released, newest_schemas, released_schemas
from tidestore.schemas.codec import (
    PoisonedRecordError,
    RecordTooLargeError,
    UnknownSchemaError,
    decode,
    encode,
    schema_id_of,
)
from tidestore.schemas.events import (
    ChangeAnnounced,
    CopyChanged,
    CopyState,
    HookSaved,
    ObjectWritten,
    OriginChosen,
    TaskChanged,
    TaskState,
)
from tidestore.schemas.topics import RECORD_BYTES_MAX, VALUE_BYTES_MAX

_CHOSEN = OriginChosen("aws", 2, 3)
_WRITTEN = SAMPLES["object_written.v1"]


def test_wire_bytes_are_literally_these() -> None:
    """Goal: Confluent's format, no dialect. Method: a record encoded by hand."""
    header = b"\x00" + (9).to_bytes(4, "big")
    body = b"\x06aws" + b"\x04" + b"\x06"  # zigzag: length 3, 2, 3
    assert encode(_CHOSEN) == header + body
    assert decode(header + body) == _CHOSEN
    assert schema_id_of(header + body) == 9


@pytest.mark.parametrize("name", SAMPLES)
def test_an_event_comes_back_as_it_was(name: str) -> None:
    """Goal: nothing is lost or retyped. Method: there and back, with types of enums and tuples."""
    event = SAMPLES[name]
    found = decode(encode(event))
    assert found == event
    assert type(found) is type(event)


def test_enums_and_lists_come_back_with_their_types() -> None:
    """Goal: a reader can rely on CopyState and tuples. Method: look at the types."""
    copy, task = (
        decode(encode(SAMPLES["copy_changed.v1"])),
        decode(encode(SAMPLES["task_changed.v1"])),
    )
    hook, change = (
        decode(encode(SAMPLES["hook_saved.v1"])),
        decode(encode(SAMPLES["change_announced.v1"])),
    )
    assert isinstance(copy, CopyChanged)
    assert isinstance(copy.state, CopyState)
    assert isinstance(task, TaskChanged)
    assert isinstance(task.state, TaskState)
    assert isinstance(hook, HookSaved)
    assert isinstance(hook.events, tuple)
    assert isinstance(change, ChangeAnnounced)
    assert isinstance(change.copies, tuple)
    assert all(isinstance(place.state, CopyState) for place in change.copies)


def test_a_record_that_would_not_fit_is_refused_before_it_is_sent() -> None:
    """Goal: nothing is put for what the log cannot hold. Method: both sides of the bound."""
    assert isinstance(_WRITTEN, ObjectWritten)
    bare = len(encode(replace(_WRITTEN, data=b"x" * 900_000))) - 900_000
    fits = replace(_WRITTEN, data=b"x" * (VALUE_BYTES_MAX - bare))
    assert len(encode(fits)) == VALUE_BYTES_MAX < RECORD_BYTES_MAX
    with pytest.raises(RecordTooLargeError, match="ObjectWritten takes"):
        encode(replace(fits, data=b"x" * (VALUE_BYTES_MAX - bare + 1)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too few"),
        (b"\0\0\0\0", "too few"),
        (b"\x01\0\0\0\x09\x06aws\x04\x06", "begins with byte 1"),
        (b"\xff\0\0\0\x09\x06aws\x04\x06", "begins with byte -1"),
        (encode(_CHOSEN) + b"\0", "1 bytes are left over"),
        (encode(_CHOSEN)[:-1], "OriginChosen"),
        (encode(_CHOSEN)[:5], "OriginChosen"),
        (b"\0\0\0\0\x09\x07aws\x04\x06", "OriginChosen"),
        (b"\0\0\0\0\x09\x06\xff\xfe\xfd\x04\x06", "OriginChosen"),
        (b"{}     ", "begins with byte"),
    ],
)
def test_a_record_that_breaks_under_a_known_schema_is_poison(data: bytes, reason: str) -> None:
    """Goal: set aside with a reason, never a stray exception. Method: broken bytes."""
    with pytest.raises(PoisonedRecordError, match=reason):
        decode(data)


def test_a_record_with_a_symbol_that_is_none_is_poison() -> None:
    """Goal: an enum's index out of range is no crash. Method: a state number 60."""
    event = SAMPLES["copy_changed.v1"]
    data = bytearray(encode(event))
    place = data.index(b"onprem") + len("onprem") + 1  # incarnation is one byte, then the state
    assert data[place] == 2 * list(CopyState).index(CopyState.PARKED)
    data[place] = 120
    with pytest.raises(PoisonedRecordError, match="CopyChanged"):
        decode(bytes(data))


def test_a_record_larger_than_any_of_ours_is_poison() -> None:
    """Goal: a hostile record allocates nothing. Method: a byte over the bound."""
    with pytest.raises(PoisonedRecordError, match="more than any record"):
        decode(b"\0\0\0\0\x01" + b"x" * (VALUE_BYTES_MAX - 4))


@pytest.mark.parametrize("schema_id", [0, max(released_schemas()) + 1, 2**31, 2**32 - 1])
def test_an_unknown_schema_is_waited_for_not_dropped(schema_id: int) -> None:
    """Goal: a rolling upgrade drops nothing. Method: ids that this release does not have."""
    assert schema_id not in released_schemas()
    data = struct.pack(">bI", 0, schema_id) + b"anything"
    with pytest.raises(UnknownSchemaError) as caught:
        decode(data)
    assert caught.value.schema_id == schema_id == schema_id_of(data)
    assert not isinstance(caught.value, PoisonedRecordError)


def test_no_id_is_read_out_of_what_has_no_header() -> None:
    """Goal: no guess. Method: short and foreign bytes."""
    for data in (b"", b"\0\0", b"\x01\0\0\0\x01"):
        with pytest.raises(PoisonedRecordError):
            schema_id_of(data)


def test_an_old_record_is_resolved_into_the_newest_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: old records keep working after a new version. Method: a made-up older OriginChosen."""
    newest = newest_schemas()["OriginChosen"]
    document: dict[str, Any] = {
        "type": "record",
        "name": "OriginChosen",
        "namespace": "tidestore",
        "fields": [
            {"name": "replica", "type": "string"},
            {"name": "forgotten", "type": "string", "default": ""},
            {"name": "epoch", "type": "long"},
            {"name": "chosen_at_ms", "type": "long"},
        ],
    }
    parsed = fastavro.parse_schema(document, named_schemas={})
    older = Released(999, "OriginChosen", 0, "", parsed)
    monkeypatch.setattr(codec, "released_schemas", lambda: {9: newest, 999: older})
    data = struct.pack(">bI", 0, 999) + b"\x06aws" + b"\x02x" + b"\x04" + b"\x06"
    assert decode(data) == _CHOSEN
    assert catalogue.incompatibilities(document, {**document, "fields": document["fields"][:1]})
