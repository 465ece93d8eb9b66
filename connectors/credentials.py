"""Secrets that do not print, and where a store lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit


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


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A replica's URL taken apart: scheme://bucket/prefix?option=value, and its credentials."""

    scheme: str
    bucket: str
    prefix: str
    options: dict[str, str] = field(default_factory=dict)
    credentials: dict[str, Secret] = field(default_factory=dict)

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

    def native_url(self, key: str) -> str:
        """The address of a key in the cloud's own words: s3://..., gs://..., file://..."""
        place = f"{self.bucket}/{self.prefix}".rstrip("/")
        return f"{self.scheme}://{place}/{key}"

    def secret(self, name: str) -> str:
        """A credential by name, or "" when there is none."""
        held = self.credentials.get(name)
        return held.reveal() if held else ""
