"""Which addresses may be called on behalf of a stranger: the guard against SSRF.

Pure. Checked when a hook is made, to tell its owner, and again at every connect on the address that
is really dialled (webhook.py), because a name may resolve to another one by then.

`ipaddress.is_global` alone lets addresses pass that lead inside: translations and transitions of
IPv4 in IPv6, and ranges that were set aside after it was written. They are named here with their
source, all in the IANA special-purpose registries.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from tidestore.schemas.objects import MalformedError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_REFUSED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "100.64.0.0/10",  # carrier-grade NAT
        "169.254.0.0/16",  # link local: the clouds' metadata services
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",  # benchmarking
        "240.0.0.0/4",  # reserved
        "::/8",  # unspecified, loopback, IPv4-compatible
        "64:ff9b::/96",  # NAT64: IPv4 inside
        "64:ff9b:1::/48",  # local NAT64
        "100::/64",  # discard
        "2001::/23",  # Teredo and other assignments
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: IPv4 inside
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
        "fc00::/7",  # unique local
        "fe80::/10",  # link local
        "fec0::/10",  # site local
    )
)
# Where web servers are; keeps a hook from talking to a mail server or a database.
PORTS: Final = frozenset({80, 443, 8080, 8443})


class AddressGuard:
    """Decides about addresses.

    `allowed` are networks that may be called although they are not public, on any port: a site's
    own, or loopback in local mode.
    """

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        self._allowed = tuple(ipaddress.ip_network(text) for text in allowed)

    def refusal(self, host: str, port: int) -> str:
        """Why an address may not be called; "" when it may. `host` is a numeric address."""
        try:
            address: Address = ipaddress.ip_address(host.split("%", 1)[0])
        except ValueError:
            return f"{host!r} is no address"
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            address = mapped
        if any(_holds(network, address) for network in self._allowed):
            return ""
        if (
            not address.is_global
            or address.is_multicast
            or any(_holds(network, address) for network in _REFUSED)
        ):
            return f"{address} is not a public address"
        if port not in PORTS:
            return f"port {port} is none of " + ", ".join(str(number) for number in sorted(PORTS))
        return ""

    def check(self, host: str, port: int) -> None:
        """Raise MalformedError for an address that may not be called."""
        reason = self.refusal(host, port)
        if reason:
            raise MalformedError(
                "url", f"leads to an address that may not be called: {reason}",
                hint="hooks reach public addresses; the operator may allow more networks",
            )  # fmt: skip


def _holds(network: Network, address: Address) -> bool:
    return network.version == address.version and address in network
