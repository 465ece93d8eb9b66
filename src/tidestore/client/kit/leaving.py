"""Joining and leaving: the place taken and marked, and all of it undone without a trace.

leave: objects erased (if asked for) --> marker --> the store is told --> the folder, with the
       token. Killed in between: leave again; each step that is done already costs nothing.
"""

from __future__ import annotations

from typing import Any, Final

from tidestore.client.api import Client, ClientError
from tidestore.client.kit.state import State
from tidestore.connectors.marker import Marker, take_place
from tidestore.connectors.store import ObjectStore
from tidestore.schemas.objects import ObjectKey
from tidestore.schemas.own_keys import MARKER_KEY

_ERASED_AT_ONCE: Final = 500


async def join(client: Client, store: ObjectStore, state: State, name: str) -> dict[str, Any]:
    """Find out who we are to the store, and take our place; the party's document.

    Raises ClientError, PlaceRefusedError.
    """
    party = await client.get(f"/v1/parties/{name}")
    mine = Marker(party["deployment"], name, party["life"])
    # A marker of this store that bears our name is ours, of an earlier invitation at most.
    await take_place(store, mine, lambda found: found.replica != name, adopt=False)
    known = state.fact("deployment"), state.fact("life")
    if known != ("", "") and known != (party["deployment"], str(party["life"])):
        # Another life: nothing that was said in the earlier one is known to the store any more.
        state.tell_again()
    state.note({"deployment": party["deployment"], "life": str(party["life"])})
    return party


async def leave(
    client: Client, store: ObjectStore, state: State, name: str, *, delete_objects: bool
) -> int:
    """Leave without a trace; how many objects were erased. Raises ClientError, StoreError."""
    erased, after = 0, ""
    while delete_objects and (keys := state.keys(after, _ERASED_AT_ONCE)):
        for key in keys:
            await store.erase(ObjectKey(key))
            erased += 1
        after = keys[-1]
    await store.erase(MARKER_KEY)
    try:
        await client.delete(f"/v1/parties/{name}")
    except ClientError as error:
        if error.status not in (401, 404):  # we were sent away before
            raise
    state.forget()
    return erased
