"""The replicas that this gateway serves, made equal to the topic whenever that changes.

    replicas --Directory--> apply: stores, the index' topics, whoever wants to know

One fleet per gateway; `stores` and `lives` are the same two dicts for as long as it runs, so that
every handler sees a change at its next look. What an old store is still reading from goes on: it
is closed with the gateway. Killed half way: the next start applies everything anew.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Final

from tidestore.api.settings import GatewaySettings
from tidestore.connectors.directory import Directory, Served, served
from tidestore.connectors.layers import StoreMetrics
from tidestore.connectors.registry import make_store
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view import View
from tidestore.schemas.objects import MalformedError

LOGGER: Final = logging.getLogger("tidestore.replicas")


class Fleet:
    """Stores and lives by name, in the order of preference for reading."""

    def __init__(
        self,
        settings: GatewaySettings,
        directory: Directory,
        metrics: StoreMetrics,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._metrics = metrics
        self._stack = stack
        self._on_change: Callable[[], None] = lambda: None
        self._index: View | None = None
        self.stores: dict[str, ObjectStore] = {}
        self.lives: dict[str, Served] = {}
        self.apply()

    @property
    def copies(self) -> dict[str, str]:
        """The copies topic of each life, and its replica."""
        topics = self._settings.topics
        return {
            topics.copies(item.name, item.incarnation): str(item.name)
            for item in self.lives.values()
        }

    @property
    def followed(self) -> list[str]:
        """The topics of the index."""
        topics = self._settings.topics
        about = [topics.redactions, topics.replicas, topics.objectives]
        return [*about, topics.log, *self.copies]

    def attach(self, index: View, on_change: Callable[[], None]) -> None:
        """From now on apply every change, also to the index. Called once."""
        self._index, self._on_change = index, on_change
        self._directory.listen(self.apply)
        self.apply()  # what changed since the fleet was made

    def apply(self) -> None:
        """Make everything equal to what the topic says now."""
        wanted = served(self._settings.replicas, self._directory.known(), self._settings.keyring)
        for name in self.stores.keys() - wanted.keys():
            LOGGER.warning("%s is not served any more", name)
            del self.stores[name], self.lives[name]
        for name, item in wanted.items():
            before = self.lives.get(name)
            if before is None or before.address.place != item.address.place:
                self._open(name, item)
            if name in self.stores:
                self.lives[name] = item
        if self._index is not None:
            self._index.follow(self.followed)
            self._on_change()

    def _open(self, name: str, item: Served) -> None:
        try:
            store = make_store(name, item.address, self._metrics)
        except MalformedError as error:
            # A scheme of a newer release, a client that refuses to be made without credentials:
            # this gateway cannot read from there, and all else goes on.
            LOGGER.error("%s cannot be served here: %s", name, error)
            return
        self._stack.push_async_callback(store.close)
        self.stores[name] = store
