"""Bytes that only who has the store's key can read, bound to what they belong to.

AES-SIV: what is sealed twice is the same twice, so that two processes that keep one record write
one object. It tells nothing but that two sealed values under one name are equal.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tidestore.connectors.credentials import Secret


class RecordSeal:
    """Closes and opens records that are kept on replicas. Bound to a record's topic and key."""

    def __init__(self, key: Secret) -> None:
        # Another purpose, another key: what seals a hook's secret opens no record, nor the reverse.
        text = b"tidestore kept records\0" + key.reveal().encode()
        self._cipher = AESSIV(hashlib.sha512(text).digest()) if key else None

    @property
    def has_key(self) -> bool:
        """Whether this store has a key at all."""
        return self._cipher is not None

    def close(self, value: bytes, bound_to: str) -> bytes:
        """The sealed form."""
        assert self._cipher is not None, "ask has_key first"  # noqa: S101
        return self._cipher.encrypt(value, [bound_to.encode()])

    def open(self, sealed: bytes, bound_to: str) -> bytes:
        """The value; raises ValueError when it was sealed with another key, or changed."""
        if self._cipher is None:
            raise ValueError("is sealed, and this configuration has no seal_key")
        try:
            return self._cipher.decrypt(sealed, [bound_to.encode()])
        except (InvalidTag, ValueError):
            raise ValueError("was sealed with another key, or has changed") from None
