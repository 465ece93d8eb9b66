"""Sealing of hook secrets: the topic is read by many, the secrets by gateways alone.

AES-256-GCM with a key that all gateways of a store share; the hook's id is bound in, so a sealed
secret cannot be moved to another hook.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tidestore.api.problems import Problem
from tidestore.connectors.credentials import Secret

_NONCE_BYTES: Final = 12


class Seal:
    """Closes and opens secrets. Without a key neither is possible, and hooks are refused."""

    def __init__(self, key: Secret) -> None:
        self._cipher: AESGCM | None = None
        if key:
            digest = hashlib.sha256(b"tidestore hook secrets\0" + key.reveal().encode()).digest()
            self._cipher = AESGCM(digest)

    def close(self, secret: str, hook_id: str) -> bytes:
        """The sealed form; raises Problem 501 when the store has no key for it."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._get().encrypt(nonce, secret.encode(), hook_id.encode())

    def open(self, sealed: bytes, hook_id: str) -> str:
        """The secret; raises ValueError when it was sealed with another key."""
        nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._get().decrypt(nonce, rest, hook_id.encode()).decode()
        except InvalidTag:
            raise ValueError(f"the secret of hook {hook_id} was sealed with another key") from None

    def _get(self) -> AESGCM:
        if self._cipher is None:
            raise Problem(
                501,
                "hooks_not_configured",
                "this store has no key to seal hook secrets with",
                hint='set seal_key = "file:..." under [hooks] in tidestore.toml',
            )
        return self._cipher
