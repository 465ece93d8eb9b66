"""What tests of the shared store ask of its topics."""

from __future__ import annotations

from tests.world import World
from tidestore.connectors.view import Folded
from tidestore.schemas.events import ObjectWritten, PartitionClaimed, RedactionDecided


def living_keys(world: World) -> set[str]:
    """The objects that can be seen now: other tests redact some, and lift some again.

    A decision counts although the log has no word of it yet: a gateway appends that a little later.
    """
    newest = {record.key: record.event for record in _in_order(world, "log")}
    decided = {record.key: record.event for record in _in_order(world, "redactions")}
    gone = {key for key, event in decided.items() if isinstance(event, RedactionDecided)}
    living = {key for key, event in newest.items() if isinstance(event, ObjectWritten)}
    # A decision is on a key, or on a uuid: all that stands before the version.
    return {key for key in living if not {key, key.partition(".")[0]} & gone}


def _in_order(world: World, topic: str) -> list[Folded]:
    return sorted(world.records(topic), key=lambda record: (record.partition, record.offset))


def owners(world: World) -> dict[int, str]:
    """Which gateway claimed each partition of the cursors last."""
    return {
        record.partition: record.event.worker
        for record in world.records("cursors")
        if isinstance(record.event, PartitionClaimed)
    }


async def until_shared(world: World) -> None:
    """Wait until both gateways have their share.

    The second one joins a moment after its start; what is under way then is sent again.
    """

    async def both() -> bool:
        return len({owner.split("/")[0] for owner in owners(world).values()}) == 2

    await world.until(both)
