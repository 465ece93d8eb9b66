"""The released Avro schemas: which file has which id, and what may follow what.

`avro/*.avsc` hold one file per event version and are never edited once released; `avro/ids.json`
gives each its id, never reused. The id travels in front of every record (codec.py), so a reader
always knows the exact schema of the writer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import fastavro
from fastavro.types import Schema

from tidestore.schemas import events

NAMESPACE: Final = "tidestore"


@dataclass(frozen=True, slots=True)
class Released:
    """One released schema. `text` is the file as it is, `parsed` what fastavro made of it."""

    id: int
    record: str
    version: int
    text: str
    parsed: Schema

    @property
    def subject(self) -> str:
        """The registry's subject: by record name, because one topic may carry several."""
        return f"{NAMESPACE}.{self.record}"


@cache
def released_schemas() -> dict[int, Released]:
    """All released schemas by id."""
    folder = resources.files("tidestore.schemas") / "avro"
    ids: dict[str, int] = json.loads((folder / "ids.json").read_text("utf-8"))
    found = {}
    for file_name, schema_id in ids.items():
        text = (folder / file_name).read_text("utf-8")
        document: dict[str, Any] = json.loads(text)
        version = int(file_name.split(".")[1].removeprefix("v"))
        parsed = fastavro.parse_schema(document, named_schemas={})
        found[schema_id] = Released(schema_id, document["name"], version, text, parsed)
    if len(found) != len(ids):  # our bug: two files under one id would decode as one another
        raise AssertionError("ids.json gives one id to two schemas")
    return found


@cache
def newest_schemas() -> dict[str, Released]:
    """The newest released version of each record, by record name: what we write."""
    newest: dict[str, Released] = {}
    for schema in released_schemas().values():
        known = newest.get(schema.record)
        if known is None or schema.version > known.version:
            newest[schema.record] = schema
    missing = {event.__name__ for event in events.EVENT_TYPES} - newest.keys()
    if missing:
        raise AssertionError(f"events without a released schema: {sorted(missing)}")
    return newest


def versions_of(subject: str) -> list[Released]:
    """All released versions of a registry subject, oldest first; empty when there is none."""
    found = [schema for schema in released_schemas().values() if schema.subject == subject]
    return sorted(found, key=lambda schema: schema.version)


def incompatibilities(older: dict[str, Any], newer: dict[str, Any]) -> list[str]:
    """Why a reader of `newer` could not read `older`, or the other way round; empty when it can.

    Both ways, because in a rolling upgrade old and new processes read each other. Compares record
    fields by name, as Avro's schema resolution does; a field that only one side has needs a default
    there, and types may not change.
    """
    mine = {item["name"]: item for item in older["fields"]}
    theirs = {item["name"]: item for item in newer["fields"]}
    alone = {**theirs, **mine}
    missing = [
        f"{older['name']}.{name} is on one side only and has no default"
        for name in mine.keys() ^ theirs.keys()
        if "default" not in alone[name]
    ]
    changed = [
        f"{older['name']}.{name} changed its type"
        for name in mine.keys() & theirs.keys()
        if mine[name]["type"] != theirs[name]["type"]
    ]
    return sorted(missing + changed)
