"""Whose place is it? The marker in a replica's store, and what is examined before one is taken.

    .tidestore/replica.json   {"deployment": ..., "incarnation": 2, "replica": "ceph"}

It is created only if it is not there, so of two deployments that take one place at once, one is
refused. Killed after it was put: a marker without a registration, which the next one who takes the
place for the same deployment replaces.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from tidestore.connectors.errors import (
    BucketMissingError,
    ObjectExistsError,
    ObjectMissingError,
    StoreDeniedError,
    StoreError,
)
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.manifests import canonical_json
from tidestore.schemas.own_keys import MARKER_KEY, OWN_PREFIX

# A person waits. A store that needs longer than this for five requests is no place for a replica.
_EXAMINE_SECONDS_MAX: Final = 30.0
_MARKER_BYTES_MAX: Final = 4_096
# Of what lies there, enough to tell an empty place from another one.
_LISTED_MAX: Final = 100


class PlaceRefusedError(Exception):
    """A place cannot become a replica: a machine code, the reason, and what to do."""

    def __init__(self, code: str, detail: str, hint: str) -> None:
        super().__init__(detail)
        self.code = code
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Marker:
    """Who holds a place."""

    deployment: str
    replica: str
    incarnation: int

    def encode(self) -> bytes:
        """Canonical JSON, as all that we write into a store."""
        document = {
            "deployment": self.deployment,
            "incarnation": self.incarnation,
            "replica": self.replica,
        }
        return canonical_json(document)

    @classmethod
    def decode(cls, data: bytes) -> Marker | None:
        """The marker in bytes; None when they are none."""
        try:
            document = json.loads(data)
            return cls(
                str(document["deployment"]),
                str(document["replica"]),
                int(document["incarnation"]),
            )
        except (ValueError, TypeError, KeyError):
            return None


async def take_place(
    store: ObjectStore, mine: Marker, is_served: Callable[[Marker], bool], *, adopt: bool
) -> None:
    """Examine a place and mark it as ours; raises PlaceRefusedError.

    `is_served` says whether a marker of this deployment is that of a replica that is served now.
    `adopt` takes a place that holds objects but no marker, or another deployment's marker.
    """
    try:
        async with asyncio.timeout(_EXAMINE_SECONDS_MAX):
            await store.open()
            await _take(store, mine, is_served, adopt=adopt)
    except TimeoutError:
        raise PlaceRefusedError(
            "store_unreachable",
            f"the store did not answer within {_EXAMINE_SECONDS_MAX:.0f} s",
            "is the endpoint right, and reachable from this gateway?",
        ) from None
    except StoreError as error:
        raise _refusal(error) from None


async def _take(
    store: ObjectStore, mine: Marker, is_served: Callable[[Marker], bool], *, adopt: bool
) -> None:
    found, info = await _read_marker(store)
    if found == mine:
        return
    if info is None:
        if not adopt and (key := await _any_key(store)) is not None:
            raise PlaceRefusedError(
                "not_empty",
                f"there are objects that no replica of ours has put there, {key!r} among them",
                "choose an empty prefix; or say --adopt: what is there under our keys is proved",
            )
        body = mine.encode()
        try:
            await store.put_if_absent(
                MARKER_KEY, body, checksums_of(body), content_type="application/json"
            )
        except ObjectExistsError:
            found, _ = await _read_marker(store)
            if found != mine:
                raise _foreign(found) from None
        return
    is_ours = found is not None and found.deployment == mine.deployment
    if (is_ours and found is not None and is_served(found)) or (not is_ours and not adopt):
        raise _foreign(found)
    body = mine.encode()
    await store.replace(
        MARKER_KEY, _once(body), checksums_of(body), seen=info, content_type="application/json"
    )


async def _read_marker(store: ObjectStore) -> tuple[Marker | None, ObjectInfo | None]:
    try:
        stream = await store.get(MARKER_KEY)
    except ObjectMissingError:
        return None, None
    data = bytearray()
    try:
        async for chunk in stream.chunks:
            data += chunk
            if len(data) > _MARKER_BYTES_MAX:
                break
    finally:
        await stream.close()
    return Marker.decode(bytes(data)), stream.info


async def _any_key(store: ObjectStore) -> str | None:
    looked = 0
    async for info in store.list():
        if not info.key.startswith(OWN_PREFIX):
            return info.key
        looked += 1
        if looked >= _LISTED_MAX:
            break
    return None


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


def _foreign(found: Marker | None) -> PlaceRefusedError:
    if found is None:
        whose = "a marker that is not readable"
    else:
        whose = f"the marker of {found.replica!r} of deployment {found.deployment}"
    return PlaceRefusedError(
        "foreign_content",
        f"{MARKER_KEY} there is {whose}",
        "choose another bucket or prefix; --adopt takes the place of a deployment that is no more",
    )


def _refusal(error: StoreError) -> PlaceRefusedError:
    if isinstance(error, StoreDeniedError):
        return PlaceRefusedError(
            "credentials_refused",
            f"the store refuses these credentials: {error}",
            "they must be allowed to list, read and write there",
        )
    if isinstance(error, BucketMissingError):
        return PlaceRefusedError("bucket_missing", str(error), error.hint or "create it first")
    return PlaceRefusedError(
        "store_unreachable",
        f"the store did not do what was asked: {error}",
        "is the endpoint right, and reachable from this gateway?",
    )
