"""Manifests: the small objects that name other objects.

A manifest is canonical JSON: keys sorted, no spaces, UTF-8, no value that a server made. Equal
content is therefore equal bytes, which is what lets a conditional create tell "the same again"
from "another under the same name". Manifests lie on every replica as objects of their own, so a
bucket can be read with the cloud's own tools and is enough to rebuild log and index.

    file        names one blob           {name, content_type, size, sha256, sha1, crc32c, md5}
    bundle      names files              {files: [{name, uuid, version, content_type, size,
    sha256}]} collection  names any of the four    {name, description, details, contents: [{kind,
    ...}]}

No manifest names its dataset: references stay inside it, and the bytes stay the same when a
controlled object is released into the public one.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass
from typing import Any, Final

from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import (
    DatasetName,
    Kind,
    MalformedError,
    ObjectKey,
    ObjectUuid,
    Sha256,
    Version,
    blob_key,
    check_sha256,
    check_uuid,
    check_version,
    parse_key,
    versioned_key,
)

FORMATS: Final = {
    Kind.FILE: "tidestore.file/1",
    Kind.BUNDLE: "tidestore.bundle/1",
    Kind.COLLECTION: "tidestore.collection/1",
}
MANIFEST_CONTENT_TYPE: Final = "application/json"

# S3 and GCS both end a key at 1,024 bytes; a name that fits there can be written back to disk or
# bucket by any consumer.
NAME_BYTES_MAX: Final = 1_024
# RFC 6838 allows 127 characters each for type and subtype; parameters such as the ancestor's
# `; dcp-type=...` need some more.
CONTENT_TYPE_CHARS_MAX: Final = 512
# The ancestor failed near 1,000 files and its users asked for 2,757 (field notes on DSS, section
# 6). 50,000 entries are about 13 MB of manifest: still one request, parsed in well under a second.
ENTRIES_MAX: Final = 50_000
DESCRIPTION_CHARS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class FileManifest:
    """One version of a file: a name and a type for one blob."""

    uuid: ObjectUuid
    version: Version
    name: str
    content_type: str
    checksums: Checksums


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """One file in a bundle, with what a reader needs to fetch and check it."""

    name: str
    uuid: ObjectUuid
    version: Version
    content_type: str
    size: int
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Link:
    """One thing that a collection names: a blob by sha256, anything else by uuid and version."""

    kind: Kind
    sha256: Sha256 = Sha256("")
    uuid: ObjectUuid = ObjectUuid("")
    version: Version = Version("")

    def key(self, dataset: DatasetName) -> ObjectKey:
        """The key of the object that this names, in the manifest's own dataset."""
        if self.kind is Kind.BLOB:
            return blob_key(dataset, self.sha256)
        return versioned_key(dataset, self.kind, self.uuid, self.version)


def canonical_json(value: object) -> bytes:
    """The one spelling of a JSON value; raises MalformedError for what has none.

    NaN and infinities have no JSON spelling at all; a lone surrogate has no UTF-8 one.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise MalformedError("body", "has no canonical JSON form", hint=str(error)[:200]) from None


def check_name(text: str, field: str = "name") -> str:
    """Return a file's or entry's name if it is safe as a relative path, or raise MalformedError.

    Only safety is checked here: what a name means is the ingestion service's affair.
    """
    encoded_length = len(text.encode("utf-8", errors="replace"))
    if not text:
        raise MalformedError(field, "is empty")
    if encoded_length > NAME_BYTES_MAX:
        raise MalformedError(
            field,
            f"is {encoded_length} bytes long",
            hint=f"at most {NAME_BYTES_MAX} bytes of UTF-8",
        )
    for character in text:
        # Cc are control characters (NUL, newline, escape), Cs lone surrogates, Zl and Zp line
        # breaks that some readers split on, and the bidirectional controls can make a name
        # display as another one.
        category = unicodedata.category(character)
        if category in {"Cc", "Cs", "Zl", "Zp"} or character in _BIDI_CONTROLS:
            raise MalformedError(
                field, f"holds the character U+{ord(character):04X}", hint="printable text only"
            )
    if "\\" in text:
        raise MalformedError(field, "holds a backslash", hint="separate folders with /")
    if any(part in {"", ".", ".."} for part in text.split("/")):
        raise MalformedError(
            field, "is not a plain relative path", hint="no leading or double /, no . or .. parts"
        )
    return text


_BIDI_CONTROLS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def check_content_type(text: str) -> str:
    """Return a media type fit for an HTTP header, or raise MalformedError."""
    if not text or len(text) > CONTENT_TYPE_CHARS_MAX:
        reason = "is empty" if not text else f"is over {CONTENT_TYPE_CHARS_MAX} characters"
        raise MalformedError("content_type", reason, hint="for example application/gzip")
    if not text.isascii() or not text.isprintable() or "/" not in text or text != text.strip():
        raise MalformedError(
            "content_type", "is not a media type", hint="type/subtype in printable ASCII"
        )
    return text


def check_entry_names(names: list[str]) -> None:
    """Refuse two entries that would fall on one path; raises MalformedError.

    Compared after NFC, because two spellings of one visible name are one file on some systems.
    """
    seen: set[str] = set()
    for name in names:
        folded = unicodedata.normalize("NFC", name)
        if folded in seen:
            raise MalformedError(
                "files", "name one path twice", hint=f"the second is {name[:100]!r}"
            )
        seen.add(folded)


def file_manifest_bytes(manifest: FileManifest) -> bytes:
    """The bytes stored for a file."""
    sums = manifest.checksums
    return canonical_json(
        {
            "format": FORMATS[Kind.FILE],
            "uuid": manifest.uuid,
            "version": manifest.version,
            "name": manifest.name,
            "content_type": manifest.content_type,
            "size": sums.size,
            "sha256": sums.sha256,
            "sha1": sums.sha1,
            "crc32c": sums.crc32c,
            "md5": sums.md5,
        }
    )


def bundle_manifest_bytes(uuid: ObjectUuid, version: Version, entries: list[BundleEntry]) -> bytes:
    """The bytes stored for a bundle; entries are put in order of name."""
    return canonical_json(
        {
            "format": FORMATS[Kind.BUNDLE],
            "uuid": uuid,
            "version": version,
            "files": [
                {
                    "name": entry.name,
                    "uuid": entry.uuid,
                    "version": entry.version,
                    "content_type": entry.content_type,
                    "size": entry.size,
                    "sha256": entry.sha256,
                }
                for entry in sorted(entries, key=lambda entry: entry.name)
            ],
        }
    )


def collection_manifest_bytes(
    uuid: ObjectUuid,
    version: Version,
    contents: list[Link],
    *,
    name: str = "",
    description: str = "",
    details: dict[str, Any] | None = None,
) -> bytes:
    """The bytes stored for a collection; contents are put in order of kind and identity."""
    ordered = sorted(contents, key=lambda link: (link.kind, link.uuid, link.version, link.sha256))
    return canonical_json(
        {
            "format": FORMATS[Kind.COLLECTION],
            "uuid": uuid,
            "version": version,
            "name": name,
            "description": description,
            "details": details or {},
            "contents": [_link_json(link) for link in ordered],
        }
    )


def _link_json(link: Link) -> dict[str, str]:
    if link.kind is Kind.BLOB:
        return {"kind": link.kind.value, "sha256": link.sha256}
    return {"kind": link.kind.value, "uuid": link.uuid, "version": link.version}


def read_manifest(kind: Kind, data: bytes) -> dict[str, Any]:
    """The JSON of a stored manifest; raises MalformedError when it is not one of `kind`."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise MalformedError("manifest", "is not JSON") from None
    if not isinstance(document, dict) or document.get("format") != FORMATS[kind]:
        raise MalformedError("manifest", f"is not a {FORMATS[kind]}")
    return document


def read_file_manifest(data: bytes) -> FileManifest:
    """A stored file manifest as a value; raises MalformedError."""
    document = read_manifest(Kind.FILE, data)
    try:
        return FileManifest(
            uuid=check_uuid(document["uuid"]),
            version=check_version(document["version"]),
            name=document["name"],
            content_type=document["content_type"],
            checksums=Checksums(
                size=document["size"],
                sha256=check_sha256(document["sha256"]),
                sha1=document["sha1"],
                crc32c=document["crc32c"],
                md5=document["md5"],
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedError("manifest", f"lacks or mistypes {error}") from None


def children_of(kind: Kind, dataset: DatasetName, data: bytes) -> list[ObjectKey]:
    """The keys that a manifest refers to, in its own order; empty for a blob.

    This is the list behind R5: on any replica the manifest may appear only after all of these are
    settled there. Raises MalformedError when the bytes are not a manifest of that kind.
    """
    if kind is Kind.BLOB:
        return []
    document = read_manifest(kind, data)
    try:
        if kind is Kind.FILE:
            return [blob_key(dataset, check_sha256(document["sha256"]))]
        if kind is Kind.BUNDLE:
            return [
                versioned_key(
                    dataset, Kind.FILE, check_uuid(entry["uuid"]), check_version(entry["version"])
                )
                for entry in document["files"]
            ]
        return [read_link(entry).key(dataset) for entry in document["contents"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedError("manifest", f"lacks or mistypes {error}") from None


def stored_children(key: ObjectKey, data: bytes) -> list[ObjectKey]:
    """The children of the manifest that lies under `key`, whose bytes must be the ones for it.

    Raises MalformedError when they are no manifest, that of another object, or not in the one
    spelling in which every manifest was written: then they have changed since.
    """
    parts = parse_key(key)
    document = read_manifest(parts.kind, data)
    if (document.get("uuid"), document.get("version")) != (parts.uuid, parts.version):
        raise MalformedError("manifest", "is of another object than its key says")
    if canonical_json(document) != data:
        raise MalformedError("manifest", "is not in its canonical spelling")
    return children_of(parts.kind, parts.dataset, data)


def read_link(entry: dict[str, Any]) -> Link:
    """One entry of a collection's contents; raises MalformedError or KeyError."""
    kind_text = entry["kind"]
    if kind_text not in set(Kind):
        raise MalformedError("kind", "is not known", hint="one of " + ", ".join(Kind))
    kind = Kind(kind_text)
    if kind is Kind.BLOB:
        return Link(kind, sha256=check_sha256(entry["sha256"]))
    return Link(kind, uuid=check_uuid(entry["uuid"]), version=check_version(entry["version"]))
