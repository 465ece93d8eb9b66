"""Adding, pausing and retiring replicas: what is examined, and the record that makes it so.

    lock --> read the topic's end --> examine --> mark the place --> make the copies topic
         --> append --> read it back: was somebody else first? --> answer

One change at a time in a gateway. Two gateways may change one replica at once: whoever appends
second sees the other's record between what it had read and its own, writes that one again, so that
compaction keeps it, and refuses its own. See docs/replicas.md for what a death in between leaves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import web

from tidestore.api.fleet import Fleet
from tidestore.api.problems import Problem
from tidestore.api.settings import GatewaySettings
from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.directory import Directory, Known, served
from tidestore.connectors.log import LogWriter
from tidestore.connectors.marker import Marker, PlaceRefusedError, take_place
from tidestore.connectors.places import overlap, refuse_secrets
from tidestore.connectors.provision import provision, topic_ids
from tidestore.connectors.registry import factory_of, make_store
from tidestore.schemas.events import ReplicaRegistered, ReplicaRetired
from tidestore.schemas.filters import EVERYTHING, ReplicaFilter
from tidestore.schemas.objects import MalformedError, ReplicaName

LOGGER: Final = logging.getLogger("tidestore.replicas")

# Every process opens each replica's store; far above what anybody runs, and bounded.
REPLICAS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class NewReplica:
    """What somebody asks to be added."""

    name: ReplicaName
    url: str
    credential: str
    adopt: bool
    filter: ReplicaFilter = EVERYTHING


class ReplicaBook:
    """The replicas as the API changes them. Belongs to the gateway's loop."""

    def __init__(
        self, settings: GatewaySettings, directory: Directory, writer: LogWriter, fleet: Fleet
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._writer = writer
        self._fleet = fleet
        self._lock = asyncio.Lock()

    def known(self) -> dict[str, Known]:
        """Every replica that was ever registered."""
        return self._directory.known()

    async def add(self, new: NewReplica, who: str) -> ReplicaRegistered:
        """Examine a place and register it as a replica; raises Problem, MalformedError."""
        address = StoreAddress.parse(new.url)
        refuse_secrets(new.url, address)
        factory_of(address.scheme)
        self._refuse_unknown(new.filter)
        async with self._lock:
            await self._directory.read_to_end(self._writer)
            self._refuse_taken(new, address)
            before = self._directory.known().get(new.name)
            life = 1 if before is None else before.record.incarnation + 1
            await self._take_place(new, address, life)
            await self._make_topic(new.name, life)
            url, _, options = new.url.partition("?")
            event = ReplicaRegistered(
                new.name, life, url, _now_ms(), options, new.credential, changed_by=who,
                filter=str(new.filter),
            )  # fmt: skip
            placed = await self._append(event, before)
            await self._refuse_overtaken(event, address, placed)
        LOGGER.warning("%s is a replica now, incarnation %d, by %s", new.name, life, who)
        return event

    async def pause(self, name: str, who: str, reason: str, *, is_paused: bool) -> None:
        """Let a replica's workers stand still, or go on; raises Problem."""
        async with self._lock:
            known = await self._served(name)
            record = known.record
            assert isinstance(record, ReplicaRegistered), "served"  # noqa: S101
            if record.is_paused != is_paused:
                event = replace(record, is_paused=is_paused, changed_by=who, reason=reason)
                await self._append(event, known)

    async def retire(self, name: str, who: str, reason: str) -> None:
        """Stop serving a replica; raises Problem. Its objects stay where they are."""
        async with self._lock:
            known = await self._served(name)
            self._refuse_origin(name)
            reason = f"{reason} (by {who})" if reason else f"by {who}"
            event = ReplicaRetired(name, known.record.incarnation, reason, _now_ms())
            await self._append(event, known)
        LOGGER.warning("%s is retired: %s", name, reason)

    async def lost(self, name: str, life: int, who: str, reason: str) -> ReplicaRegistered:
        """Begin a replica's next life, because what it held in this one is gone; raises Problem.

        `life` is the one that is lost: asked a second time, it is another one by then.
        """
        async with self._lock:
            known = await self._served(name)
            self._refuse_origin(name)
            record = known.record
            assert isinstance(record, ReplicaRegistered), "served"  # noqa: S101
            if record.incarnation != life:
                raise Problem(
                    409, "changed_meanwhile",
                    f"{name} is in incarnation {record.incarnation}, not {life}",
                    hint="`tidestore replica ls` says how far it is",
                )  # fmt: skip
            await self._renew_place(name, life + 1)
            await self._make_topic(ReplicaName(name), life + 1)
            event = replace(
                record, incarnation=life + 1, registered_at_ms=_now_ms(), changed_by=who,
                reason=reason,
            )  # fmt: skip
            await self._append(event, known)
        LOGGER.warning("%s is lost (%s), by %s: incarnation %d", name, reason, who, life + 1)
        return event

    def _refuse_origin(self, name: str) -> None:
        origin = self._directory.origin()
        if origin is not None and origin[0] == name:
            raise Problem(
                409, "is_origin", f"{name} is the origin: every write begins there",
                hint="only another replica can be retired, or declared lost",
            )  # fmt: skip

    async def _served(self, name: str) -> Known:
        await self._directory.read_to_end(self._writer)
        known = self._directory.known().get(name)
        if known is None or known.is_retired:
            hint = "one of " + ", ".join(self._fleet.stores)
            raise Problem(404, "unknown_replica", f"no replica {name!r} is served", hint=hint)
        return known

    def _refuse_unknown(self, chosen: ReplicaFilter) -> None:
        """A misspelt dataset would make a replica that stays empty and says that it is complete."""
        unknown = chosen.datasets - {str(name) for name in self._settings.datasets}
        if unknown:
            hint = "one of " + ", ".join(self._settings.datasets)
            raise MalformedError("filter", f"names no dataset {min(unknown)!r}", hint=hint)

    def _refuse_taken(self, new: NewReplica, address: StoreAddress) -> None:
        keyring = self._settings.keyring
        there = served(self._settings.replicas, self._directory.known(), keyring)
        if new.name in there:
            raise Problem(
                409, "name_taken", f"{new.name} is a replica already, at {there[new.name].url}",
                hint="choose another name, or retire that one first",
            )  # fmt: skip
        if len(there) >= REPLICAS_MAX:
            raise Problem(409, "too_many_replicas", f"{REPLICAS_MAX} replicas are the most")
        for item in there.values():
            if overlap(item.address, address):
                raise _overlaps(str(item.name), item.url)
        for item in self._settings.replicas:
            if item.name == new.name:
                # The file's address would be used everywhere, whatever is registered here.
                raise Problem(
                    409, "configured", f"{new.name} is in the configuration file, and retired",
                    hint="take it out of every process' file first, or give it its next "
                    "incarnation there",
                )  # fmt: skip

    async def _take_place(self, new: NewReplica, address: StoreAddress, life: int) -> None:
        source = self._settings.keyring.source(new.credential)
        if new.credential:
            hint = f"write credentials/{new.credential}.toml beside the gateway's tidestore.toml"
            if source is None:
                raise MalformedError("credential", "has not the form of a name", hint=hint)
            try:
                source.read()
            except MalformedError as error:
                raise Problem(422, "credential_unknown", error.reason, hint=hint) from None
        try:
            await self._mark(new.name, address.keyed(source), life, adopt=new.adopt)
        except PlaceRefusedError as error:
            raise _refused(error) from None

    async def _renew_place(self, name: str, life: int) -> None:
        """Mark the place of a replica that is served for its next life, whatever is left there."""
        there = served(self._settings.replicas, self._directory.known(), self._settings.keyring)
        address = there[name].address
        try:
            try:
                await self._mark(name, address, life, adopt=False)
            except PlaceRefusedError as error:
                if error.code != "not_empty":
                    raise
                # No marker, and objects that may be ours: whatever is there will be proved.
                await self._mark(name, address, life, adopt=True)
        except PlaceRefusedError as error:
            raise _refused(error) from None

    async def _mark(self, name: str, address: StoreAddress, life: int, *, adopt: bool) -> None:
        """Examine and mark a place. Raises PlaceRefusedError."""
        topic = self._settings.topics.replicas
        ids = await asyncio.to_thread(topic_ids, self._settings.kafka, [topic])
        known = self._directory.known()

        def is_served(marker: Marker) -> bool:
            about = known.get(marker.replica)
            return (
                marker.replica != name
                and about is not None
                and not about.is_retired
                and about.record.incarnation == marker.incarnation
            )

        store = make_store(name, address)
        try:
            await take_place(store, Marker(ids[topic], name, life), is_served, adopt=adopt)
        finally:
            await store.close()

    async def _make_topic(self, name: ReplicaName, life: int) -> None:
        topics = self._settings.topics
        mine = topics.copies(name, life)
        specs = [spec for spec in topics.specs([(name, life)], []) if spec.name == mine]
        await provision(self._settings.kafka, specs, replication=topics.replication)

    async def _append(self, event: ReplicaRegistered | ReplicaRetired, before: Known | None) -> int:
        """Append a change to what was known before; raises Problem when somebody else was first."""
        topic = self._settings.topics.replicas
        placed = await self._writer.append(topic, 0, event.name, event)
        await self._directory.reached(placed.offset)
        now = self._directory.known()[event.name]
        if now.offset != placed.offset:
            raise _overtaken(event.name)  # whoever wrote after us has seen ours, and says so
        if now.before is not None and now.before_offset != (before.offset if before else None):
            await self._writer.append(topic, 0, event.name, now.before)
            raise _overtaken(event.name)
        return placed.offset

    async def _refuse_overtaken(
        self, event: ReplicaRegistered, address: StoreAddress, offset: int
    ) -> None:
        """Another gateway may have registered an overlapping place meanwhile: the earlier stays."""
        known = self._directory.known()
        for item in served(self._settings.replicas, known, self._settings.keyring).values():
            about = known.get(item.name)
            is_earlier = about is not None and about.offset < offset
            if item.name != event.name and is_earlier and overlap(item.address, address):
                gone = ReplicaRetired(
                    event.name, event.incarnation, f"overlaps {item.name}", _now_ms()
                )
                await self._writer.append(self._settings.topics.replicas, 0, event.name, gone)
                raise _overlaps(str(item.name), item.url)


REPLICA_BOOK: Final = web.AppKey("replica_book", ReplicaBook)


def _overlaps(name: str, url: str) -> Problem:
    return Problem(
        409,
        "replica_overlaps",
        f"this place and that of {name}, {url}, lie in one another",
        hint="two prefixes side by side are two replicas; the same one is not",
    )


def _refused(error: PlaceRefusedError) -> Problem:
    status = 409 if error.code in ("foreign_content", "not_empty") else 422
    return Problem(status, error.code, str(error), hint=error.hint)


def _overtaken(name: str) -> Problem:
    return Problem(
        409,
        "changed_meanwhile",
        f"somebody else changed {name} at the same moment; theirs stands",
        hint="look at it with `tidestore replica ls`, then ask again",
    )


def _now_ms() -> int:
    return int(time.time() * 1000)
