"""Who is asking, and may they? The seam where full identity will come in.

Today: bearer tokens, known by their sha256, each standing for one name that may write everything;
reading public data needs none. Names of administrators may redact as well. Callers ask
`principal_of` and `require`, and nothing else, so that tokens of an identity provider, datasets and
grants can come without touching them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from tidestore.api.problems import Problem
from tidestore.schemas.objects import PUBLIC, DatasetName

WRITE: Final = "write"
READ: Final = "read"
HOOKS: Final = "hooks"
# Seeing why copies fail, and asking for their retry.
OPERATE: Final = "operate"
# Redacting, lifting, and reading who did: for administrators alone.
REDACT: Final = "redact"

# Longer ones are not ours; bounds what is hashed for a stranger.
_TOKEN_CHARS_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from. An empty name is anybody."""

    name: str


ANYBODY: Final = Principal("")


class Authenticator:
    """Knows tokens. `tokens` maps the sha256 of a token, in hex, to a name."""

    def __init__(self, tokens: dict[str, str], admins: Collection[str] = ()) -> None:
        self._tokens = tokens
        self._admins = frozenset(admins)

    def principal_of(self, request: web.Request) -> Principal:
        """Who sends this request; raises Problem 401 for a token that is not known.

        A wrong token is refused even where none is needed: its sender believes to be somebody.
        """
        header = request.headers.get("Authorization")
        if header is None:
            return ANYBODY
        scheme, _, token = header.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > _TOKEN_CHARS_MAX:
            raise _unauthorized("the Authorization header is not a bearer token")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        for known, name in self._tokens.items():
            if hmac.compare_digest(known, digest):
                return Principal(name)
        raise _unauthorized("this token is not known")

    def require(self, request: web.Request, action: str, dataset: DatasetName) -> Principal:
        """The principal, if it may do this; raises Problem 401 or 403."""
        principal = self.principal_of(request)
        if self.may(principal, action, dataset):
            return principal
        if principal == ANYBODY:
            raise _unauthorized("this needs a token")
        raise Problem(403, "not_allowed", f"{principal.name} may not {action} here")

    def may(self, principal: Principal, action: str, dataset: DatasetName) -> bool:
        """Whether a principal may do something in a dataset."""
        if action == READ and dataset == PUBLIC:
            return True
        if action == REDACT:
            return principal.name in self._admins
        return principal != ANYBODY


def _unauthorized(detail: str) -> Problem:
    return Problem(
        401,
        "unauthorized",
        detail,
        hint="send `Authorization: Bearer <token>`; `make run` prints one",
        headers={"WWW-Authenticate": "Bearer"},
    )
