"""Old and new releases read each other: every version of a record against all older ones.

Today each record has one version, so the checker itself is tested on made-up second versions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.golden.compatibility import Schema, covering_records, problems_between

from tidestore.schemas.catalogue import (
    Released,
    incompatibilities,
    newest_schemas,
    released_schemas,
    versions_of,
)


def _pairs() -> list[tuple[Released, Released]]:
    """Every released version with itself and with all older ones of its record."""
    return [
        (older, newer)
        for newer in released_schemas().values()
        for older in versions_of(newer.subject)
        if older.version <= newer.version
    ]


@pytest.mark.parametrize(
    ("older", "newer"),
    _pairs(),
    ids=[f"{newer.record}-{older.version}-{newer.version}" for older, newer in _pairs()],
)
def test_every_version_reads_and_is_read_by_all_older_ones(
    older: Released, newer: Released
) -> None:
    """Goal: a rolling upgrade drops nothing. Method: write with one, read with the other."""
    first, second = json.loads(older.text), json.loads(newer.text)
    assert problems_between(first, second) == []
    assert incompatibilities(first, second) == []


def _base() -> Schema:
    found: Schema = json.loads(newest_schemas()["CopyChanged"].text)
    return found


def _with_field(field: dict[str, Any]) -> Callable[[Schema], None]:
    def change(schema: Schema) -> None:
        schema["fields"].append(field)

    return change


def _without(name: str) -> Callable[[Schema], None]:
    def change(schema: Schema) -> None:
        schema["fields"] = [item for item in schema["fields"] if item["name"] != name]

    return change


def _typed(name: str, kind: Any, **more: object) -> Callable[[Schema], None]:
    def change(schema: Schema) -> None:
        field = next(item for item in schema["fields"] if item["name"] == name)
        field.update(type=kind, **more)

    return change


def _symbols(change_symbols: Callable[[list[str]], None]) -> Callable[[Schema], None]:
    def change(schema: Schema) -> None:
        state = next(item for item in schema["fields"] if item["name"] == "state")
        change_symbols(state["type"]["symbols"])

    return change


COMPATIBLE = {
    "nothing": _with_field({"name": "zone", "type": ["null", "string"], "default": None}),
    "text": _with_field({"name": "zone", "type": "string", "default": "eu"}),
    "list": _with_field(
        {"name": "zones", "type": {"type": "array", "items": "string"}, "default": []}
    ),
    "removed": _without("request_id"),
}
INCOMPATIBLE = {
    "field without a default": _with_field({"name": "zone", "type": "string"}),
    "required field removed": _without("size"),
    "text became a number": _typed("sha256", "long"),
    "null no longer allowed": _typed("error", "string", default=""),
    "another meaning of null": _typed("size", ["null", "long"]),
    "a symbol more": _symbols(lambda symbols: symbols.append("lost")),
    "a symbol less": _symbols(lambda symbols: symbols.remove("corrupt")),
}


@pytest.mark.parametrize("case", COMPATIBLE)
def test_a_compatible_second_version_passes(case: str) -> None:
    """Goal: the checker lets good changes through. Method: made-up second versions."""
    older, newer = _base(), _base()
    COMPATIBLE[case](newer)
    assert older != newer
    assert problems_between(older, newer) == []
    assert incompatibilities(older, newer) == []


@pytest.mark.parametrize("case", INCOMPATIBLE)
def test_an_incompatible_second_version_is_found_by_both_checkers(case: str) -> None:
    """Goal: no break slips through. Method: made-up breaks, by resolution and by comparison."""
    older, newer = _base(), _base()
    INCOMPATIBLE[case](newer)
    assert problems_between(older, newer), "fastavro reads it after all"
    assert incompatibilities(older, newer), "the product's own check passes it"


def test_both_directions_are_checked() -> None:
    """Goal: old processes count as much as new ones. Method: breaks of one direction each."""
    older, newer = _base(), _base()
    COMPATIBLE["text"](newer)
    INCOMPATIBLE["field without a default"](forward := _base())
    assert [text.split(":")[0] for text in problems_between(older, forward)] == ["backward"]
    assert [text.split(":")[0] for text in problems_between(forward, older)] == ["forward"]
    assert problems_between(newer, older) == []


def test_records_of_the_checker_cover_every_symbol_and_branch() -> None:
    """Goal: a break that one value shows is found. Method: collect the values that are written."""
    records = list(covering_records(_base()))
    states = next(item for item in _base()["fields"] if item["name"] == "state")
    assert {record["state"] for record in records} == set(states["type"]["symbols"])
    assert {type(record["error"]) for record in records} == {type(None), str}
    assert {type(record["next_try_at_ms"]) for record in records} == {type(None), int}
