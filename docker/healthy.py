"""Whether the process of a container does its work; exit code 0 or 1, and one line that says why.

    healthy.py http://127.0.0.1:9000/ready    the server answers 2xx
    healthy.py broker 9092                    Kafka answers a request of its own protocol
    healthy.py                                what entry.py noted about the process

A worker has no port to ask, so Kafka is asked: the worker is a member of its group, and the group
is settled. One that hangs falls out of its group within a session, and is unhealthy then.
"""  # noqa: INP001  a program in an image, not a part of the package

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import urllib.request
from pathlib import Path
from typing import Any

# Below the interval at which the engine asks.
_SECONDS_MAX = 4.0
_NOTE = Path("/run/tidestore/health.json")
_API_VERSIONS = 18


def _check_url(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_SECONDS_MAX) as reply:  # noqa: S310  our own loopback
        return f"{url} answers {reply.status}"


def _check_broker(port: int) -> str:
    """Ask ApiVersions, version 0: length, api key, api version, correlation id, no client id."""
    request = struct.pack(">hhih", _API_VERSIONS, 0, 7, -1)
    with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS_MAX) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        head = connection.recv(10, socket.MSG_WAITALL)
    _, correlation, code = struct.unpack(">iih", head)
    if (correlation, code) != (7, 0):
        raise RuntimeError(f"Kafka answers {code} to {correlation}")
    return "Kafka answers"


def _check_member(note: dict[str, Any]) -> str:
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415  only this image has it

    admin = AdminClient(note["client"])
    asked = admin.describe_consumer_groups([note["group"]], request_timeout=_SECONDS_MAX)
    found = asked[note["group"]].result()
    members = {member.group_instance_id for member in found.members}
    if note["member"] not in members:
        raise RuntimeError(f"{note['member']} is not a member of {note['group']}: {members}")
    if found.state.name != "STABLE":
        raise RuntimeError(f"{note['group']} is {found.state.name}")
    return f"{note['member']} is a member"


def _check(arguments: list[str]) -> str:
    if arguments[:1] == ["broker"]:
        return _check_broker(int(os.environ.get("KAFKA_PORT") or arguments[1]))
    if arguments:
        return _check_url(os.environ.get("HEALTH_URL") or arguments[0])
    note = json.loads(_NOTE.read_text("utf-8"))
    return _check_url(note["url"]) if "url" in note else _check_member(note)


if __name__ == "__main__":
    try:
        sys.stdout.write(_check(sys.argv[1:]) + "\n")
    except Exception as error:  # noqa: BLE001  whatever it is, the answer is "not healthy"
        sys.exit(f"{type(error).__name__}: {error}")
