"""Copies that a provider makes itself: the bytes never pass us (docs/decisions/0020).

    source's own checksum is the object's? --no, or unknown--> UnsupportedError: bytes are streamed
       |yes
    copy, if the source is still what was looked at --> proved? --no--> UnsupportedError, nothing
       |yes                                                            is visible
    visible, if the key is free

What the provider says is compared with the object's checksums at both ends; where it says nothing
that could be compared, the copy is not made.
"""

from __future__ import annotations

from typing import Final, Protocol, runtime_checkable

from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import ObjectKey

_SCHEMES: Final = frozenset({"s3", "gs"})
# What makes two addresses one server to ask, beside the credentials.
_SAME_OPTIONS: Final = ("endpoint", "region", "project", "capabilities")


@runtime_checkable
class CopiesInside(Protocol):
    """A store that can have an object copied by its provider."""

    async def copy_inside(
        self, source: StoreAddress, key: ObjectKey, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """Copy an object of another replica at the same provider under the same, free key.

        Raises ObjectExistsError as upload_if_absent does, ObjectMissingError when the source has
        none, and UnsupportedError when it could not be done or not be proved: nothing is visible
        then, and the bytes can still be streamed.
        """
        ...


def can_copy_inside(source: StoreAddress, target: StoreAddress) -> bool:
    """Whether the target's own credentials reach the source, on one server and in one region."""
    if source.scheme != target.scheme or source.scheme not in _SCHEMES:
        return False
    if source.credentials != target.credentials:
        return False
    return all(source.options.get(name) == target.options.get(name) for name in _SAME_OPTIONS)


def full_key_at(source: StoreAddress, key: ObjectKey) -> str:
    """The key in the source's bucket, with its prefix."""
    return f"{source.prefix}/{key}" if source.prefix else key
