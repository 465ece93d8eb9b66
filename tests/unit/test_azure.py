"""Azure without a server: errors, block names, addresses, credentials and links."""

from __future__ import annotations

import hashlib
import sys
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from azure.core import exceptions as azure
from obstore.exceptions import GenericError

from tidestore.connectors.azure_access import AzureAccess
from tidestore.connectors.azure_errors import translate_azure, translate_obstore
from tidestore.connectors.azure_upload import block_name
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.parts import AZURE_LIMITS
from tidestore.connectors.registry import factory_of
from tidestore.schemas.objects import MalformedError

KEY = {"account_key": Secret("a2V5")}


def _answer(status: int, code: str = "", **headers: str) -> azure.HttpResponseError:
    error = azure.HttpResponseError("said so")
    error.status_code = status
    given: Any = error
    given.error_code = code
    given.response = SimpleNamespace(headers=headers)
    return error


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (_answer(404, "BlobNotFound"), "missing"),
        (_answer(404, "ContainerNotFound"), "bucket"),
        (_answer(409, "BlobAlreadyExists"), "exists"),
        (_answer(412, "ConditionNotMet"), "exists"),
        (_answer(412, "LeaseIdMissing"), "auth"),
        (_answer(409, "BlobImmutableDueToPolicy"), "auth"),
        (_answer(409, "BlobArchived"), "fault"),
        (_answer(403, "AuthenticationFailed"), "auth"),
        (_answer(400, "Md5Mismatch"), "checksum"),
        (_answer(400, "InvalidHeaderValue"), "fault"),
        (_answer(503, "ServerBusy"), "throttled"),
        (_answer(400, "InvalidBlockList"), "throttled"),
        (_answer(500, "OperationTimedOut"), "network"),
        (_answer(500, "InternalError"), "fault"),
        (_answer(404), "missing"),
        (azure.ServiceRequestError("x"), "network"),
        (azure.ServiceResponseError("x"), "network"),
        (azure.IncompleteReadError("x"), "network"),
        (azure.DecodeError("x"), "network"),
        (azure.ClientAuthenticationError("x"), "auth"),
        (aiohttp.ClientPayloadError("x"), "network"),
        (TimeoutError("x"), "network"),
        (ValueError("x"), "fault"),
    ],
)
def test_errors_of_azures_library_have_their_class(error: Exception, word: str) -> None:
    """Goal: a lease is no existing object. Method: codes, statuses without, and no answer."""
    found = translate_azure("put", "az", "k", error)
    assert (found.error_class, found.operation, found.store, found.key) == (word, "put", "az", "k")
    if word in {"auth", "bucket"}:
        assert found.hint


def test_what_an_answer_asks_to_wait_is_told() -> None:
    """Goal: who is throttled knows for how long. Method: an answer with the header, one without."""
    told = translate_azure("put", "az", "k", _answer(503, "ServerBusy", **{"Retry-After": "7"}))
    assert told.retry_after_seconds == 7
    assert translate_azure("put", "az", "k", _answer(503)).retry_after_seconds is None


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (FileNotFoundError("x"), "missing"),
        (FileNotFoundError("<Code>ContainerNotFound</Code>"), "bucket"),
        (GenericError("<Code>ServerBusy</Code>"), "throttled"),
        (GenericError("status code: 500"), "fault"),
        (GenericError("error sending request"), "network"),
    ],
)
def test_errors_of_obstore_have_their_class(error: Any, word: str) -> None:
    """Goal: a text with a status is an answer, one without is none. Method: texts of 0.12."""
    assert translate_obstore("get", "az", "k", error).error_class == word


def test_names_of_blocks_have_one_length_and_tell_number_and_content() -> None:
    """Goal: no two blocks of other content share a name. Method: neighbours and the last one."""
    names = {
        block_name(number, hashlib.md5(body, usedforsecurity=False).digest())
        for number in (1, 2, 255, 256, AZURE_LIMITS.parts_max)
        for body in (b"a", b"b")
    }
    assert len(names) == 10
    assert {len(name) for name in names} == {24}


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("az://box?account=ours", "https://ours.blob.core.windows.net"),
        ("az://box?endpoint=http://localhost:1/ours", "http://localhost:1/ours"),
        ("az://box?account=ours&endpoint=https://b.example/", "https://b.example"),
    ],
)
def test_an_address_names_its_account(url: str, endpoint: str) -> None:
    """Goal: one way to say where. Method: Azure itself, an emulator's path, another host."""
    access = AzureAccess(StoreAddress.parse(url, KEY))
    assert (access.account, access.endpoint) == ("ours", endpoint)
    with pytest.raises(MalformedError):
        AzureAccess(StoreAddress.parse("az://box", KEY))


async def test_both_libraries_get_the_credential_that_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: no other key is picked up. Method: one in the environment, each kind configured."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c3RyYW5nZXI=")
    found = []
    for credentials in (KEY, {"sas_token": Secret("?sig=x")}):
        give = AzureAccess(StoreAddress.parse("az://box?account=a", credentials)).provider()
        assert give is not None
        found.append(await give())
    assert found == [
        {"access_key": "a2V5", "expires_at": None},
        {"sas_token": "sig=x", "expires_at": None},
    ]
    anonymous = AzureAccess(StoreAddress.parse("az://box?account=a", {"anonymous": Secret("1")}))
    assert anonymous.provider() is None
    assert not anonymous.signs_links


async def test_a_signed_link_names_the_address_that_readers_know() -> None:
    """Goal: readers outside of our network can follow it. Method: sign with `link_endpoint`."""
    url = "az://box?endpoint=http://azurite:1/ours&link_endpoint=https://data.example.org"
    access = AzureAccess(StoreAddress.parse(url, KEY))
    link = urlsplit(
        await access.link("public/x", seconds=60, content_type="text/plain", disposition="inline")
    )
    assert (link.scheme, link.netloc, link.path) == ("https", "data.example.org", "/box/public/x")
    query = parse_qs(link.query)
    assert (query["sp"], query["rsct"], query["rscd"]) == (["r"], ["text/plain"], ["inline"])


def test_who_lacks_the_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: no trace of a missing module. Method: take the library away, ask for the scheme."""
    monkeypatch.delitem(sys.modules, "tidestore.connectors.azure", raising=False)
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    with pytest.raises(MalformedError, match=r"needs azure\.storage\.blob") as caught:
        factory_of("az")
    assert caught.value.hint == "install tidestore[azure]"
