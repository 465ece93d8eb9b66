"""The part of the contract about uploads that outlive the call that began them."""

from __future__ import annotations

import os

import pytest

from tidestore.connectors.conformance.made import (
    BYTES,
    SourceFailedError,
    is_absent,
    key_of,
    need,
    read_all,
    source_of,
)
from tidestore.connectors.errors import ObjectExistsError
from tidestore.connectors.parts import PART_BYTES_USUAL
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.checksums import checksums_of


class KeptJournal:
    """A journal in memory, for one upload after another."""

    def __init__(self) -> None:
        self.token = ""
        self.bytes_stored = 0

    async def begun(self, token: str) -> None:
        """See UploadJournal."""
        self.token = token

    def stored(self, size: int) -> None:
        """See UploadJournal."""
        self.bytes_stored = size


class ResumedUploads:
    """What a store with `resumable_uploads` must do."""

    async def test_an_upload_that_broke_off_is_gone_on_with_and_no_part_is_believed(
        self, store: ObjectStore
    ) -> None:
        """Break off after two parts of three; go on with a source whose first part is another."""
        need(store, "resumable_uploads")
        journal = KeptJournal()
        body = os.urandom(2 * PART_BYTES_USUAL + 4321)
        broken = source_of(body[: 2 * PART_BYTES_USUAL + 1], fail=SourceFailedError("cut"))
        size = len(body)
        with pytest.raises(SourceFailedError):
            await store.upload_if_absent(
                key_of(1), broken, size=size, content_type=BYTES, journal=journal
            )
        assert await is_absent(store, key_of(1))
        assert journal.bytes_stored == 2 * PART_BYTES_USUAL
        token = journal.token
        other = b"another beginning" + body[17:]
        info = await store.upload_if_absent(
            key_of(1), source_of(other), size=size, content_type=BYTES, journal=journal
        )
        assert journal.token == token, "another upload was begun"
        assert (info.size, journal.bytes_stored) == (size, size)
        assert (await store.head(key_of(1))).proves(checksums_of(other))
        assert await read_all(store, key_of(1)) == other
        assert not [upload async for upload in store.open_uploads()]
        with pytest.raises(ObjectExistsError):  # killed after the completion: the token stays
            await store.upload_if_absent(
                key_of(1), source_of(other), size=size, content_type=BYTES, journal=journal
            )
        assert not [upload async for upload in store.open_uploads()]

    async def test_an_upload_that_is_given_up_leaves_nothing(self, store: ObjectStore) -> None:
        need(store, "resumable_uploads")
        journal = KeptJournal()
        body = os.urandom(PART_BYTES_USUAL + 1)
        broken = source_of(body, fail=SourceFailedError("cut"))
        with pytest.raises(SourceFailedError):
            await store.upload_if_absent(
                key_of(1), broken, size=len(body), content_type=BYTES, journal=journal
            )
        await store.abort_upload(key_of(1), journal.token)
        await store.abort_upload(key_of(1), journal.token)  # and again: success
        assert await is_absent(store, key_of(1))
        assert not [upload async for upload in store.open_uploads()]
        await store.upload_if_absent(
            key_of(1), source_of(body), size=len(body), content_type=BYTES, journal=journal
        )
        assert await read_all(store, key_of(1)) == body
