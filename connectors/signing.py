"""Signed statements: Ed25519 over canonical JSON, so that anybody can check what we said.

The key in the settings is a text of any form, as long as a good password; the signing key is
derived from it. The public key is shown with each statement and by the API: whoever wants to rely
on it keeps it from a time when it was right.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tidestore.connectors.credentials import Secret
from tidestore.schemas.manifests import canonical_json

_PURPOSE: Final = b"tidestore statements\0"


class Signer:
    """Signs with a secret; without one, signatures are empty."""

    def __init__(self, secret: Secret) -> None:
        self._key: Ed25519PrivateKey | None = None
        if secret:
            seed = hashlib.sha256(_PURPOSE + secret.reveal().encode()).digest()
            self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public_key(self) -> str:
        """The public key in hex, 64 digits; empty when there is none."""
        if self._key is None:
            return ""
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return raw.hex()

    def sign(self, text: str) -> str:
        """The signature of a text in hex."""
        return "" if self._key is None else self._key.sign(text.encode()).hex()


def is_signed(text: str, signature: str, public_key: str) -> bool:
    """Whether the signature is that of the text by the key's owner."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), text.encode())
    except (ValueError, InvalidSignature):
        return False
    return True


def canonical(document: dict[str, Any]) -> str:
    """One spelling for one document: what is signed."""
    return canonical_json(document).decode()
