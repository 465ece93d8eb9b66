"""Credentials by name: files beside tidestore.toml, read again when they change.

credentials/ceph.toml      access_key_id = "env:CEPH_ID"
                           secret_access_key = "file:ceph.secret"   (relative to its folder)
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tidestore.connectors.credentials import CredentialSource, Secret
from tidestore.schemas.objects import MalformedError

# No dot and no slash: a name from the topic must not lead out of the folder.
CREDENTIAL_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
# A service account's key is the largest there is, at some 2 KiB.
_FILE_BYTES_MAX: Final = 64 * 1024


class References:
    """Secrets named by references: "env:NAME", "file:PATH" or "plain:TEXT"."""

    def __init__(
        self, references: Mapping[str, str], folder: Path, environ: Mapping[str, str]
    ) -> None:
        self._references = dict(references)
        self._folder = folder
        self._environ = environ

    @property
    def has_files(self) -> bool:
        """Whether any of them can change while a process runs."""
        return any(reference.startswith("file:") for reference in self._references.values())

    def read(self) -> dict[str, Secret]:
        """See CredentialSource."""
        return {name: self._secret(name, text) for name, text in self._references.items()}

    def stamp(self) -> object:
        """See CredentialSource."""
        return tuple(
            _stamp(self._folder / text.removeprefix("file:"))
            for text in self._references.values()
            if text.startswith("file:")
        )

    def _secret(self, name: str, reference: str) -> Secret:
        kind, _, rest = reference.partition(":")
        if kind == "plain":
            return Secret(rest)
        if kind == "env" and rest in self._environ:
            return Secret(self._environ[rest])
        if kind == "file":
            return Secret(_text(self._folder / rest).strip())
        reason = f"the environment has no variable {rest}" if kind == "env" else "is no reference"
        raise MalformedError(
            f"credential {name}", reason, hint='write "env:NAME", "file:PATH" or "plain:TEXT"'
        )


class CredentialFile:
    """One file of references."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._inner: References | None = None

    def read(self) -> dict[str, Secret]:
        """See CredentialSource."""
        try:
            document = tomllib.loads(_text(self._path))
        except tomllib.TOMLDecodeError as error:
            raise MalformedError("credential", f"{self._path}: {error}") from None
        references = {name: str(value) for name, value in document.items()}
        self._inner = References(references, self._path.parent, self._environ)
        return self._inner.read()

    def stamp(self) -> object:
        """See CredentialSource."""
        return _stamp(self._path), self._inner.stamp() if self._inner is not None else None


class FileKeyring:
    """The credentials in a folder: `NAME.toml` each."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ

    def source(self, name: str) -> CredentialSource | None:
        """See Keyring. A file that is not there yet is one that may come."""
        if not CREDENTIAL_NAME.fullmatch(name):
            return None
        return CredentialFile(self._folder / f"{name}.toml", self._environ)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            return opened.read(_FILE_BYTES_MAX).decode("utf-8")
    except OSError as error:
        raise MalformedError("credential", f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MalformedError("credential", f"{path} is not UTF-8") from None


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)
