"""Whether two replicas would lie in one another: the same bucket, prefixes that overlap. Pure."""

from __future__ import annotations

import posixpath
from typing import Final
from urllib.parse import unquote

from tidestore.connectors.credentials import StoreAddress
from tidestore.schemas.objects import MalformedError

# What an adapter's URL never has, and a mistaken one might: secrets that would go onto the topic.
_SECRET_WORDS: Final = ("secret", "password", "token", "account_key", "access_key", "credential")


def overlap(one: StoreAddress, other: StoreAddress) -> bool:
    """Whether a key below one could be a key below the other.

    Two addresses of one server cannot be told from two servers; the marker in the store can.
    """
    if (one.scheme, one.bucket, _server(one)) != (other.scheme, other.bucket, _server(other)):
        return False
    first, second = _parts(one), _parts(other)
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def refuse_secrets(url: str, address: StoreAddress) -> None:
    """Raise MalformedError for a URL that carries credentials: it would be shown to everybody."""
    found = [
        name for name in address.options if any(word in name.lower() for word in _SECRET_WORDS)
    ]
    if "@" in address.bucket or found:
        what = f"the option {found[0]!r}" if found else "credentials before the @"
        raise MalformedError(
            "url", f"holds {what}", hint="name a credential with --credential; see docs/replicas.md"
        )
    if "#" in url or not url.isprintable() or " " in url:
        raise MalformedError("url", "holds a # or what cannot be printed")


def _server(address: StoreAddress) -> str:
    return (
        address.options.get("endpoint", "").rstrip("/").lower()
        + "|"
        + address.options.get("account", "")
    )


def _parts(address: StoreAddress) -> list[str]:
    prefix = address.prefix
    if address.scheme == "file":
        prefix = posixpath.normpath("/" + unquote(prefix)).strip("/")
    return [part for part in prefix.split("/") if part]
