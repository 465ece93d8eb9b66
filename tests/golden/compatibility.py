"""Can old and new processes read each other? Shown by doing it, with fastavro's own resolution.

For two schemas of one record, records are written with one and read with the other, both ways.
The records cover the writer: every branch of a union, every symbol of an enum, empty and filled
arrays, so that a break which only one value shows is found, too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import fastavro

Schema = dict[str, Any]

_VALUES: dict[str, list[Any]] = {
    "null": [None],
    "boolean": [True, False],
    "int": [-1, 2**31 - 1],
    "long": [0, -1, 2**62],
    "float": [0.5],
    "double": [0.5],
    "string": ["", "ä\u3042"],
    "bytes": [b"", b"\x00\xff"],
}


def problems_between(older: Schema, newer: Schema) -> list[str]:
    """What an old and a new process cannot read of each other; empty when all is well."""
    return [
        *(f"backward: {text}" for text in _unreadable(older, newer)),
        *(f"forward: {text}" for text in _unreadable(newer, older)),
    ]


def covering_records(schema: Schema) -> Iterator[dict[str, Any]]:
    """Records of a schema in which every value of every field's list comes at least once."""
    lists = {item["name"]: list(_values(item["type"], {})) for item in schema["fields"]}
    for number in range(max(map(len, lists.values()), default=1)):
        yield {name: values[number % len(values)] for name, values in lists.items()}


def _values(kind: Any, named: dict[str, Schema]) -> Iterator[Any]:
    if isinstance(kind, list):
        for branch in kind:
            yield from _values(branch, named)
    elif isinstance(kind, str):
        yield from _VALUES[kind] if kind in _VALUES else _values(named[kind], named)
    elif kind["type"] == "enum":
        yield from kind["symbols"]
    elif kind["type"] == "array":
        items = list(_values(kind["items"], named))
        yield from ([], items)
    elif kind["type"] == "record":
        yield from covering_records(kind)
    else:
        yield from _values(kind["type"], named)


def _unreadable(writer: Schema, reader: Schema) -> Iterator[str]:
    wrote, reads = _parsed(writer), _parsed(reader)
    shared = {item["name"] for item in writer["fields"]} & {
        item["name"] for item in reader["fields"]
    }
    for record in covering_records(writer):
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, wrote, record)
        buffer.seek(0)
        try:
            found = fastavro.schemaless_reader(buffer, wrote, reads)
        except Exception as error:  # noqa: BLE001  fastavro has no common class for these
            yield f"{type(error).__name__}: {error}"
            return
        assert isinstance(found, dict)
        changed = sorted(name for name in shared if found[name] != record[name])
        if changed:
            yield f"{changed} came back as something else"
            return


def _parsed(schema: Schema) -> Any:
    return fastavro.parse_schema(dict(schema), named_schemas={})
