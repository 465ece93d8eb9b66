"""Ports: free ones, kept over restarts so that addresses stay the same."""

from __future__ import annotations

import socket
from typing import Any


class PortError(Exception):
    """A port that was asked for is in use; the text says what to do."""


def is_free(port: int) -> bool:
    """Whether loopback's port can be listened on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_ports(names: list[str], before: dict[str, Any], asked: dict[str, int]) -> dict[str, int]:
    """A port for each name: the asked one, else last time's if it is free, else a free one.

    Raises PortError when an asked one is in use.
    """
    found: dict[str, int] = {}
    held: list[socket.socket] = []
    try:
        for name in names:
            wanted = asked.get(name, 0)
            if wanted:
                if not is_free(wanted):
                    raise PortError(
                        f"port {wanted} ({name}) is in use; end what listens there, or choose"
                        " another with --port"
                    )
                found[name] = wanted
                continue
            last = before.get(name)
            if isinstance(last, int) and last not in found.values() and is_free(last):
                found[name] = last
                continue
            probe = socket.socket()
            probe.bind(("127.0.0.1", 0))
            held.append(probe)  # so that the next one is another
            found[name] = probe.getsockname()[1]
    finally:
        for probe in held:
            probe.close()
    return found
