"""schemas/objects.py: what is a name, a version, a key, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tidestore.schemas import objects
from tidestore.schemas.objects import (
    PUBLIC,
    DatasetName,
    Kind,
    MalformedError,
    ObjectUuid,
    Sha256,
    Version,
    blob_key,
    check_dataset,
    check_replica,
    check_sha256,
    check_uuid,
    check_version,
    check_version_for_write,
    find_key_parts,
    kind_prefix,
    moment_of,
    parse_key,
    version_of,
    versioned_key,
    versions_prefix,
)

_SHA256 = "0123456789abcdef" * 4
_UUID = "6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d"
_VERSION = "2026-11-23T120000.000000Z"

NOT_SHA256 = {
    "empty": "",
    "too short": _SHA256[:-1],
    "too long": _SHA256 + "0",
    "not hex": "g" + _SHA256[1:],
    "a space": " " + _SHA256[1:],
    "a newline behind": _SHA256 + "\n",
    "other digits": "\u0661" * 64,
    "NUL": "\0" * 64,
    "5,000 characters": "a" * 5_000,
}
NOT_UUID = {
    "empty": "",
    "no hyphens": _UUID.replace("-", ""),
    "braces": "{" + _UUID + "}",
    "urn": "urn:uuid:" + _UUID,
    "too short": _UUID[:-1],
    "a newline behind": _UUID + "\n",
    "not hex": "z" + _UUID[1:],
    "hyphen moved": "6f1c2a7-e53b4-4c0e-8d0a-9a7f3a1b2c3d",
    "a letter that lowers to two": "\u0130" + _UUID[1:],
    "path": "../" + _UUID[3:],
    "5,000 characters": "a" * 5_000,
}
NOT_VERSION = {
    "empty": "",
    "other form": "2026-11-23T12:00:00Z",
    "no microseconds": "2026-11-23T120000Z",
    "three digits": "2026-11-23T120000.000Z",
    "no zone": "2026-11-23T120000.000000",
    "other zone": "2026-11-23T120000.000000+01:00",
    "lower case": "2026-11-23t120000.000000z",
    "month 13": "2026-13-23T120000.000000Z",
    "30 February": "2026-02-30T120000.000000Z",
    "hour 24": "2026-11-23T240000.000000Z",
    "second 60": "2026-11-23T120060.000000Z",
    "year 0": "0000-11-23T120000.000000Z",
    "a newline behind": _VERSION + "\n",
    "other digits": _VERSION.replace("2026", "\u0662\u0660\u0662\u0666"),
}
NOT_NAME = {
    "empty": "",
    "41 characters": "a" * 41,
    "upper case": "Public",
    "dot": "a.b",
    "dots": "..",
    "slash": "a/b",
    "underscore": "a_b",
    "hyphen first": "-a",
    "hyphen last": "a-",
    "NUL": "a\0b",
    "newline behind": "abc\n",
    "umlaut": "ä",
    "5,000 characters": "a" * 5_000,
}


@pytest.mark.parametrize("text", NOT_SHA256.values(), ids=NOT_SHA256)
def test_what_is_not_64_lower_case_digits_is_no_sha256(text: str) -> None:
    """Goal: one spelling per content. Method: everything else is refused, with a hint."""
    with pytest.raises(MalformedError) as caught:
        check_sha256(text)
    assert caught.value.field == "sha256"
    assert "64 lower-case" in caught.value.hint


def test_upper_case_digits_are_named_as_the_mistake() -> None:
    """Goal: the commonest mistake gets its own reason. Method: a sha256 in upper case."""
    with pytest.raises(MalformedError, match="upper-case"):
        check_sha256(_SHA256.upper())
    assert check_sha256(_SHA256) == _SHA256


@pytest.mark.parametrize("text", NOT_UUID.values(), ids=NOT_UUID)
def test_what_is_not_a_plain_uuid_is_refused(text: str) -> None:
    """Goal: no text of a user becomes a path. Method: all near misses."""
    with pytest.raises(MalformedError) as caught:
        check_uuid(text)
    assert caught.value.hint


def test_one_uuid_never_names_two_objects() -> None:
    """Goal: upper and lower case are one. Method: both give the same uuid and key."""
    assert check_uuid(_UUID.upper()) == check_uuid(_UUID) == _UUID


@pytest.mark.parametrize("text", NOT_VERSION.values(), ids=NOT_VERSION)
def test_what_is_not_a_moment_in_its_one_spelling_is_no_version(text: str) -> None:
    """Goal: order of text is order of time. Method: other forms, other digits, no such moments."""
    with pytest.raises(MalformedError) as caught:
        check_version(text)
    assert "YYYY-MM-DDTHHMMSS" in caught.value.hint


def test_a_version_a_day_ahead_is_taken_and_a_microsecond_more_is_refused() -> None:
    """Goal: a wrong clock cannot own `latest`. Method: both sides of the bound."""
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    bound = now + timedelta(days=1)
    assert check_version_for_write(version_of(bound), now) == version_of(bound)
    with pytest.raises(MalformedError, match="more than a day in the future") as caught:
        check_version_for_write(version_of(bound + timedelta(microseconds=1)), now)
    assert "clock" in caught.value.hint
    with pytest.raises(MalformedError, match="form of a version"):
        check_version_for_write("soon", now)


def test_the_past_may_be_written() -> None:
    """Goal: old data keeps its moment. Method: the first year that has a version."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    assert check_version_for_write("0001-01-01T000000.000000Z", now)


def test_a_version_and_its_moment_are_one() -> None:
    """Goal: no moment has two versions. Method: there and back, other zones, early years."""
    moment = datetime(2026, 11, 23, 12, 0, 0, 1, tzinfo=UTC)
    assert version_of(moment) == "2026-11-23T120000.000001Z"
    assert moment_of(version_of(moment)) == moment
    assert version_of(moment.astimezone(timezone(timedelta(hours=9)))) == version_of(moment)
    early = version_of(datetime(7, 1, 2, tzinfo=UTC))
    assert early == "0007-01-02T000000.000000Z"
    assert check_version(early) == early


def test_a_moment_without_a_zone_has_no_version() -> None:
    """Goal: no guess about zones. Method: a naive moment."""
    with pytest.raises(ValueError, match="aware"):
        version_of(datetime(2026, 1, 1))  # noqa: DTZ001  that is the point


@pytest.mark.parametrize("check", [check_dataset, check_replica])
@pytest.mark.parametrize("text", NOT_NAME.values(), ids=NOT_NAME)
def test_names_of_datasets_and_replicas_are_plain(check: object, text: str) -> None:
    """Goal: names fit into keys, topics and buckets. Method: what would not."""
    assert callable(check)
    with pytest.raises(MalformedError) as caught:
        check(text)
    assert "a-z" in caught.value.hint


@pytest.mark.parametrize("text", ["a", "0", "public", "my-data-1", "a" * 40])
def test_plain_names_are_taken(text: str) -> None:
    """Goal: the rule refuses no more than it says. Method: the shortest, the longest, digits."""
    assert str(check_dataset(text)) == str(check_replica(text)) == text


def test_an_error_never_repeats_the_value() -> None:
    """Goal: a secret or a megabyte in a wrong place is not echoed. Method: search the error."""
    for check in (check_sha256, check_uuid, check_version, check_dataset, parse_key):
        with pytest.raises(MalformedError) as caught:
            check("Secret!" * 50)
        assert "Secret" not in str(caught.value) + caught.value.hint


def test_kinds_have_their_plural_and_nothing_else_is_a_kind() -> None:
    """Goal: one word in keys and paths. Method: there and back, and near misses."""
    assert [kind.plural for kind in Kind] == ["blobs", "files", "bundles", "collections"]
    assert [Kind.from_plural(kind.plural) for kind in Kind] == list(Kind)
    for word in ("blob", "Blobs", "", "objects"):
        with pytest.raises(MalformedError, match="not known") as caught:
            Kind.from_plural(word)
        assert "blobs, files, bundles, collections" in caught.value.hint


def test_keys_are_spelled_as_the_design_says() -> None:
    """Goal: a bucket is readable without us. Method: literal keys."""
    uuid, version = ObjectUuid(_UUID), Version(_VERSION)
    assert blob_key(PUBLIC, Sha256(_SHA256)) == f"public/blobs/{_SHA256}"
    assert versioned_key(PUBLIC, Kind.FILE, uuid, version) == f"public/files/{_UUID}.{_VERSION}"
    assert versions_prefix(PUBLIC, Kind.FILE, uuid) == f"public/files/{_UUID}."
    assert kind_prefix(DatasetName("d"), Kind.COLLECTION) == "d/collections/"


def test_a_key_comes_apart_into_what_it_was_made_of() -> None:
    """Goal: keys are only made here. Method: parse what was made."""
    parts = parse_key(f"d/bundles/{_UUID}.{_VERSION}")
    assert parts == (DatasetName("d"), Kind.BUNDLE, "", _UUID, _VERSION)
    assert parse_key(f"public/blobs/{_SHA256}") == (PUBLIC, Kind.BLOB, _SHA256, "", "")


def test_a_blob_has_no_versioned_key() -> None:
    """Goal: content is named by content. Method: ask for another name, which is our bug."""
    with pytest.raises(AssertionError):
        versioned_key(PUBLIC, Kind.BLOB, ObjectUuid(_UUID), Version(_VERSION))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "public",
        "public/blobs",
        f"public/blobs/{_SHA256}/x",
        f"/public/blobs/{_SHA256}",
        f"public/blobs/{_SHA256.upper()}",
        f"public/things/{_UUID}.{_VERSION}",
        f"../files/{_UUID}.{_VERSION}",
        f"public/files/{_UUID}",
        f"public/files/{_UUID}{_VERSION}",
        f"public/files/{_UUID.upper()}.{_VERSION}",
        f"public/files/{_UUID}.{_VERSION}.{_VERSION}",
        "!claim/3",
        "!origin",
        ".tidestore/damaged/public/blobs/x",
    ],
)
def test_what_we_would_not_make_is_no_key(text: str) -> None:
    """Goal: other things may lie in a bucket. Method: near misses and our own other names."""
    assert find_key_parts(text) is None
    with pytest.raises(MalformedError):
        parse_key(text)


def test_a_known_key_is_found() -> None:
    """Goal: find and parse agree. Method: one key of each sort."""
    for key in (f"public/blobs/{_SHA256}", f"public/files/{_UUID}.{_VERSION}"):
        assert find_key_parts(key) == parse_key(key)


def test_a_version_with_a_second_spelling_would_be_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: identity keeps one spelling whatever a library does. Method: one that drifts."""
    monkeypatch.setattr(objects, "version_of", lambda _: "2026-11-23T120000.000001Z")
    with pytest.raises(MalformedError, match="second spelling"):
        check_version(_VERSION)
