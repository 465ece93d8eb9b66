"""Who is asking, and may they? The seam where full identity will come in.

Today: bearer tokens, known by their sha256, each standing for one name that may write everything;
reading public data needs none. Names of administrators may redact and invite as well. A third
party's own token (parties.py) may read its datasets, and speak for its own replica. Callers ask
`principal_of` and `require`, and nothing else, so that tokens of an identity provider, datasets and
grants can come without touching them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
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
# Inviting third parties, and sending them away: for administrators alone.
INVITE: Final = "invite"
# Saying what one's own replica holds: for the party that was invited under its name alone.
REPORT: Final = "report"

# Longer ones are not ours; bounds what is hashed for a stranger.
_TOKEN_CHARS_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from. An empty name is anybody.

    `party` is the replica of a third party, who may read `datasets` and nothing else of ours.
    """

    name: str
    party: str = ""
    datasets: frozenset[DatasetName] = frozenset()


ANYBODY: Final = Principal("")


class Authenticator:
    """Knows tokens. `tokens` maps the sha256 of a token, in hex, to a name.

    `parties` finds the third party behind such a hash.
    """

    def __init__(
        self,
        tokens: dict[str, str],
        admins: Collection[str] = (),
        parties: Callable[[str], Principal | None] = lambda _: None,
    ) -> None:
        self._tokens = tokens
        self._admins = frozenset(admins)
        self._parties = parties

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
        party = self._parties(digest)
        if party is not None:
            return party
        raise _unauthorized("this token is not known")

    def require(self, request: web.Request, action: str, dataset: DatasetName) -> Principal:
        """The principal, if it may do this; raises Problem 401 or 403."""
        principal = self.principal_of(request)
        if self.may(principal, action, dataset):
            return principal
        if principal == ANYBODY:
            raise _unauthorized("this needs a token")
        raise Problem(403, "not_allowed", f"{principal.name} may not {action} here")

    def require_party(self, request: web.Request, name: str) -> Principal:
        """The party whose replica has this name; raises Problem 401 or 403 for everybody else."""
        principal = self.principal_of(request)
        if principal.party == name and name:
            return principal
        if principal == ANYBODY:
            raise _unauthorized("this needs a token")
        raise Problem(403, "not_allowed", f"{principal.name} may not {REPORT} for {name[:50]}")

    def may(self, principal: Principal, action: str, dataset: DatasetName) -> bool:
        """Whether a principal may do something in a dataset."""
        if action == READ and dataset == PUBLIC:
            return True
        if principal.party:
            # First of all: no name that a party has may ever be taken for that of somebody else.
            return action == READ and dataset in principal.datasets
        if action == REPORT:
            return False
        if action in (REDACT, INVITE):
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
