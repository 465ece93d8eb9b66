"""Which gateway rings the hooks of which partition."""

from __future__ import annotations

from tests.world import World
from tidestore.schemas.events import PartitionClaimed


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
