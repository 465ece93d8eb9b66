"""The rule of this folder holds."""

from __future__ import annotations

import socket

import pytest
import pytest_socket


def test_a_unit_test_cannot_open_a_socket() -> None:
    """Goal: unit tests stay units. Method: try to open one."""
    # The plugin warns as it raises; a warning is an error here, and comes first.
    with pytest.raises((pytest_socket.SocketBlockedError, UserWarning), match="tried to use"):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)
