"""connectors/addresses.py: a stranger's URL never leads inside; and secrets that do not print."""

from __future__ import annotations

import pytest

from tidestore.connectors.addresses import PORTS, AddressGuard
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.schemas.objects import MalformedError

REFUSED = [
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "203.0.113.5", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "192.88.99.1", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1",
    "2002:7f00:1::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
    "fec0::1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("host", REFUSED)
def test_an_address_that_leads_inside_is_refused(host: str) -> None:
    """Goal: no SSRF. Method: private, special, mapped and translated addresses."""
    assert "not a public address" in AddressGuard().refusal(host, 443)
    with pytest.raises(MalformedError, match="may not be called") as caught:
        AddressGuard().check(host, 443)
    assert "operator" in caught.value.hint


@pytest.mark.parametrize("host", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
@pytest.mark.parametrize("port", sorted(PORTS))
def test_a_public_web_server_may_be_called(host: str, port: int) -> None:
    """Goal: hooks work. Method: public addresses on each port of the web."""
    assert AddressGuard().refusal(host, port) == ""
    AddressGuard().check(host, port)


@pytest.mark.parametrize("port", [0, 22, 25, 5432, 9092, 65_535])
def test_other_ports_are_refused(port: int) -> None:
    """Goal: a hook talks to no database. Method: ports of other services."""
    assert "is none of 80, 443" in AddressGuard().refusal("8.8.8.8", port)


@pytest.mark.parametrize("host", ["", "example.org", "1.2.3", "0x7f.1", "2130706433", "::g"])
def test_what_is_no_address_is_refused(host: str) -> None:
    """Goal: no guess of a resolver. Method: names and odd spellings of loopback."""
    assert "is no address" in AddressGuard().refusal(host, 443)


def test_an_operator_may_allow_networks_on_any_port() -> None:
    """Goal: local mode and site networks. Method: inside and outside of what is allowed."""
    guard = AddressGuard(("127.0.0.0/8", "fd00::/8"))
    assert guard.refusal("127.0.0.1", 9_999) == ""
    assert guard.refusal("::ffff:127.0.0.1", 9_999) == ""
    assert guard.refusal("fd12::1", 1) == ""
    assert guard.refusal("10.0.0.1", 443)
    assert guard.refusal("::1", 443)


def test_a_secret_shows_in_no_text() -> None:
    """Goal: no secret in a log. Method: every way to make text of it and of its holder."""
    secret = Secret("hunter2")
    address = StoreAddress.parse("s3://b", {"secret_key": secret})
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>30}", repr(address)):
        assert "hunter2" not in text
    assert (secret.reveal(), address.secret("secret_key"), address.secret("x")) == (
        "hunter2",
        "hunter2",
        "",
    )
    assert (bool(secret), bool(Secret(""))) == (True, False)
    assert repr(Secret("")) == "Secret(empty)"
    assert secret == Secret("hunter2") != Secret("other")
    assert secret != "hunter2"
    assert len({secret, Secret("hunter2")}) == 1


@pytest.mark.parametrize(
    ("url", "native"),
    [
        ("s3://bucket", "s3://bucket/k"),
        ("s3://bucket/", "s3://bucket/k"),
        ("gs://bucket/a/b/?endpoint=http://x&empty=", "gs://bucket/a/b/k"),
        ("file:///data/replica", "file:///data/replica/k"),
    ],
)
def test_a_native_url_is_the_clouds_own(url: str, native: str) -> None:
    """Goal: a key can be pasted into the cloud's own tool. Method: with and without prefix."""
    address = StoreAddress.parse(url)
    assert address.native_url("k") == native
    if "?" in url:
        assert address.options == {"endpoint": "http://x", "empty": ""}
