"""api/auth.py: what the token of a third party opens, and what it never does."""

from __future__ import annotations

import hashlib

import pytest
from aiohttp.test_utils import make_mocked_request

from tidestore.api.auth import (
    HOOKS,
    INVITE,
    OPERATE,
    READ,
    REDACT,
    REPORT,
    WRITE,
    Authenticator,
    Principal,
)
from tidestore.api.problems import Problem
from tidestore.schemas.objects import PUBLIC, DatasetName

LAB, OTHER = DatasetName("lab"), DatasetName("other")
# Named as an administrator is: the name must open nothing.
PARTY = Principal("admin", "mirror", frozenset([LAB]))
TOKENS = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("admin", "tester", "mirror")}


def digest_of(name: str) -> str:
    return TOKENS[name]


AUTH = Authenticator(
    {digest_of("admin"): "admin", digest_of("tester"): "tester"},
    ["admin"],
    {digest_of("mirror"): PARTY}.get,
)


@pytest.mark.parametrize("action", [READ, WRITE, HOOKS, OPERATE, REDACT, INVITE, REPORT])
@pytest.mark.parametrize("dataset", [PUBLIC, LAB, OTHER])
def test_a_party_reads_its_datasets_and_does_nothing_else(
    action: str, dataset: DatasetName
) -> None:
    """Goal: an invitation is no key to the store. Method: every action in every dataset."""
    is_granted = action == READ and dataset in (PUBLIC, LAB)
    assert AUTH.may(PARTY, action, dataset) is is_granted


def test_only_an_administrator_invites() -> None:
    """Goal: nobody lets others in. Method: every kind of principal."""
    assert AUTH.may(Principal("admin"), INVITE, PUBLIC)
    assert not AUTH.may(Principal("tester"), INVITE, PUBLIC)
    assert not AUTH.may(Principal(""), INVITE, PUBLIC)


@pytest.mark.parametrize(
    ("token", "name", "status"),
    [("mirror", "mirror", 0), ("mirror", "other", 403), ("mirror", "", 403),
     ("admin", "mirror", 403), ("tester", "mirror", 403), ("stolen", "mirror", 401),
     ("", "mirror", 401), ("", "", 401)],
)  # fmt: skip
def test_a_party_speaks_for_its_own_replica_alone(token: str, name: str, status: int) -> None:
    """Goal: no receipts in somebody else's name. Method: tokens against names of replicas."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = make_mocked_request("POST", "/", headers=headers)
    if not status:
        assert AUTH.require_party(request, name) == PARTY
        return
    with pytest.raises(Problem) as caught:
        AUTH.require_party(request, name)
    assert caught.value.status == status
