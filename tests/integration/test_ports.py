"""local/ports.py with real sockets: addresses stay the same, and a taken port is said."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tidestore.local.ports import PortError, choose_ports, is_free


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_is_listened_on_is_not_free(taken: int) -> None:
    """Goal: no start on a taken port. Method: ask while somebody listens."""
    assert not is_free(taken)


def test_ports_of_last_time_are_kept_and_none_is_given_twice(taken: int) -> None:
    """Goal: addresses stay over restarts. Method: free, taken, doubled, new ones."""
    first = choose_ports(["a", "b", "c"], {}, {})
    assert len(set(first.values())) == 3
    assert choose_ports(["a", "b", "c"], first, {}) == first
    again = choose_ports(["a", "b", "c", "d"], {"a": taken, "b": first["b"], "c": first["b"]}, {})
    assert again["b"] == first["b"]
    assert len({taken, *again.values()}) == 5


def test_a_port_that_was_asked_for_is_given_or_refused_with_the_remedy(taken: int) -> None:
    """Goal: a clear message. Method: ask for a free one and for the taken one."""
    free = choose_ports(["x"], {}, {})["x"]
    assert choose_ports(["gateway"], {"gateway": 1}, {"gateway": free}) == {"gateway": free}
    with pytest.raises(PortError, match=rf"port {taken} \(gateway\) is in use.*--port"):
        choose_ports(["gateway"], {}, {"gateway": taken})
