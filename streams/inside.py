"""Copies that the provider of two replicas can make itself, without the bytes passing the worker.

    another replica, on the same server, with the same credentials --> have it copied there
       | none, or it could not be done or proved
       v
    the bytes are streamed (streams/sources.py)

Which replicas these are is told by their addresses alone. That it works is found out by trying, and
that it does not is remembered for a while: nothing durable, a worker that starts tries anew.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import ObjectMissingError, UnsupportedError
from tidestore.connectors.inside import CopiesInside, can_copy_inside
from tidestore.connectors.store import ObjectInfo, ObjectStore
from tidestore.streams.records import Wanted

LOGGER: Final = logging.getLogger("tidestore.inside")

# A server that cannot do it does not learn it within minutes; rights may be given meanwhile.
REFUSED_SECONDS: Final = 300.0


class InsideCopies:
    """What one worker's target can have copied. Belongs to the worker's event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._addresses: dict[str, StoreAddress] = {}
        self._refused_until: dict[str, float] = {}

    def use(self, addresses: Mapping[str, StoreAddress]) -> None:
        """These are the replicas, the target among them, from now on."""
        self._addresses = dict(addresses)
        self._refused_until.clear()

    async def copy(
        self, target: ObjectStore, wanted: Wanted, sources: Sequence[ObjectStore]
    ) -> ObjectInfo | None:
        """Have the object copied from the first source that can; None when none can.

        Raises what the target raises: ObjectExistsError among it.
        """
        here = self._addresses.get(target.name)
        if here is None or wanted.sums is None or not isinstance(target, CopiesInside):
            return None
        for name in (store.name for store in sources):
            there = self._addresses.get(name)
            if there is None or not can_copy_inside(there, here):
                continue
            if self._clock() < self._refused_until.get(name, 0.0):
                continue
            try:
                return await target.copy_inside(
                    there, wanted.key, wanted.sums, content_type=wanted.content_type
                )
            except ObjectMissingError:
                continue
            except UnsupportedError as error:
                LOGGER.info("%s does not copy from %s itself: %s", target.name, name, error)
                self._refused_until[name] = self._clock() + REFUSED_SECONDS
        return None
