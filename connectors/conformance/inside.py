"""What a store must do that has its provider copy (connectors/inside.py).

Beside `store`, a subclass gives the fixture `beside`: the address of another replica at the same
provider, and its opened, empty store.
"""

from __future__ import annotations

import os

import pytest

from tidestore.connectors.conformance.made import (
    BYTES,
    LARGE_BYTES,
    is_absent,
    key_of,
    open_uploads,
    put,
    read_all,
    source_of,
)
from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import ObjectExistsError, ObjectMissingError, UnsupportedError
from tidestore.connectors.inside import CopiesInside
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.schemas.checksums import Checksums, checksums_of
from tidestore.schemas.objects import ObjectKey

Beside = tuple[StoreAddress, ObjectStore]


class InsideCopying:
    """The names of the cases are the claims."""

    @pytest.mark.parametrize("size", [1, LARGE_BYTES])
    async def test_the_provider_copies_and_the_copy_is_proved(
        self, store: ObjectStore, beside: Beside, size: int
    ) -> None:
        address, source = beside
        body = os.urandom(size)
        sums = checksums_of(body)
        await source.upload_if_absent(key_of(1), source_of(body), size=size, content_type=BYTES)
        info = await copy_inside(store, address, key_of(1), sums)
        assert info.size == size
        assert not info.differs_from(sums)
        assert await read_all(store, key_of(1)) == body
        assert not await open_uploads(store)
        with pytest.raises(ObjectExistsError):
            await copy_inside(store, address, key_of(1), sums)
        assert not await open_uploads(store)

    async def test_a_taken_key_is_not_copied_over(self, store: ObjectStore, beside: Beside) -> None:
        address, source = beside
        sums = await put(source, key_of(1), b"the source's")
        await put(store, key_of(1), b"was first")
        with pytest.raises(ObjectExistsError):
            await copy_inside(store, address, key_of(1), sums)
        assert await read_all(store, key_of(1)) == b"was first"
        assert not await open_uploads(store)

    async def test_what_the_source_does_not_prove_is_not_copied(
        self, store: ObjectStore, beside: Beside
    ) -> None:
        """Other bytes of the same length lie at the source."""
        address, source = beside
        await put(source, key_of(1), b"rotten")
        with pytest.raises(UnsupportedError):
            await copy_inside(store, address, key_of(1), checksums_of(b"intact"))
        assert await is_absent(store, key_of(1))
        assert not await open_uploads(store)

    async def test_what_is_not_at_the_source_is_missing(
        self, store: ObjectStore, beside: Beside
    ) -> None:
        with pytest.raises(ObjectMissingError):
            await copy_inside(store, beside[0], key_of(1), checksums_of(b"x"))
        assert await is_absent(store, key_of(1))


async def copy_inside(
    store: ObjectStore, source: StoreAddress, key: ObjectKey, sums: Checksums
) -> ObjectInfo:
    """Have an object copied by the store's provider."""
    assert isinstance(store, CopiesInside)
    return await store.copy_inside(source, key, sums, content_type=BYTES)
