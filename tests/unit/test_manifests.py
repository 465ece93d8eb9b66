"""schemas/manifests.py: equal content is equal bytes, names are safe, references are read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.manifests import (
    CONTENT_TYPE_CHARS_MAX,
    NAME_BYTES_MAX,
    BundleEntry,
    FileManifest,
    Link,
    bundle_manifest_bytes,
    canonical_json,
    check_content_type,
    check_entry_names,
    check_name,
    children_of,
    collection_manifest_bytes,
    file_manifest_bytes,
    read_file_manifest,
    read_link,
    read_manifest,
)
from tidestore.schemas.objects import PUBLIC, Kind, MalformedError, ObjectUuid, Sha256, Version

_UUID = ObjectUuid("6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d")
_OTHER = ObjectUuid("00000000-53b4-4c0e-8d0a-9a7f3a1b2c3d")
_VERSION = Version("2026-11-23T120000.000000Z")
_SUMS = checksums_of(b"test")
_FILE = FileManifest(_UUID, _VERSION, "データ/a.txt", "text/plain", _SUMS)

BAD_NAMES = {
    "empty": "",
    "parent": "..",
    "parent inside": "a/../b",
    "parent at the end": "a/..",
    "here": "./a",
    "root": "/etc/passwd",
    "folder": "a/",
    "double slash": "a//b",
    "backslash": "a\\b",
    "NUL": "a\0b",
    "newline": "a\nb",
    "carriage return": "a\rb",
    "escape": "a\x1b[2Jb",
    "delete": "a\x7fb",
    "C1 control": "a\x85b",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "right-to-left override": "a\u202etxt.exe",
    "isolate": "a\u2066b",
    "lone surrogate": "a\ud800b",
    "5,000 characters": "a" * 5_000,
    "1,025 bytes in 513 characters": "é" * 512 + "a",
}
GOOD_NAMES = {
    "plain": "a.txt",
    "folders": "a/b/c.fastq.gz",
    "Japanese": "配列/データ.txt",
    "spaces": "my file (1).txt",
    "dots inside": "a..b/...c",
    "hidden": ".hidden",
    "right-to-left text": "שלום.txt",
    "emoji": "🧬.fa",
    "1,024 bytes": "é" * 512,
    "percent": "%2e%2e/x",
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_an_unsafe_name_is_refused(name: str) -> None:
    """Goal: a name can be written to any disk and shown on any screen. Method: what cannot."""
    with pytest.raises(MalformedError) as caught:
        check_name(name, "files[3].name")
    assert caught.value.field == "files[3].name"
    assert name not in str(caught.value) or len(name) < 3


@pytest.mark.parametrize("name", GOOD_NAMES.values(), ids=GOOD_NAMES)
def test_a_safe_name_is_taken_as_it_is(name: str) -> None:
    """Goal: only safety is checked. Method: names of many scripts, up to the bound."""
    assert check_name(name) == name
    assert len(name.encode()) <= NAME_BYTES_MAX


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "text/plain\n",
        " text/plain",
        "text/plain\r\nX: y",
        "text/plän",
        "a/" + "b" * 511,
    ],
)
def test_what_would_break_a_header_is_no_content_type(text: str) -> None:
    """Goal: a content type can be sent back as a header. Method: what could not."""
    with pytest.raises(MalformedError) as caught:
        check_content_type(text)
    assert caught.value.field == "content_type"
    assert caught.value.hint


def test_content_types_with_parameters_are_taken() -> None:
    """Goal: any type is stored. Method: a long one with parameters, up to the bound."""
    for text in ("application/gzip", 'a/b; dcp-type="data"', "a/" + "b" * 510):
        assert check_content_type(text) == text
        assert len(text) <= CONTENT_TYPE_CHARS_MAX


def test_a_path_named_twice_is_refused() -> None:
    """Goal: a bundle can be unpacked. Method: the same name, and two spellings of one name."""
    check_entry_names(["a", "b", "A", "a/b"])
    composed, decomposed = "\u00e9", "e\u0301"
    for names in (["a", "b", "a"], [composed, decomposed]):
        with pytest.raises(MalformedError, match="one path twice") as caught:
            check_entry_names(names)
        assert "the second is" in caught.value.hint


def test_canonical_json_is_literally_this() -> None:
    """Goal: other writers can make the same bytes. Method: bytes by hand."""
    value = {"b": [1, True, None, 1.5], "a": {"ü": 'x"\n', "A": ""}}
    assert canonical_json(value) == ('{"a":{"A":"","ü":"x\\"\\n"},"b":[1,true,null,1.5]}'.encode())


def test_key_order_of_the_writer_does_not_matter() -> None:
    """Goal: equal content, equal bytes. Method: one document from differently ordered JSON."""
    first = json.loads('{"z": 1, "a": {"y": 2, "b": 3}}')
    second = json.loads('{ "a" : {"b":3,"y":2},\n "z":1 }')
    assert canonical_json(first) == canonical_json(second)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}])
def test_what_has_no_json_spelling_is_refused(value: object) -> None:
    """Goal: nothing unreadable is stored. Method: NaN, infinity, lone surrogates."""
    with pytest.raises(MalformedError, match="no canonical JSON"):
        canonical_json({"details": value})


def test_json_deeper_than_the_stack_is_refused() -> None:
    """Goal: a hostile document ends no process. Method: nesting far beyond the recursion limit."""
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(MalformedError, match="no canonical JSON"):
        canonical_json(value)
    with pytest.raises(MalformedError, match="not JSON"):
        read_manifest(Kind.FILE, b"[" * 100_000)


def test_a_file_manifest_is_literally_this_and_reads_back() -> None:
    """Goal: a bucket is readable without us. Method: bytes by hand, and the way back."""
    data = file_manifest_bytes(_FILE)
    assert data.decode() == (
        '{"content_type":"text/plain","crc32c":"86a072c0","format":"tidestore.file/1",'
        '"md5":"098f6bcd4621d373cade4e832627b4f6","name":"データ/a.txt",'
        '"sha1":"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3",'
        f'"sha256":"{_SUMS.sha256}","size":4,"uuid":"{_UUID}","version":"{_VERSION}"}}'
    )
    assert read_file_manifest(data) == _FILE
    assert children_of(Kind.FILE, PUBLIC, data) == [f"public/blobs/{_SUMS.sha256}"]


def _entry(name: str, uuid: ObjectUuid = _UUID) -> BundleEntry:
    return BundleEntry(name, uuid, _VERSION, "text/plain", 4, _SUMS.sha256)


def test_the_order_of_a_bundles_files_does_not_matter() -> None:
    """Goal: two writers of one bundle agree. Method: the same entries in two orders."""
    entries = [_entry("b"), _entry("a", _OTHER)]
    data = bundle_manifest_bytes(_UUID, _VERSION, entries)
    assert data == bundle_manifest_bytes(_UUID, _VERSION, entries[::-1])
    assert [item["name"] for item in json.loads(data)["files"]] == ["a", "b"]
    assert children_of(Kind.BUNDLE, PUBLIC, data) == [
        f"public/files/{_OTHER}.{_VERSION}",
        f"public/files/{_UUID}.{_VERSION}",
    ]


def test_the_order_of_a_collections_contents_does_not_matter() -> None:
    """Goal: two writers of one collection agree. Method: all four kinds in two orders."""
    links = [
        Link(Kind.COLLECTION, uuid=_UUID, version=_VERSION),
        Link(Kind.BLOB, sha256=_SUMS.sha256),
        Link(Kind.FILE, uuid=_OTHER, version=_VERSION),
        Link(Kind.BUNDLE, uuid=_UUID, version=_VERSION),
    ]
    more: dict[str, Any] = {"name": "n", "description": "d", "details": {"b": 1, "a": 2}}
    data = collection_manifest_bytes(_UUID, _VERSION, links, **more)
    again = collection_manifest_bytes(
        _UUID, _VERSION, links[::-1], **{**more, "details": {"a": 2, "b": 1}}
    )
    assert data == again
    assert set(children_of(Kind.COLLECTION, PUBLIC, data)) == {link.key(PUBLIC) for link in links}
    assert json.loads(collection_manifest_bytes(_UUID, _VERSION, []))["details"] == {}


def test_no_manifest_names_its_dataset() -> None:
    """Goal: a released object keeps its bytes. Method: search all three kinds for it."""
    texts = [
        file_manifest_bytes(_FILE),
        bundle_manifest_bytes(_UUID, _VERSION, [_entry("a")]),
        collection_manifest_bytes(_UUID, _VERSION, [Link(Kind.BLOB, sha256=_SUMS.sha256)]),
    ]
    assert all(b"public" not in text and b"dataset" not in text for text in texts)


def test_a_blob_refers_to_nothing() -> None:
    """Goal: bytes are never parsed. Method: a blob that looks like a manifest."""
    assert children_of(Kind.BLOB, PUBLIC, file_manifest_bytes(_FILE)) == []


def test_a_manifest_of_another_kind_is_none() -> None:
    """Goal: kinds are never mixed up. Method: each kind's bytes read as each other."""
    bundle = bundle_manifest_bytes(_UUID, _VERSION, [])
    for kind, data in ((Kind.FILE, bundle), (Kind.BUNDLE, b"[]"), (Kind.COLLECTION, b"{}")):
        with pytest.raises(MalformedError, match=f"is not a tidestore.{kind}/1"):
            children_of(kind, PUBLIC, data)
    for data in (b"", b"\xff", b"{"):
        with pytest.raises(MalformedError, match="not JSON"):
            read_manifest(Kind.FILE, data)


def _broken(kind: Kind, **changes: Any) -> bytes:
    whole = {
        Kind.FILE: file_manifest_bytes(_FILE),
        Kind.BUNDLE: bundle_manifest_bytes(_UUID, _VERSION, [_entry("a")]),
        Kind.COLLECTION: collection_manifest_bytes(_UUID, _VERSION, []),
    }[kind]
    document = {**json.loads(whole), **changes}
    return json.dumps({k: v for k, v in document.items() if v is not None}).encode()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Kind.FILE, {"sha256": None}),
        (Kind.FILE, {"sha256": 5}),
        (Kind.FILE, {"sha256": _SUMS.sha256.upper()}),
        (Kind.BUNDLE, {"files": None}),
        (Kind.BUNDLE, {"files": 5}),
        (Kind.BUNDLE, {"files": ["x"]}),
        (Kind.BUNDLE, {"files": [{"uuid": str(_UUID)}]}),
        (Kind.BUNDLE, {"files": [{"uuid": 5, "version": str(_VERSION)}]}),
        (Kind.COLLECTION, {"contents": [{"kind": "thing"}]}),
        (Kind.COLLECTION, {"contents": [{}]}),
        (Kind.COLLECTION, {"contents": [{"kind": "blob", "sha256": "../x"}]}),
    ],
)
def test_a_manifest_that_lacks_or_mistypes_something_is_malformed(
    kind: Kind, changes: dict[str, Any]
) -> None:
    """Goal: no other exception reaches a worker. Method: break each part."""
    with pytest.raises(MalformedError):
        children_of(kind, PUBLIC, _broken(kind, **changes))


@pytest.mark.parametrize("field", ["uuid", "version", "name", "content_type", "size", "md5"])
def test_a_file_manifest_without_a_field_is_malformed(field: str) -> None:
    """Goal: a half manifest is none. Method: take each field away."""
    with pytest.raises(MalformedError, match="lacks or mistypes"):
        read_file_manifest(_broken(Kind.FILE, **{field: None}))


def test_a_link_of_an_unknown_kind_says_which_are_known() -> None:
    """Goal: the writer learns what to send. Method: a kind that is none."""
    with pytest.raises(MalformedError) as caught:
        read_link({"kind": "dataset", "sha256": Sha256("")})
    assert caught.value.hint == "one of blob, file, bundle, collection"
