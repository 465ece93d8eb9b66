"""Secrets that do not print, and where a store lies."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from tidestore.schemas.objects import MalformedError

LOGGER: Final = logging.getLogger("tidestore.credentials")


class Secret:
    """A text that is never shown: not by print, a log, an exception or a debugger's view."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; call it only where a library needs it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)" if self._text else "Secret(empty)"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class CredentialSource(Protocol):
    """Where the secrets of one store are read, now and again after they were rotated."""

    def read(self) -> dict[str, Secret]:
        """The secrets by name, as they are now; raises MalformedError."""
        ...

    def stamp(self) -> object:
        """Another value when what `read` returns may have changed. Quick: a look at the files."""
        ...


class Keyring(Protocol):
    """The credentials that this process can read, by name."""

    def source(self, name: str) -> CredentialSource | None:
        """Where a credential is read; None when there is none of this name, or no name."""
        ...


class NoKeyring:
    """For who needs no credentials: a feeds worker only writes down addresses."""

    def source(self, name: str) -> CredentialSource | None:
        """See Keyring."""
        del name
        return None


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A replica's URL taken apart: scheme://bucket/prefix?option=value, and its credentials."""

    scheme: str
    bucket: str
    prefix: str
    options: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, Secret] = field(default_factory=dict)
    # Where the credentials are read again; None when they never change.
    source: CredentialSource | None = field(default=None, compare=False, repr=False)

    @classmethod
    def parse(cls, url: str, credentials: dict[str, Secret] | None = None) -> StoreAddress:
        """Take a URL apart. Options are checked by the adapter, which alone knows them."""
        parts = urlsplit(url)
        return cls(
            scheme=parts.scheme,
            bucket=parts.netloc,
            prefix=parts.path.strip("/"),
            options=dict(parse_qsl(parts.query, keep_blank_values=True)),
            credentials=credentials or {},
        )

    def keyed(self, source: CredentialSource | None) -> StoreAddress:
        """The same place, with the credentials of a source.

        One that cannot be read just now leaves the store without: its calls fail with what the
        store says to that, until the source is mended.
        """
        if source is None:
            return self
        try:
            credentials = source.read()
        except MalformedError as error:
            LOGGER.error("%s", error)
            credentials = {}
        return replace(self, credentials=credentials, source=source)

    @property
    def place(self) -> tuple[str, str, str, tuple[tuple[str, str], ...]]:
        """Everything but the credentials, to compare."""
        return self.scheme, self.bucket, self.prefix, tuple(sorted(self.options.items()))

    def native_url(self, key: str) -> str:
        """The address of a key in the cloud's own words: s3://..., gs://..., file://..."""
        place = f"{self.bucket}/{self.prefix}".rstrip("/")
        return f"{self.scheme}://{place}/{key}"

    def secret(self, name: str) -> str:
        """A credential by name, or "" when there is none."""
        held = self.credentials.get(name)
        return held.reveal() if held else ""
