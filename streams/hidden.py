"""What the feed asks about hidden objects: whether one may be seen again, and under which name."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tidestore.connectors.kafka import LogError
from tidestore.connectors.log import LogWriter
from tidestore.connectors.view import View
from tidestore.schemas.events import ObjectWritten
from tidestore.schemas.manifests import read_file_manifest
from tidestore.schemas.objects import Kind, MalformedError, find_key_parts
from tidestore.streams.decisions import find_decision

LOGGER: Final = logging.getLogger("tidestore.feeds")

# As workers wait at their start: the view folds the copies of all replicas beside it.
_READ_SECONDS: Final = 600.0
_PAUSE_SECONDS: Final = 1.0


class Lifts:
    """Tells a lift from the late write of a gateway that was frozen: `redactions` is the truth."""

    def __init__(self, view: View, writer: LogWriter, topic: str) -> None:
        self._view = view
        self._writer = writer
        self._topic = topic

    def is_lifted(self, key: str) -> bool:
        """Whether the key was redacted, and no decision about it stands, as far as is read."""
        decision = find_decision(self._view, key)
        return decision is not None and not decision.is_redacted

    async def read_once(self) -> None:
        """Wait until the view knows all decisions as they are now. Raises LogError."""
        ends = await self._writer.ends(self._topic, [0])
        await self._view.reached(self._topic, ends, timeout_seconds=_READ_SECONDS)

    async def read(self) -> None:
        """Wait until the view knows all decisions as they are now, however long that takes."""
        while True:
            try:
                await self.read_once()
            except LogError as error:
                LOGGER.warning("cannot read redactions yet: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            return


def name_of(event: ObjectWritten) -> str | None:
    """The name that a file's manifest gives it."""
    parts = find_key_parts(event.key)
    if parts is None or parts.kind is not Kind.FILE or event.data is None:
        return None
    try:
        return read_file_manifest(event.data).name
    except MalformedError:
        return None
