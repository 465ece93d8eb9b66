"""What tests of the shared store ask of its topics."""

from __future__ import annotations

from tests.world import World
from tidestore.schemas.events import ObjectWritten, PartitionClaimed


def living_keys(world: World) -> set[str]:
    """The objects that the log has now: other tests redact some, and lift some again."""
    records = sorted(world.records("log"), key=lambda record: (record.partition, record.offset))
    newest = {record.key: record.event for record in records}
    return {key for key, event in newest.items() if isinstance(event, ObjectWritten)}


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
