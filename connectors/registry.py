"""From a replica's URL to its store: the one place that knows which schemes there are.

Adapters are imported only when asked for: each brings a large library, and a worker needs two.
A scheme that is not built in is looked for among the entry points `tidestore.connectors`, so an
adapter can live in a package of its own (docs/add-a-replica.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import unquote

from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.edges import Edge
from tidestore.connectors.layers import (
    LimitedStore,
    MeasuredStore,
    RetryingStore,
    StoreMetrics,
)
from tidestore.connectors.rotation import RotatingStore
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.throttle import ThrottledStore
from tidestore.schemas.objects import MalformedError

StoreFactory = Callable[[str, StoreAddress], ObjectStore]

_BUILT_IN = {
    "s3": ("tidestore.connectors.s3", "S3Store"),
    "gs": ("tidestore.connectors.gcs", "GcsStore"),
    "az": ("tidestore.connectors.azure", "AzureStore"),
}
# Schemes whose library is not installed with every tidestore, and the extra that brings it.
_EXTRAS = {"az": "azure"}
# Enough to keep a store on the same machine busy; connections cost memory on both ends.
CALLS_MAX = 64
# Google's says in a paragraph that it has found no credentials.
_REASON_CHARS_MAX = 300


def _folder(name: str, address: StoreAddress) -> ObjectStore:
    from tidestore.connectors.folder import FolderStore  # noqa: PLC0415  see module docstring

    return FolderStore(name, Path("/") / unquote(address.prefix))


def _memory(name: str, address: StoreAddress) -> ObjectStore:
    del address
    from tidestore.connectors.memory import MemoryStore  # noqa: PLC0415

    return MemoryStore(name)


def _built_in(scheme: str) -> StoreFactory:
    module, attribute = _BUILT_IN[scheme]
    try:
        factory: StoreFactory = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(scheme)
        if extra is None:
            raise
        raise MalformedError(
            "replica url", f"{scheme}:// needs {error.name}", hint=f"install tidestore[{extra}]"
        ) from error
    return factory


def check_scheme(scheme: str) -> None:
    """Whether there is an adapter for a URL scheme, without importing it; raises MalformedError."""
    if scheme not in ("file", "memory", *_BUILT_IN):
        factory_of(scheme)


def factory_of(scheme: str) -> StoreFactory:
    """The factory for a URL scheme; raises MalformedError."""
    if scheme == "file":
        return _folder
    if scheme == "memory":
        return _memory
    if scheme in _BUILT_IN:
        return _built_in(scheme)
    for point in entry_points(group="tidestore.connectors", name=scheme):
        found: StoreFactory = point.load()
        return found
    known = sorted([*_BUILT_IN, "file", "memory"])
    raise MalformedError(
        "replica url", f"has the unknown scheme {scheme!r}", hint="one of " + ", ".join(known)
    )


def make_store(
    name: str,
    address: StoreAddress,
    metrics: StoreMetrics | None = None,
    edge: Edge | None = None,
) -> ObjectStore:
    """A store with all its layers, not yet opened; raises MalformedError.

    `edge` tells how it goes.
    """
    factory = factory_of(address.scheme)
    store: ObjectStore
    try:
        if address.source is None:
            store = factory(name, address)
        else:
            store = RotatingStore(
                lambda found: factory(name, replace(address, credentials=found)),
                address.credentials,
                address.source,
            )
    except MalformedError:
        raise
    except Exception as error:
        # The clouds' clients look at options and credentials when they are made, and raise what
        # they like; an address may come from anybody who may add a replica.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_REASON_CHARS_MAX]
        hint = "look at its options and credentials"
        raise MalformedError("replica url", f"cannot be used: {reason}", hint=hint) from error
    store = ThrottledStore(store, edge or Edge(name), calls_max=CALLS_MAX)
    store = LimitedStore(RetryingStore(store), calls_max=CALLS_MAX)
    return MeasuredStore(store, metrics) if metrics else store
