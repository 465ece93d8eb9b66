"""Unit tests touch nothing outside the process: a test that opens a socket fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_socket


@pytest.fixture(autouse=True)
def _no_sockets() -> Iterator[None]:
    # Event loops wake themselves through a pair of Unix sockets; those lead nowhere.
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()
