"""How objects are cut into parts: at each cloud's limits, one byte over them, and in memory."""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidestore.connectors.errors import ObjectExistsError, ObjectTooLargeError
from tidestore.connectors.parts import (
    AZURE_LIMITS,
    FLIGHT_BYTES_MAX,
    GCS_LIMITS,
    GIB,
    MIB,
    PART_BYTES_GREATEST,
    PART_BYTES_USUAL,
    S3_LIMITS,
    TIB,
    PartedUpload,
    PartLimits,
    largest_object,
    part_size,
    parts_in_flight,
    ramped_part_size,
)
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.objects import ObjectKey
from tidestore.streams.backoff import GiveUp, next_try

CLOUDS = {"s3": S3_LIMITS, "azure": AZURE_LIMITS, "gcs": GCS_LIMITS}
_SMALL = PartLimits(parts_max=3, part_bytes_min=1, part_bytes_max=GIB, object_bytes_max=GIB)


def test_the_limits_are_those_that_the_clouds_publish() -> None:
    """Goal: a typing error in a limit is seen. Method: the published figures, written out."""
    assert PartLimits(10_000, 5_242_880, 5_368_709_120, 53_687_091_200_000) == S3_LIMITS
    assert PartLimits(50_000, 1, 4_194_304_000, 209_715_200_000_000) == AZURE_LIMITS
    # 32 sources at a time, three times; 5 TiB.
    assert PartLimits(32_768, 1, 5_497_558_138_880, 5_497_558_138_880) == GCS_LIMITS


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_largest_object_fits_and_one_byte_more_is_refused(cloud: str) -> None:
    """Goal: the limit is where it is said to be. Method: the plan at the limit and at limit + 1."""
    limits = CLOUDS[cloud]
    most = largest_object(limits)
    at = part_size(most, limits)
    assert at * limits.parts_max >= most
    assert at <= min(limits.part_bytes_max, PART_BYTES_GREATEST)
    with pytest.raises(ValueError, match=str(most)):
        part_size(most + 1, limits)


def test_a_part_grows_just_when_the_usual_ones_would_be_too_many() -> None:
    """Goal: not a part too many. Method: 10,000 usual parts of S3, then one byte more."""
    full = S3_LIMITS.parts_max * PART_BYTES_USUAL
    assert part_size(full, S3_LIMITS) == PART_BYTES_USUAL
    assert part_size(full + 1, S3_LIMITS) == PART_BYTES_USUAL + MIB
    assert part_size(20 * GIB, S3_LIMITS) == PART_BYTES_USUAL


@given(st.sampled_from(sorted(CLOUDS)), st.integers(0, 10 * TIB))
def test_every_object_is_cut_within_all_limits(cloud: str, size: int) -> None:
    """Goal: no size falls between two rules. Method: sizes at random, every limit checked."""
    limits = CLOUDS[cloud]
    if size > largest_object(limits):
        return
    found = part_size(size, limits)
    assert -(-size // found) <= limits.parts_max
    assert limits.part_bytes_min <= found <= limits.part_bytes_max


def test_large_parts_go_fewer_at_a_time() -> None:
    """Goal: memory has a bound. Method: what is in flight, for the smallest and greatest parts."""
    assert parts_in_flight(PART_BYTES_USUAL) == 4
    assert parts_in_flight(PART_BYTES_GREATEST) == 1
    for part in (17 * MIB, 32 * MIB, 64 * MIB):
        assert parts_in_flight(part) * part <= FLIGHT_BYTES_MAX
    assert ramped_part_size(1_001) > ramped_part_size(1_000) == ramped_part_size(1)


def test_what_is_too_large_is_parked_at_once() -> None:
    """Goal: it is not tried for a week. Method: the policy, after the first failure."""
    word = ObjectTooLargeError.error_class
    assert isinstance(next_try(word, 1, 0, dice=0.5), GiveUp)


class _Kept:
    """A journal that outlives its upload."""

    def __init__(self) -> None:
        self.token = ""
        self.told: list[int] = []
        self.failure: Exception | None = None

    async def begun(self, token: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.token = token

    def stored(self, size: int) -> None:
        self.told.append(size)


class _Server:
    """What a store has: open uploads with their parts, and whether the key is taken."""

    def __init__(self) -> None:
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.is_taken = False


class _Noted(PartedUpload):
    """Notes what is sent, and how much at once."""

    limits = _SMALL

    def __init__(
        self, size: int | None, journal: _Kept | None = None, server: _Server | None = None
    ) -> None:
        super().__init__("noted", ObjectKey("k"), size, journal)
        self.server = server or _Server()
        self.token = ""
        self.sent: list[int] = []
        self.parts: dict[int, bytes] = {}
        self.flying = 0
        self.flying_max = 0
        self.is_aborted = False

    async def run(self, body: bytes) -> bytes:
        """Send a body; what was sent, put together."""

        async def source() -> object:
            for start in range(0, len(body), MIB):
                yield body[start : start + MIB]

        await self._run(source())  # type: ignore[arg-type]
        return b"".join(self.parts[number] for number in sorted(self.parts))

    async def _begin(self) -> str:
        assert not self.token
        self.token = f"upload {len(self.server.uploads)}"
        self.parts = self.server.uploads[self.token] = {}
        return self.token

    async def _find(self, token: str) -> bool:
        found = self.server.uploads.get(token)
        if found is not None:
            self.token, self.parts = token, found
        return found is not None

    async def _is_taken(self) -> bool:
        return self.server.is_taken

    async def _holds(self, number: int, body: bytes) -> bool:
        return self.parts.get(number) == body

    async def _add(self, chunk: bytes) -> None:
        del chunk

    async def _send_part(self, number: int, body: bytes) -> None:
        self.flying += len(body)
        self.flying_max = max(self.flying_max, self.flying)
        await asyncio.sleep(0)
        self.flying -= len(body)
        self.sent.append(number)
        self.parts[number] = body

    async def _put_whole(self, body: bytes) -> ObjectInfo:
        self.parts[0] = body
        return await self._complete()

    async def _complete(self) -> ObjectInfo:
        return ObjectInfo(ObjectKey("k"), self._sent, "e", 0)

    async def _abort(self) -> None:
        self.is_aborted = True
        self.server.uploads.pop(self.token, None)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES_USUAL, PART_BYTES_USUAL + 1, 48 * MIB])
async def test_parts_put_together_are_the_source(size: int) -> None:
    """Goal: no byte twice, none lost. Method: sizes around a part's end, put together again."""
    body = os.urandom(size)
    upload = _Noted(size)
    assert await upload.run(body) == body
    assert set(upload.parts) == ({0} if size <= PART_BYTES_USUAL else set(range(1, 4)) & set(
        range(1, -(-size // PART_BYTES_USUAL) + 1)
    ))  # fmt: skip
    assert upload.flying_max <= FLIGHT_BYTES_MAX
    assert not upload.is_aborted


async def test_a_stream_of_unknown_length_with_too_many_parts_is_refused_and_aborted() -> None:
    """Goal: it does not fail at the completion, after hours. Method: four parts where three go."""
    upload = _Noted(None)
    with pytest.raises(Exception, match="too many parts"):
        await upload.run(bytes(3 * PART_BYTES_USUAL + 1))
    assert upload.is_aborted
    with pytest.raises(ObjectTooLargeError):
        _Noted(GIB + 1)


async def _break_off(body: bytes, journal: _Kept, server: _Server, parts: int) -> None:
    """Send so many parts of a body, then let the source fail."""

    async def source() -> object:
        yield body[: parts * PART_BYTES_USUAL + 1]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await _Noted(len(body), journal, server)._run(source())  # type: ignore[arg-type]


async def test_with_a_journal_only_the_missing_parts_are_sent() -> None:
    """Goal: resumed at the missing part. Method: break off after two of three, go on, count."""
    body, journal, server = os.urandom(48 * MIB), _Kept(), _Server()
    await _break_off(body, journal, server, 2)
    assert server.uploads[journal.token].keys() == {1, 2}
    upload = _Noted(len(body), journal, server)
    assert await upload.run(body) == body
    assert upload.sent == [3]
    assert journal.told[-1] == len(body)


async def test_a_part_of_other_bytes_is_sent_again() -> None:
    """Goal: no part is believed. Method: change one that is there, go on, compare the whole."""
    body, journal, server = os.urandom(48 * MIB), _Kept(), _Server()
    await _break_off(body, journal, server, 2)
    server.uploads[journal.token][1] = bytes(PART_BYTES_USUAL)
    upload = _Noted(len(body), journal, server)
    assert await upload.run(body) == body
    assert sorted(upload.sent) == [1, 3]


async def test_an_upload_that_is_no_more_is_begun_anew_or_was_completed() -> None:
    """Goal: a lost upload loses nothing. Method: abort it behind the journal's back, both ways."""
    body, journal, server = os.urandom(17 * MIB), _Kept(), _Server()
    await _break_off(body, journal, server, 1)
    first = journal.token
    server.uploads.clear()
    server.uploads["another"] = {}
    assert await _Noted(len(body), journal, server).run(body) == body
    assert journal.token != first
    server.uploads.clear()
    server.is_taken = True
    with pytest.raises(ObjectExistsError):
        await _Noted(len(body), journal, server).run(body)
    assert not server.uploads


async def test_an_upload_whose_name_was_not_kept_is_aborted_at_once() -> None:
    """Goal: nothing stays open that nobody can find. Method: a journal that cannot write."""
    journal, server = _Kept(), _Server()
    journal.failure = OSError("the log is away")
    with pytest.raises(OSError, match="the log is away"):
        await _Noted(17 * MIB, journal, server).run(bytes(17 * MIB))
    assert not server.uploads
