"""Released schemas and the bytes that they have written stay what they are, for ever.

`bytes/<schema>.hex` is what one release put on the wire, `samples.py` what it meant,
`released.json` the sha256 of each schema file at its release.
"""

from __future__ import annotations

import hashlib
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import fastavro
import pytest
from tests.golden.samples import SAMPLES

from tidestore.schemas import events
from tidestore.schemas.catalogue import newest_schemas, released_schemas
from tidestore.schemas.codec import decode, encode, schema_id_of

_HERE = Path(__file__).parent
_AVRO = resources.files("tidestore.schemas") / "avro"
_SCHEMA_FILES = sorted(entry.name for entry in _AVRO.iterdir() if entry.name.endswith(".avsc"))
_NAMES = [name.removesuffix(".avsc") for name in _SCHEMA_FILES]


def golden(name: str) -> bytes:
    """The committed bytes of a schema's sample."""
    text = (_HERE / "bytes" / f"{name}.hex").read_text("ascii")
    return bytes.fromhex("".join(text.split()))


def schema_text(name: str) -> str:
    return (_AVRO / f"{name}.avsc").read_text("utf-8")


def is_newest(name: str) -> bool:
    ids: dict[str, int] = json.loads((_AVRO / "ids.json").read_text("utf-8"))
    schema = released_schemas().get(ids.get(f"{name}.avsc", 0))  # one without an id has a test
    return schema is not None and newest_schemas()[schema.record] is schema


def test_every_schema_file_has_golden_bytes_a_sample_and_a_known_hash() -> None:
    """Goal: a new .avsc cannot be released bare. Method: compare folder, bytes, samples, hashes."""
    released = json.loads((_HERE / "released.json").read_text("utf-8"))
    hex_files = {path.name.removesuffix(".hex") for path in (_HERE / "bytes").glob("*.hex")}
    ids = json.loads((_AVRO / "ids.json").read_text("utf-8"))
    assert _NAMES
    assert hex_files == set(_NAMES)
    assert SAMPLES.keys() == set(_NAMES)
    assert released.keys() == set(_SCHEMA_FILES)
    assert ids.keys() == set(_SCHEMA_FILES)


@pytest.mark.parametrize("name", _NAMES)
def test_a_released_schema_file_is_never_edited(name: str) -> None:
    """Goal: an edited schema would misread old records. Method: the sha256 of its release."""
    released = json.loads((_HERE / "released.json").read_text("utf-8"))
    text = schema_text(name).encode()
    assert hashlib.sha256(text).hexdigest() == released[f"{name}.avsc"], (
        f"{name}.avsc was edited after its release: add a new version instead"
    )


@pytest.mark.parametrize("name", _NAMES)
def test_golden_bytes_decode_to_what_was_meant(name: str) -> None:
    """Goal: records of every release stay readable. Method: decode the committed bytes."""
    assert decode(golden(name)) == SAMPLES[name]


@pytest.mark.parametrize("name", [name for name in _NAMES if is_newest(name)])
def test_the_newest_schema_of_a_record_writes_its_golden_bytes(name: str) -> None:
    """Goal: one event, one spelling. Method: encode the sample, compare with committed bytes."""
    assert encode(SAMPLES[name]).hex() == golden(name).hex()
    assert encode(decode(golden(name))) == golden(name)


@pytest.mark.parametrize("name", _NAMES)
def test_plain_fastavro_reads_golden_bytes_with_the_schema_file_alone(name: str) -> None:
    """Goal: the bytes are plain Avro behind a Confluent header. Method: no code of ours reads."""
    data = golden(name)
    ids = json.loads((_AVRO / "ids.json").read_text("utf-8"))
    assert data[:1] == b"\0"
    assert int.from_bytes(data[1:5], "big") == ids[f"{name}.avsc"] == schema_id_of(data)
    stream = io.BytesIO(data[5:])
    parsed = fastavro.parse_schema(json.loads(schema_text(name)), named_schemas={})
    record: Any = fastavro.schemaless_reader(stream, parsed, None)
    assert not stream.read(), "nothing lies behind the record"
    sample = SAMPLES[name]
    for field, value in record.items():
        if field != "copies":
            mine = getattr(sample, field)
            assert value == (list(mine) if isinstance(mine, tuple) else mine), field


def test_a_sample_shows_a_shift() -> None:
    """Goal: golden bytes prove something. Method: no sample holds one value in two fields."""
    plain = {"", True, False}  # also what a field has that was added later
    for name, sample in SAMPLES.items():
        values = [
            value
            for field in type(sample).__dataclass_fields__
            if isinstance(value := getattr(sample, field), (str, int)) and value not in plain
        ]
        assert len(values) == len(set(values)), name


def test_samples_cover_every_event() -> None:
    """Goal: no event is forgotten. Method: the types of samples against the list of events."""
    assert {type(sample) for sample in SAMPLES.values()} == set(events.EVENT_TYPES)
