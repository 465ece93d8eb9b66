"""The dataclasses in schemas/events.py are the newest .avsc files, field by field."""

from __future__ import annotations

import dataclasses
import json
import types
from enum import StrEnum
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from tidestore.schemas import events
from tidestore.schemas.catalogue import newest_schemas

_PLAIN = {str: "string", int: "long", bool: "boolean", bytes: "bytes"}


def avro_type(hint: Any) -> Any:
    """The Avro type that a field's Python type stands for, without doc texts."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    if get_origin(hint) in (types.UnionType, Union):
        (inner,) = [item for item in get_args(hint) if item is not types.NoneType]
        return ["null", avro_type(inner)]
    if get_origin(hint) is tuple:
        return {"type": "array", "items": avro_type(get_args(hint)[0])}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return {"type": "enum", "name": hint.__name__, "symbols": [item.value for item in hint]}
    assert isinstance(hint, type)
    assert dataclasses.is_dataclass(hint)
    return {"type": "record", "name": hint.__name__, "fields": avro_fields(hint)}


def avro_fields(event: Any) -> list[dict[str, Any]]:
    """The Avro fields of a dataclass."""
    hints = get_type_hints(event)
    found = []
    for item in dataclasses.fields(event):
        field: dict[str, Any] = {"name": item.name, "type": avro_type(hints[item.name])}
        if item.default is not dataclasses.MISSING:
            default = item.default
            field["default"] = list(default) if isinstance(default, tuple) else default
        found.append(field)
    return found


def without_docs(value: Any) -> Any:
    """A schema without its doc texts; bytes defaults as bytes."""
    if isinstance(value, dict):
        found = {name: without_docs(item) for name, item in value.items() if name != "doc"}
        if found.get("type") == "bytes" and "default" in found:
            found["default"] = found["default"].encode("latin-1")
        return found
    if isinstance(value, list):
        return [without_docs(item) for item in value]
    return value


@pytest.mark.parametrize("event", events.EVENT_TYPES, ids=lambda event: event.__name__)
def test_an_event_has_the_fields_types_and_defaults_of_its_schema(event: type) -> None:
    """Goal: code and schema never drift. Method: derive the schema from the class, compare."""
    document = json.loads(newest_schemas()[event.__name__].text)
    assert document["name"] == event.__name__
    assert without_docs(document["fields"]) == avro_fields(event)


@pytest.mark.parametrize("event", events.EVENT_TYPES, ids=lambda event: event.__name__)
def test_an_event_is_frozen(event: Any) -> None:
    """Goal: a past fact cannot be changed. Method: the class's own parameters."""
    assert event.__dataclass_params__.frozen
    assert event.__dataclass_params__.eq


def test_the_union_of_events_lists_them_all() -> None:
    """Goal: the type and the tuple agree. Method: compare their members."""
    assert set(get_args(events.Event)) == set(events.EVENT_TYPES)
