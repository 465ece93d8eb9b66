"""schemas/checksums.py: four checksums in one pass, and the headers that carry them."""

from __future__ import annotations

import base64
import hashlib
import random
import zlib

import google_crc32c
import pytest

from tidestore.schemas.checksums import (
    EMPTY_SHA256,
    Hasher,
    Sha256Hasher,
    announced_sha256,
    base64_of_hex,
    checksums_from,
    checksums_of,
    checksums_text,
    hex_of_base64,
    repr_digest,
)
from tidestore.schemas.objects import MalformedError

_BODY = random.Random(7).randbytes(300_001)


def _crc32c_by_hand(data: bytes) -> int:
    """Castagnoli's polynomial bit by bit: nobody's library."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("body", [b"", b"\0", b"test", _BODY[:4097]], ids=len)
def test_all_four_checksums_are_those_of_other_implementations(body: bytes) -> None:
    """Goal: clouds agree with us. Method: hashlib, google_crc32c, and crc32c bit by bit."""
    sums = checksums_of(body)
    assert sums.size == len(body)
    assert sums.sha256 == hashlib.sha256(body).hexdigest()
    assert sums.sha1 == hashlib.sha1(body).hexdigest()
    assert sums.md5 == hashlib.md5(body).hexdigest()
    assert sums.crc32c == f"{google_crc32c.value(body):08x}" == f"{_crc32c_by_hand(body):08x}"


def test_known_values_from_the_standards() -> None:
    """Goal: no common mistake of all libraries here. Method: published check values."""
    sums = checksums_of(b"123456789")
    assert sums.crc32c == "e3069283"  # the check value of CRC-32/ISCSI
    assert sums.sha1 == "f7c3bc1d808e04732adf679965ccc34ca7ae3441"
    assert sums.md5 == "25f9e794323b453885f5181f1b624d0b"
    assert sums.sha256 == "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
    assert sums.crc32c != f"{zlib.crc32(b'123456789'):08x}", "crc32 is another polynomial"


def test_the_empty_object_has_checksums_too() -> None:
    """Goal: an empty file is a file. Method: known values of nothing."""
    sums = checksums_of(b"")
    assert (sums.size, sums.sha256, sums.crc32c) == (0, EMPTY_SHA256, "00000000")
    assert EMPTY_SHA256.startswith("e3b0c442")


def test_chunks_do_not_matter() -> None:
    """Goal: a stream and its bytes are one. Method: the same bytes in odd chunks."""
    hasher = Hasher()
    start = 0
    for size in (0, 1, 4_095, 0, 70_000, 300_000):
        hasher.update(_BODY[start : start + size])
        start += size
    assert hasher.size == len(_BODY)
    assert hasher.result() == checksums_of(_BODY)


def test_a_hasher_can_be_asked_on_the_way() -> None:
    """Goal: asking changes nothing. Method: ask twice in the middle."""
    hasher = Hasher()
    hasher.update(b"ab")
    assert hasher.result() == hasher.result() == checksums_of(b"ab")
    hasher.update(b"c")
    assert hasher.result() == checksums_of(b"abc")


def test_the_short_hasher_computes_sha256_and_size_alone() -> None:
    """Goal: what is known is not computed again. Method: compare with the full one."""
    hasher = Sha256Hasher()
    hasher.update(_BODY[:100])
    hasher.update(_BODY[100:])
    sums, full = hasher.result(), checksums_of(_BODY)
    assert (sums.size, sums.sha256) == (full.size, full.sha256)
    assert (sums.sha1, sums.crc32c, sums.md5) == ("", "", "")


def test_checksums_survive_their_line() -> None:
    """Goal: a record carries what proves a copy. Method: there and back, and half a line."""
    sums = checksums_of(b"test")
    text = checksums_text(sums)
    assert text == (
        "crc32c:86a072c0,md5:098f6bcd4621d373cade4e832627b4f6,"
        "sha1:a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"
    )
    assert checksums_from(sums.size, sums.sha256, text) == sums
    for half in ("", "md5:1", text.rpartition(",")[0], "nonsense"):
        assert checksums_from(sums.size, sums.sha256, half) is None


def test_hex_and_base64_are_two_spellings_of_one_digest() -> None:
    """Goal: headers and records agree. Method: there and back, and what is not base64."""
    digest = hashlib.sha256(b"x").hexdigest()
    assert base64_of_hex(digest) == base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    assert hex_of_base64(base64_of_hex(digest)) == digest
    for text in ("?", "abc", "aGVsbG8=\n"):
        with pytest.raises(ValueError, match=r"."):
            hex_of_base64(text)


_DIGEST = hashlib.sha256(b"body").hexdigest()
_ENCODED = base64.b64encode(bytes.fromhex(_DIGEST)).decode()


@pytest.mark.parametrize(
    ("modern", "older"),
    [
        (repr_digest(_DIGEST), None),
        (f"md5=:AAAA:, sha-256=:{_ENCODED}:", None),
        (f"SHA-256 = :{_ENCODED}:", None),
        (None, f"SHA-256={_ENCODED}"),
        (None, f"md5=xyz,sha-256={_ENCODED}"),
        (repr_digest(_DIGEST), "SHA-256=notcompared"),
    ],
)
def test_an_announced_sha256_is_found(modern: str | None, older: str | None) -> None:
    """Goal: RFC 9530 and its forerunner. Method: forms that writers send."""
    assert announced_sha256(modern, older) == _DIGEST


@pytest.mark.parametrize(
    ("modern", "older"),
    [(None, None), ("", ""), ("md5=:AAAA:", "unixsum=30637"), ("sha-256", "nonsense,,=")],
)
def test_what_announces_no_sha256_is_passed_over(modern: str | None, older: str | None) -> None:
    """Goal: other algorithms are no error. Method: headers without a sha-256."""
    assert announced_sha256(modern, older) is None


@pytest.mark.parametrize(
    ("modern", "older", "hint"),
    [
        ("sha-256=:AAAA:", None, "sha-256=:<base64>:"),
        ("sha-256=:!!!!:", None, "sha-256=:<base64>:"),
        (None, "SHA-256=" + _DIGEST, "SHA-256=<base64>"),
        (None, "SHA-256=", "SHA-256=<base64>"),
    ],
)
def test_a_sha256_that_cannot_be_read_is_refused(
    modern: str | None, older: str | None, hint: str
) -> None:
    """Goal: who sends one wants it compared. Method: hex, short, broken and empty ones."""
    with pytest.raises(MalformedError, match="sha-256 in base64") as caught:
        announced_sha256(modern, older)
    assert caught.value.hint == hint
