"""What an object is called: kinds, identifiers, versions and keys.

One object has one key, the same on every replica:

    <dataset>/blobs/<sha256>
    <dataset>/files/<uuid>.<version>
    <dataset>/bundles/<uuid>.<version>
    <dataset>/collections/<uuid>.<version>

The dataset comes first, so that a cloud's own access rules can guard it by prefix. A key is only
ever made here, from parts that were checked here: no text of a user reaches a store as a path.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple, NewType

DatasetName = NewType("DatasetName", str)
ObjectKey = NewType("ObjectKey", str)
ReplicaName = NewType("ReplicaName", str)
Sha256 = NewType("Sha256", str)
ObjectUuid = NewType("ObjectUuid", str)
Version = NewType("Version", str)

PUBLIC: Final = DatasetName("public")

# A dataset or replica name becomes part of keys, topic names and bucket prefixes. Kafka allows
# 249 characters for a topic; 40 leaves room for a prefix, the word and an incarnation.
NAME_CHARS_MAX: Final = 40

# A writer's clock may be wrong by hours; one that is days ahead would own "latest" for ever.
VERSION_AHEAD_MAX: Final = timedelta(days=1)

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}T\d{6}\.\d{6}Z", re.ASCII)
_VERSION_FORMAT: Final = "%Y-%m-%dT%H%M%S.%fZ"


class MalformedError(ValueError):
    """A value that a person or program sent is not of the agreed form.

    `field` says which value, `reason` what is wrong with it, `hint` what to send instead. None of
    them repeats the value whole: it may be long, secret or unprintable.
    """

    def __init__(self, field: str, reason: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason
        self.hint = hint


class Kind(StrEnum):
    """The four kinds of object; each may refer only to kinds before it (a collection to any)."""

    BLOB = "blob"
    FILE = "file"
    BUNDLE = "bundle"
    COLLECTION = "collection"

    @property
    def plural(self) -> str:
        """The word in keys and in the API's paths."""
        return self.value + "s"

    @classmethod
    def from_plural(cls, word: str) -> Kind:
        """Read `blobs`, `files`, `bundles` or `collections`; raises MalformedError."""
        kind = _KINDS_BY_PLURAL.get(word)
        if kind is None:
            raise MalformedError(
                "kind", "is not known", hint="one of " + ", ".join(_KINDS_BY_PLURAL)
            )
        return kind


_KINDS_BY_PLURAL: Final = {kind.plural: kind for kind in Kind}


class KeyParts(NamedTuple):
    """A key taken apart. `uuid` and `version` are empty for a blob, `sha256` for the others."""

    dataset: DatasetName
    kind: Kind
    sha256: Sha256
    uuid: ObjectUuid
    version: Version


def check_dataset(text: str) -> DatasetName:
    """Return `text` as a dataset name, or raise MalformedError."""
    return DatasetName(_check_name("dataset", text))


def check_replica(text: str) -> ReplicaName:
    """Return `text` as a replica name, or raise MalformedError."""
    return ReplicaName(_check_name("replica", text))


def _check_name(field: str, text: str) -> str:
    if len(text) > NAME_CHARS_MAX or not _NAME.fullmatch(text):
        raise MalformedError(
            field,
            "is not a valid name",
            hint=f"1 to {NAME_CHARS_MAX} of a-z, 0-9 and -, no - at either end",
        )
    return text


def check_sha256(text: str, field: str = "sha256") -> Sha256:
    """Return `text` as a sha256 in lower-case hex, or raise MalformedError."""
    if not _SHA256.fullmatch(text):
        is_upper = len(text) == 64 and _SHA256.fullmatch(text.lower()) is not None
        reason = "has upper-case digits" if is_upper else "is not 64 hexadecimal digits"
        raise MalformedError(field, reason, hint="64 lower-case hexadecimal digits")
    return Sha256(text)


def check_uuid(text: str, field: str = "uuid") -> ObjectUuid:
    """Return `text` as a uuid in lower case, or raise MalformedError.

    Upper case is accepted and lowered, for writes and reads alike: RFC 9562 asks readers to take
    both, and one uuid must never name two objects.
    """
    lowered = text.lower()
    if len(text) != 36 or not _UUID.fullmatch(lowered):
        raise MalformedError(
            field, "is not a uuid", hint="8-4-4-4-12 hexadecimal digits with hyphens"
        )
    return ObjectUuid(lowered)


def check_version(text: str, field: str = "version") -> Version:
    """Return `text` as a version, or raise MalformedError. Does not look at the clock."""
    hint = "UTC as YYYY-MM-DDTHHMMSS.ffffffZ, for example 2026-11-23T120000.000000Z"
    if not _VERSION.fullmatch(text):
        raise MalformedError(field, "is not of the form of a version", hint=hint)
    try:
        moment = datetime.strptime(text, _VERSION_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise MalformedError(field, "is not a moment that exists", hint=hint) from None
    if version_of(moment) != text:  # our bug if it ever differs: identity must have one spelling
        raise MalformedError(field, "has a second spelling", hint=hint)
    return Version(text)


def check_version_for_write(text: str, now: datetime, field: str = "version") -> Version:
    """Like check_version, and refuse a version more than a day ahead of `now`."""
    version = check_version(text, field)
    if moment_of(version) > now + VERSION_AHEAD_MAX:
        raise MalformedError(
            field,
            "is more than a day in the future",
            hint="check the writer's clock; `latest` is the greatest version, so one far ahead "
            "would hide all later ones",
        )
    return version


def version_of(moment: datetime) -> Version:
    """The version that names `moment`, which must be aware; microseconds are kept."""
    if moment.tzinfo is None:
        raise ValueError("a version needs an aware moment")
    text = moment.astimezone(UTC).strftime(_VERSION_FORMAT)
    return Version(text.zfill(len("2026-11-23T120000.000000Z")))


def moment_of(version: Version) -> datetime:
    """The moment that a version names."""
    return datetime.strptime(version, _VERSION_FORMAT).replace(tzinfo=UTC)


def blob_key(dataset: DatasetName, sha256: Sha256) -> ObjectKey:
    """The key of a blob."""
    return ObjectKey(f"{dataset}/blobs/{sha256}")


def versioned_key(
    dataset: DatasetName, kind: Kind, uuid: ObjectUuid, version: Version
) -> ObjectKey:
    """The key of one version of a file, bundle or collection."""
    assert kind is not Kind.BLOB, "a blob is named by its content"  # noqa: S101  our bug, so crash
    return ObjectKey(f"{dataset}/{kind.plural}/{uuid}.{version}")


def versions_prefix(dataset: DatasetName, kind: Kind, uuid: ObjectUuid) -> str:
    """What the keys of all versions of one uuid begin with."""
    return f"{dataset}/{kind.plural}/{uuid}."


def kind_prefix(dataset: DatasetName, kind: Kind) -> str:
    """What the keys of all objects of one kind in a dataset begin with."""
    return f"{dataset}/{kind.plural}/"


@lru_cache(maxsize=4096)  # one request, or one copy, asks for the parts of its key ten times
def parse_key(text: str) -> KeyParts:
    """Take a key apart; raises MalformedError for anything that this module would not make."""
    parts = text.split("/")
    if len(parts) != 3:
        raise MalformedError("key", "does not have three parts", hint="<dataset>/<kind>s/<name>")
    dataset, kind = check_dataset(parts[0]), Kind.from_plural(parts[1])
    if kind is Kind.BLOB:
        return KeyParts(dataset, kind, check_sha256(parts[2]), ObjectUuid(""), Version(""))
    uuid_text, dot, version_text = parts[2].partition(".")
    uuid, version = check_uuid(uuid_text), check_version(version_text)
    if not dot or uuid != uuid_text:
        raise MalformedError("key", "is not in its one spelling", hint="<uuid>.<version>")
    return KeyParts(dataset, kind, Sha256(""), uuid, version)


def find_key_parts(text: str) -> KeyParts | None:
    """Like parse_key, but None for what is not a key of ours: other things lie in buckets too."""
    try:
        return parse_key(text)
    except MalformedError:
        return None
