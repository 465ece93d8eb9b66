"""The four checksums of an object, computed in one pass while its bytes stream by.

sha256 is identity and is always computed by us. The other three are what the clouds themselves
keep (md5: S3's ETag of a single PUT and GCS; crc32c: GCS and S3; sha1: old catalogues), so that a
copy can be proved against the store's own word without reading it back.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

import google_crc32c

from tidestore.schemas.objects import MalformedError, Sha256

EMPTY_SHA256: Final = Sha256(hashlib.sha256(b"").hexdigest())


@dataclass(frozen=True, slots=True)
class Checksums:
    """All four, in lower-case hex, with the size in bytes of what they cover."""

    size: int
    sha256: Sha256
    sha1: str
    crc32c: str
    md5: str


class Hasher:
    """Feeds one stream of bytes to all four checksums.

    hashlib releases the interpreter lock for chunks over 2 KiB, so large chunks may be fed from a
    thread; one hasher must not be fed from two threads at once.
    """

    __slots__ = ("_crc32c", "_md5", "_sha1", "_sha256", "size")

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(usedforsecurity=False)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32c = 0

    def update(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self.size += len(chunk)
        self._sha256.update(chunk)
        self._sha1.update(chunk)
        self._md5.update(chunk)
        self._crc32c = google_crc32c.extend(self._crc32c, chunk)

    def result(self) -> Checksums:
        """The checksums of all that was fed so far."""
        return Checksums(
            size=self.size,
            sha256=Sha256(self._sha256.hexdigest()),
            sha1=self._sha1.hexdigest(),
            crc32c=f"{self._crc32c:08x}",
            md5=self._md5.hexdigest(),
        )


class Sha256Hasher(Hasher):
    """Computes sha256 alone, for bytes whose other checksums are known; those come out empty."""

    __slots__ = ()

    def update(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self.size += len(chunk)
        self._sha256.update(chunk)

    def result(self) -> Checksums:
        """Size and sha256 of all that was fed so far."""
        return Checksums(self.size, Sha256(self._sha256.hexdigest()), "", "", "")


def checksums_text(sums: Checksums) -> str:
    """All but sha256 and size in one line, as records carry them: `crc32c:...,md5:...,sha1:...`."""
    return f"crc32c:{sums.crc32c},md5:{sums.md5},sha1:{sums.sha1}"


def checksums_from(size: int, sha256: str, text: str) -> Checksums | None:
    """The inverse of checksums_text; None when the line does not hold all of them."""
    pairs = dict(item.partition(":")[::2] for item in text.split(","))
    if not {"crc32c", "md5", "sha1"} <= pairs.keys():
        return None
    return Checksums(size, Sha256(sha256), pairs["sha1"], pairs["crc32c"], pairs["md5"])


def checksums_of(data: bytes) -> Checksums:
    """All four checksums of bytes already in memory."""
    hasher = Hasher()
    hasher.update(data)
    return hasher.result()


def base64_of_hex(digest: str) -> str:
    """A hex digest as the base64 that HTTP headers and the clouds' APIs use."""
    return base64.b64encode(bytes.fromhex(digest)).decode("ascii")


def hex_of_base64(text: str) -> str:
    """The inverse of base64_of_hex; raises ValueError for what is not base64."""
    return base64.b64decode(text, validate=True).hex()


def repr_digest(sha256: str) -> str:
    """The value of a `Repr-Digest` header (RFC 9530) for a sha256."""
    return f"sha-256=:{base64_of_hex(sha256)}:"


def announced_sha256(repr_digest_header: str | None, digest_header: str | None) -> Sha256 | None:
    """The sha256 that a writer announced in `Repr-Digest` or the older `Digest` header, if any.

    Other algorithms are passed over, as RFC 9530 asks; a sha-256 that cannot be read raises
    MalformedError, because a writer that sends one wants it compared.
    """
    for name, header in (("Repr-Digest", repr_digest_header), ("Digest", digest_header)):
        for item in (header or "").split(","):
            algorithm, equals, value = item.strip().partition("=")
            if not equals or algorithm.strip().lower() != "sha-256":
                continue
            encoded = value.strip().strip(":") if name == "Repr-Digest" else value.strip()
            try:
                digest = hex_of_base64(encoded)
            except ValueError:
                digest = ""
            if len(digest) != 64:
                hint = "sha-256=:<base64>:" if name == "Repr-Digest" else "SHA-256=<base64>"
                raise MalformedError(name, "does not hold a sha-256 in base64", hint=hint)
            return Sha256(digest)
    return None
