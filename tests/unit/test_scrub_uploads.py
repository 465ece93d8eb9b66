"""Abandoned uploads, as a comparison finds them: over a log in memory and made-up uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from tests.property.stage import MemoryLog, MemoryView
from tests.unit.made import copy

from tidestore.connectors.conformance.made import key_of
from tidestore.connectors.errors import StoreUnreachableError
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.store import OpenUpload
from tidestore.connectors.sweep import UPLOAD_LIFE_MS, Swept
from tidestore.schemas.events import CopyState
from tidestore.schemas.objects import ObjectKey
from tidestore.streams.scrub_uploads import sweep_replica
from tidestore.streams.scrub_view import ScrubFold, ScrubRows

_NOW_MS = 2 * UPLOAD_LIFE_MS
_TOPIC = "copies.aws.1"


class _Store(MemoryStore):
    """Lists uploads that were begun; one of them cannot be aborted."""

    def __init__(self, uploads: list[OpenUpload], stubborn: str = "") -> None:
        super().__init__("aws")
        self.uploads = uploads
        self.stubborn = stubborn

    async def open_uploads(self) -> AsyncIterator[OpenUpload]:
        for upload in list(self.uploads):
            yield upload

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        if token == self.stubborn:
            raise StoreUnreachableError("abort", self.name, key)
        self.uploads = [each for each in self.uploads if (each.key, each.token) != (key, token)]


class _Scrubber:
    """What a sweep needs of a comparison. Folding reads what was said before that, and no more."""

    def __init__(self, store: _Store) -> None:
        self.store = store
        self.log = MemoryLog(2)
        self.view = MemoryView(self.log, ScrubFold("aws", 1, _TOPIC), [_TOPIC])
        self.identity = SimpleNamespace(replica="aws")
        self.folds = 0

    def say(self, key: str, state: CopyState, upload: str = "") -> None:
        self.log.append(_TOPIC, 1, key, copy(key, state, replica="aws", upload=upload))

    async def fold(self) -> None:
        self.folds += 1
        self.view.take_all()


def _upload(number: int, token: str, age_ms: int = UPLOAD_LIFE_MS + 1) -> OpenUpload:
    return OpenUpload(key_of(number), token, _NOW_MS - age_ms)


async def _sweep(scrubber: _Scrubber, **options: Any) -> Swept:
    return await sweep_replica(scrubber, _NOW_MS, **options)  # type: ignore[arg-type]


async def test_what_a_copy_names_by_the_end_of_its_topic_is_kept() -> None:
    """Goal: no upload that is needed is lost. Method: one of each, named after the listing began.

    A copy that is present names none any more, whatever it named before.
    """
    kinds = ["named", "another token", "settled", "unknown"]
    uploads = [_upload(number, kind) for number, kind in enumerate(kinds)]
    scrubber = _Scrubber(_Store([*uploads, _upload(9, "young", UPLOAD_LIFE_MS - 1)]))
    scrubber.say(key_of(0), CopyState.PENDING, "named")
    scrubber.say(key_of(1), CopyState.PENDING, "a later one")
    scrubber.say(key_of(2), CopyState.PENDING, "settled")
    scrubber.say(key_of(2), CopyState.PRESENT)
    try:
        assert await _sweep(scrubber, is_dry=True) == Swept(seen=5, abandoned=3)
        assert len(scrubber.store.uploads) == 5
        assert await _sweep(scrubber) == Swept(seen=5, abandoned=3, aborted=3)
        assert [each.token for each in scrubber.store.uploads] == ["named", "young"]
        assert ScrubRows(scrubber.view, "aws").uploads() == {
            (key_of(0), "named"),
            (key_of(1), "a later one"),
        }
    finally:
        scrubber.view.tables.close()


async def test_without_an_old_upload_nothing_is_read_and_one_failure_is_not_all() -> None:
    """Goal: it costs a listing, and goes on. Method: a young one; one that will not go."""
    scrubber = _Scrubber(_Store([_upload(1, "young", 5)]))
    stubborn = _Scrubber(_Store([_upload(1, "a"), _upload(2, "b"), _upload(3, "c")], "b"))
    try:
        assert await _sweep(scrubber) == Swept(seen=1)
        assert scrubber.folds == 0
        assert await _sweep(stubborn) == Swept(seen=3, abandoned=3, aborted=2, failed=1)
        assert [each.token for each in stubborn.store.uploads] == ["b"]
    finally:
        scrubber.view.tables.close()
        stubborn.view.tables.close()
