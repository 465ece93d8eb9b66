"""What lies on a replica beside its objects: every key and prefix under `.tidestore/`, named once.

    .tidestore/replica.json         whose replica this is (connectors/marker.py)
    .tidestore/probe writable room  what a probe asks for (connectors/probes.py)
    .tidestore/tmp/...              unfinished writes of a folder (connectors/folder.py)
    .tidestore/canary/...           what tells that the replica is reached (streams/canary.py)
    .tidestore/kept/...             records of the state topics (schemas/kept.py)
    .tidestore/redacted/<key>       redacted, within its grace (streams/removal.py)
    .tidestore/damaged/<key>@<etag>     bad bytes, kept before their repair (connectors/damage.py)
    .tidestore/quarantine/<key>@<etag>  what nobody knows, moved aside (streams/mending.py)

No dataset's name has a dot, so no object's key can begin so, and no policy of ours opens it.
"""

from __future__ import annotations

from typing import Final

from tidestore.schemas.objects import ObjectKey

OWN_FOLDER: Final = ".tidestore"
OWN_PREFIX: Final = f"{OWN_FOLDER}/"
KEPT_PREFIX: Final = f"{OWN_PREFIX}kept/"
REDACTED_PREFIX: Final = f"{OWN_PREFIX}redacted/"
DAMAGED_PREFIX: Final = f"{OWN_PREFIX}damaged/"
QUARANTINE_PREFIX: Final = f"{OWN_PREFIX}quarantine/"
CANARY_PREFIX: Final = f"{OWN_PREFIX}canary/"

MARKER_KEY: Final = ObjectKey(f"{OWN_PREFIX}replica.json")
PROBE_KEY: Final = ObjectKey(f"{OWN_PREFIX}probe")
WRITE_KEY: Final = ObjectKey(f"{OWN_PREFIX}writable")
ROOM_KEY: Final = ObjectKey(f"{OWN_PREFIX}room")


def redacted_key(key: str) -> ObjectKey:
    """Where a redacted object lies within its grace."""
    return ObjectKey(f"{REDACTED_PREFIX}{key}")


def damaged_key(key: str, etag: str) -> ObjectKey:
    """Where bad bytes are kept, told from other bad bytes of the same key by their ETag."""
    return ObjectKey(f"{DAMAGED_PREFIX}{key}@{etag}")


def quarantine_key(key: str, etag: str) -> ObjectKey:
    """Where an object lies that the log does not know."""
    return ObjectKey(f"{QUARANTINE_PREFIX}{key}@{etag}")
