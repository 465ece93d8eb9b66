"""The two clients of an S3 store, and how the body of a small PUT is proved on its way.

Over TLS, or on this machine, nobody but a fault can change a body between us and the store. There
it goes with a CRC-64/NVME, which S3 compares before it stores anything, and its signature leaves
the body out: a sha256 on both ends costs a third of what a MiB takes (docs/benchmarks.md). Over
plain HTTP to another machine the signature covers the sha256 of the body, which nobody on the way
can forge. `sign_body=1` in a replica's URL asks for that everywhere.

That the right bytes are sent is not shown here: they were hashed when they came, and what S3
answers is compared with all that we know of them (verify.py).

A server on one's own premises: `region` is the name that requests are signed with, `addressing`
says whether the bucket stands in the path (`path`, the default with `endpoint`) or in the host's
name (`virtual`; the default for AWS), `ca` is a PEM file with the certificates of one's own CA,
which each process reads on its own machine when it makes the store. The server's certificate and
name are always checked; there is no switch for that.
"""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from obstore.store import S3Store as ObstoreS3

from tidestore.connectors.credentials import StoreAddress
from tidestore.schemas.objects import MalformedError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from obstore.store import ClientConfig

REQUEST_SECONDS_MAX: Final = 60
_CONNECT_SECONDS_MAX: Final = 5
Addressing = Literal["auto", "path", "virtual"]
# A bundle of all public CAs has some 200 kB.
_CA_BYTES_MAX: Final = 1024 * 1024


def endpoint_of(address: StoreAddress) -> str | None:
    """The server's own address; None for AWS."""
    return address.options.get("endpoint") or None


def addressing_of(address: StoreAddress, endpoint: str | None) -> Addressing:
    """Where the bucket stands; `auto` is as AWS has it. Raises MalformedError."""
    match address.options.get("addressing", ""):
        case "":
            return "path" if endpoint else "auto"
        case "path":
            return "path"
        case "virtual":
            return "virtual"
        case other:
            reason = f"has no addressing {other[:20]!r}"
            raise MalformedError("replica url", reason, hint="path or virtual")


def certificates_of(address: StoreAddress) -> bytes | None:
    """The certificates of one's own CA; None for those of the system. Raises MalformedError."""
    path = address.options.get("ca")
    if not path:
        return None
    try:
        with Path(path).open("rb") as opened:
            found = opened.read(_CA_BYTES_MAX)
    except OSError as error:
        reason = f"names the certificates {path}, which cannot be read: {error.strerror}"
        hint = "ca= is a PEM file that each gateway and each worker has at this path"
        raise MalformedError("replica url", reason, hint=hint) from None
    if b"-----BEGIN CERTIFICATE-----" not in found:
        raise MalformedError("replica url", f"names {path}, which holds no PEM certificate")
    return found


def is_body_signed(address: StoreAddress) -> bool:
    """Whether somebody between us and the store could change a body that is not signed."""
    if address.options.get("sign_body") == "1":
        return True
    endpoint = endpoint_of(address)
    if endpoint is None:
        return False  # AWS is spoken to over TLS
    split = urlsplit(endpoint)
    return split.scheme != "https" and not _is_this_machine(split.hostname or "")


def make_obstore(address: StoreAddress, region: str, *, checks_uploads: bool) -> ObstoreS3:
    """The client for small objects, reads and listings."""
    more: dict[str, Any] = {
        name: address.secret(name)
        for name in ("access_key_id", "secret_access_key", "session_token")
        if address.secret(name)
    }
    is_signed = bool(more)
    endpoint = endpoint_of(address)
    addressing = addressing_of(address, endpoint)
    if endpoint and addressing == "virtual":
        # obstore takes the endpoint as it is: the bucket must stand in it already.
        split = urlsplit(endpoint)
        more["endpoint"] = f"{split.scheme}://{address.bucket}.{split.netloc}"
    elif endpoint:
        more["endpoint"] = endpoint
    if checks_uploads:
        is_body = is_body_signed(address)
        more["checksum_algorithm"] = "sha256" if is_body else "crc64nvme"
        more["unsigned_payload"] = not is_body
    client: ClientConfig = {
        "allow_http": True,
        "timeout": timedelta(seconds=REQUEST_SECONDS_MAX),
        "connect_timeout": timedelta(seconds=_CONNECT_SECONDS_MAX),
    }
    if certificates := certificates_of(address):
        client["root_certificate"] = certificates
    return ObstoreS3(
        address.bucket,
        prefix=address.prefix or None,
        region=region,
        skip_signature=not is_signed,
        virtual_hosted_style_request=addressing != "path",
        client_options=client,
        # RetryingStore does the quick tries; obstore's would not wait as S3 asks. What takes
        # longer is the retry lane's (streams/backoff.py), which does not hold up others.
        retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
        **more,
    )


def make_boto(
    address: StoreAddress, region: str, endpoint: str | None, connections_max: int
) -> S3Client:
    """The client for parts, conditions and signed links."""
    key_id = address.secret("access_key_id")
    config = Config(
        signature_version="s3v4" if key_id else UNSIGNED,
        connect_timeout=_CONNECT_SECONDS_MAX,
        read_timeout=REQUEST_SECONDS_MAX,
        # None of boto's, which hide what a store asks for. Ours: layers.py, s3_upload.py.
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=connections_max,
        s3={"addressing_style": addressing_of(address, endpoint)},
        # Checksums are ours, computed once while the bytes stream by.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=key_id or None,
        aws_secret_access_key=address.secret("secret_access_key") or None,
        aws_session_token=address.secret("session_token") or None,
        verify=address.options.get("ca") or None,
        config=config,
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
