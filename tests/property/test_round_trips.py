"""What is written can be read back, whatever it is: events, manifests, keys, cursors, positions."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime
from enum import StrEnum
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidestore.api.listing import Cursor
from tidestore.schemas.checksums import Hasher, checksums_from, checksums_of, checksums_text
from tidestore.schemas.codec import CodecError, decode, encode
from tidestore.schemas.events import EVENT_TYPES, Event
from tidestore.schemas.manifests import (
    BundleEntry,
    FileManifest,
    Link,
    bundle_manifest_bytes,
    canonical_json,
    check_name,
    children_of,
    collection_manifest_bytes,
    file_manifest_bytes,
    read_file_manifest,
)
from tidestore.schemas.objects import (
    DatasetName,
    Kind,
    MalformedError,
    ObjectUuid,
    Sha256,
    Version,
    blob_key,
    check_version,
    find_key_parts,
    moment_of,
    parse_key,
    version_of,
    versioned_key,
)
from tidestore.schemas.positions import Cut, Position
from tidestore.schemas.topics import partition_of

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_long = st.integers(-(2**63), 2**63 - 1)
_names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True).map(DatasetName)
_sha256 = st.from_regex(r"[0-9a-f]{64}", fullmatch=True).map(Sha256)
_uuids = st.uuids().map(lambda value: ObjectUuid(str(value)))
_moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
_versions = _moments.map(version_of)
_versioned = st.sampled_from([Kind.FILE, Kind.BUNDLE, Kind.COLLECTION])
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type."""
    if get_origin(hint) is UnionType:
        return st.one_of(*(values_of(item) for item in get_args(hint)))
    if get_origin(hint) is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=3).map(tuple)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        str: _text,
        int: _long,
        bool: st.booleans(),
        bytes: st.binary(max_size=40),
        type(None): st.none(),
    }
    if hint in plain:
        return plain[hint]
    if issubclass(hint, StrEnum):
        return st.sampled_from(list(hint))
    return events_of(hint)


def events_of(event: Any) -> st.SearchStrategy[Any]:
    """Any event of a class."""
    hints = get_type_hints(event)
    return st.builds(event, **{item.name: values_of(hints[item.name]) for item in fields(event)})


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_any_event_survives_the_wire(kind: type, data: st.DataObject) -> None:
    """Goal: nothing is lost or retyped. Method: arbitrary values in every field."""
    event: Event = data.draw(events_of(kind))
    found = decode(encode(event))
    assert found == event
    assert [type(getattr(found, item.name)) for item in fields(found)] == [
        type(getattr(event, item.name)) for item in fields(event)
    ]


@given(st.binary(max_size=200), st.integers(0, 20))
def test_no_bytes_make_the_codec_raise_anything_else(data: bytes, schema_id: int) -> None:
    """Goal: a hostile record never ends a worker. Method: arbitrary bytes."""
    for wire in (data, b"\0" + schema_id.to_bytes(4, "big") + data):
        try:
            decode(wire)
        except CodecError:
            continue


@given(_json, st.randoms(use_true_random=False))
def test_equal_content_is_equal_bytes(value: Any, chance: Any) -> None:
    """Goal: canonical JSON. Method: shuffle every object's members, compare bytes and meaning."""

    def shuffled(item: Any) -> Any:
        if isinstance(item, dict):
            pairs = list(item.items())
            chance.shuffle(pairs)
            return {name: shuffled(inner) for name, inner in pairs}
        return [shuffled(inner) for inner in item] if isinstance(item, list) else item

    data = canonical_json(value)
    assert canonical_json(shuffled(value)) == data
    assert canonical_json(json.loads(data)) == data, "a reader writes the same again"
    assert json.loads(data) == value


@given(_uuids, _versions, _text, _text, st.binary(max_size=100))
def test_a_file_manifest_reads_back(
    uuid: ObjectUuid, version: Version, name: str, kind: str, body: bytes
) -> None:
    """Goal: a bucket rebuilds the index. Method: any names and checksums."""
    manifest = FileManifest(uuid, version, name, kind, checksums_of(body))
    data = file_manifest_bytes(manifest)
    assert read_file_manifest(data) == manifest
    dataset = DatasetName("d")
    assert children_of(Kind.FILE, dataset, data) == [blob_key(dataset, manifest.checksums.sha256)]


@given(_uuids, _versions, st.data())
def test_manifests_name_their_children_in_any_order_of_writing(
    uuid: ObjectUuid, version: Version, data: st.DataObject
) -> None:
    """Goal: equal bytes for equal content, and R5's list whole. Method: permuted entries."""
    dataset = data.draw(_names)
    entries = data.draw(
        st.lists(
            st.builds(BundleEntry, _text, _uuids, _versions, _text, _long, _sha256),
            max_size=6,
            unique_by=lambda entry: entry.name,
        )
    )
    body = bundle_manifest_bytes(uuid, version, entries)
    assert bundle_manifest_bytes(uuid, version, data.draw(st.permutations(entries))) == body
    assert sorted(children_of(Kind.BUNDLE, dataset, body)) == sorted(
        versioned_key(dataset, Kind.FILE, entry.uuid, entry.version) for entry in entries
    )
    blobs = st.builds(lambda digest: Link(Kind.BLOB, sha256=digest), _sha256)
    others = st.builds(
        lambda kind, name, moment: Link(kind, uuid=name, version=moment),
        _versioned, _uuids, _versions,
    )  # fmt: skip
    links = data.draw(st.lists(blobs | others, max_size=6))
    whole = collection_manifest_bytes(uuid, version, links)
    again = collection_manifest_bytes(uuid, version, data.draw(st.permutations(links)))
    assert whole == again
    assert sorted(children_of(Kind.COLLECTION, dataset, whole)) == sorted(
        link.key(dataset) for link in links
    )


@given(_names, _sha256, _versioned, _uuids, _versions)
def test_keys_come_apart_into_what_they_were_made_of(
    dataset: DatasetName, sha256: Sha256, kind: Kind, uuid: ObjectUuid, version: Version
) -> None:
    """Goal: one key per object. Method: make, take apart, make again."""
    assert parse_key(blob_key(dataset, sha256)) == (dataset, Kind.BLOB, sha256, "", "")
    key = versioned_key(dataset, kind, uuid, version)
    parts = parse_key(key)
    assert parts == (dataset, kind, "", uuid, version)
    assert versioned_key(parts.dataset, parts.kind, parts.uuid, parts.version) == key
    assert 0 <= partition_of(key, 12) < 12


@given(st.text(max_size=150))
def test_only_what_we_make_is_a_key(text: str) -> None:
    """Goal: no second spelling. Method: whatever parses is made again from its parts."""
    parts = find_key_parts(text)
    if parts is not None:
        if parts.kind is Kind.BLOB:
            assert blob_key(parts.dataset, parts.sha256) == text
        else:
            assert versioned_key(parts.dataset, parts.kind, parts.uuid, parts.version) == text


@given(_moments, _moments)
def test_versions_sort_as_their_moments(first: datetime, second: datetime) -> None:
    """Goal: `latest` is the greatest text. Method: two moments and their versions."""
    assert (version_of(first) < version_of(second)) == (first < second)
    assert moment_of(check_version(version_of(first))) == first


@given(st.text(max_size=60))
def test_a_safe_name_stays_below_its_folder(name: str) -> None:
    """Goal: no name leads out. Method: what is accepted has no step up, root or control."""
    try:
        check_name(name)
    except MalformedError:
        return
    assert not name.startswith("/")
    assert ".." not in name.split("/")
    assert "\0" not in name
    assert "\n" not in name


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_chunks_do_not_change_checksums(chunks: list[bytes]) -> None:
    """Goal: a stream is its bytes. Method: any cut, and the line that a record carries."""
    hasher = Hasher()
    for chunk in chunks:
        hasher.update(chunk)
    sums = hasher.result()
    assert sums == checksums_of(b"".join(chunks))
    assert checksums_from(sums.size, sums.sha256, checksums_text(sums)) == sums


@given(_text, _text, _text, _text)
def test_a_cursor_reads_back(dataset: str, kind: str, after: str, cut: str) -> None:
    """Goal: any gateway goes on where another stopped. Method: any content."""
    cursor = Cursor(dataset, kind, after, cut)
    text = str(cursor)
    assert Cursor.parse(text) == cursor
    assert text.isascii()
    assert not set(text) & set("+/=&?# ")


@given(st.text(max_size=80))
def test_a_foreign_cursor_is_malformed_and_nothing_else(text: str) -> None:
    """Goal: a client's invention is a 400. Method: arbitrary texts."""
    try:
        Cursor.parse(text)
    except MalformedError:
        return


@given(
    st.integers(0, 10**9 - 1),
    st.integers(0, 10**9 - 1),
    st.lists(st.integers(0, 10**18 - 1), min_size=1, max_size=5),
)
def test_positions_and_cuts_read_back(generation: int, partition: int, offsets: list[int]) -> None:
    """Goal: what an answer gave can be sent back. Method: any numbers within bounds."""
    position, cut = Position(generation, partition, offsets[0]), Cut(generation, tuple(offsets))
    assert Position.parse(str(position)) == position
    assert Cut.parse(str(cut)) == cut
    assert cut.reaches(cut)
    for number, offset in enumerate(offsets):
        assert not cut.holds(Position(generation, number, offset))
        assert not offset or cut.holds(Position(generation, number, offset - 1))
