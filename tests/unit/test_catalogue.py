"""schemas/catalogue.py: which schema has which id, and what may follow what."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from tidestore.schemas import catalogue, events
from tidestore.schemas.catalogue import (
    incompatibilities,
    newest_schemas,
    released_schemas,
    versions_of,
)


def test_every_event_has_a_newest_schema() -> None:
    """Goal: whatever is written has a schema. Method: names of both."""
    assert newest_schemas().keys() == {event.__name__ for event in events.EVENT_TYPES}
    for schema_id, schema in released_schemas().items():
        assert schema.id == schema_id
        assert json.loads(schema.text)["name"] == schema.record
        assert schema.subject == f"tidestore.{schema.record}"


def test_versions_of_a_subject_come_oldest_first_and_unknown_ones_have_none() -> None:
    """Goal: what the registry answers. Method: a known and an unknown subject."""
    found = versions_of("tidestore.ObjectWritten")
    assert [schema.version for schema in found] == [1]
    assert versions_of("tidestore.Nothing") == []


def _fake_release(folder: Path, ids: dict[str, int], names: dict[str, str]) -> None:
    avro = folder / "avro"
    avro.mkdir()
    (avro / "ids.json").write_text(json.dumps(ids), "utf-8")
    for file_name, name in names.items():
        document = {"type": "record", "name": name, "namespace": "tidestore", "fields": []}
        (avro / file_name).write_text(json.dumps(document), "utf-8")


def test_one_id_for_two_schemas_is_our_bug(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Goal: an id never names two schemas. Method: a catalogue that gives one twice."""
    names = {"a.v1.avsc": "A", "b.v1.avsc": "B"}
    _fake_release(tmp_path, {"a.v1.avsc": 1, "b.v1.avsc": 1}, names)
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    with pytest.raises(AssertionError, match="one id to two"):
        catalogue.released_schemas.__wrapped__()


def test_an_event_without_a_schema_is_our_bug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Goal: nothing is written that nobody can read. Method: a catalogue with one record."""
    names = {"a.v1.avsc": "OriginChosen", "a.v2.avsc": "OriginChosen"}
    _fake_release(tmp_path, {"a.v2.avsc": 2, "a.v1.avsc": 1}, names)
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    found = catalogue.released_schemas.__wrapped__()
    assert {schema.version for schema in found.values()} == {1, 2}
    monkeypatch.setattr(catalogue, "released_schemas", lambda: found)
    assert [schema.version for schema in versions_of("tidestore.OriginChosen")] == [1, 2]
    with pytest.raises(AssertionError, match="events without a released schema"):
        catalogue.newest_schemas.__wrapped__()
    only = type("OriginChosen", (), {})
    monkeypatch.setattr(events, "EVENT_TYPES", (only,))
    assert catalogue.newest_schemas.__wrapped__()["OriginChosen"].version == 2


def test_incompatibilities_name_the_field_and_the_reason() -> None:
    """Goal: whoever adds a version learns what breaks. Method: one break of each sort."""
    older = {"name": "R", "fields": [{"name": "a", "type": "string"}, {"name": "b", "type": "int"}]}
    newer = {
        "name": "R",
        "fields": [
            {"name": "a", "type": "bytes"},
            {"name": "c", "type": "int", "default": 1},
            {"name": "d", "type": "int"},
        ],
    }
    assert incompatibilities(older, newer) == [
        "R.a changed its type",
        "R.b is on one side only and has no default",
        "R.d is on one side only and has no default",
    ]
    assert incompatibilities(older, older) == []
