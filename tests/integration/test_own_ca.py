"""S3 on one's own premises: a certificate that a CA of one's own has signed, and a region."""

from __future__ import annotations

import ipaddress
import secrets
import ssl
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import Servers
from tests.servers.processes import Process, free_port
from tests.servers.stores import StoreServer, find_binary
from tests.world import random_body
from tidestore.connectors.errors import StoreUnreachableError
from tidestore.connectors.registry import make_store
from tidestore.local.readback import ReplicaPlace, read_replica
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.objects import PUBLIC, blob_key

pytestmark = pytest.mark.integration


def write_certificates(folder: Path) -> Path:
    """A CA, and a certificate of 127.0.0.1 as MinIO wants to find it; the CA's file."""
    now, day = datetime.now(UTC), timedelta(days=1)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def named(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def begun(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(named(subject)).issuer_name(named("our CA"))
            .public_key(public).serial_number(x509.random_serial_number())
            .not_valid_before(now - day).not_valid_after(now + day)
        )  # fmt: skip

    is_ca = x509.BasicConstraints(ca=True, path_length=None)
    ca = begun("our CA", ca_key.public_key()).add_extension(is_ca, critical=True)
    host = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    mine = begun("127.0.0.1", key.public_key()).add_extension(host, critical=False)
    pem = serialization.Encoding.PEM
    folder.mkdir(parents=True)
    signed = ca.sign(ca_key, hashes.SHA256()), mine.sign(ca_key, hashes.SHA256())
    (folder / "ca.pem").write_bytes(signed[0].public_bytes(pem))
    certs = folder / "certs"
    certs.mkdir()
    (certs / "public.crt").write_bytes(signed[1].public_bytes(pem))
    plain = serialization.NoEncryption()
    text = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (certs / "private.key").write_bytes(text)
    return folder / "ca.pem"


@pytest.fixture
def server(servers: Servers, tmp_path: Path) -> Iterator[StoreServer]:
    """MinIO behind TLS, in the region `berlin`."""
    servers.get("minio")  # skips, and counts it, where there is none
    binary = find_binary("minio")
    assert binary is not None
    ca = write_certificates(tmp_path / "tls")
    port, key_id, secret = free_port(), secrets.token_hex(8), secrets.token_hex(16)
    endpoint = f"https://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            with urllib.request.urlopen(
                f"{endpoint}/minio/health/ready",
                context=ssl.create_default_context(cafile=str(ca)),
                timeout=2,
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    process = Process(
        "minio-tls",
        [
            binary, "server", "--quiet", "--address", f"127.0.0.1:{port}",
            "--certs-dir", str(tmp_path / "tls" / "certs"), str(tmp_path / "data"),
        ],
        tmp_path / "minio.log",
        environ={
            "MINIO_ROOT_USER": key_id, "MINIO_ROOT_PASSWORD": secret, "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off", "MINIO_SITE_REGION": "berlin",
        },
        is_ready=is_ready,
    )  # fmt: skip
    process.start()
    yield StoreServer(
        "minio", "s3", endpoint, process, {"access_key_id": key_id, "secret_access_key": secret}
    )
    process.end()


async def test_a_server_with_a_certificate_of_ones_own_ca_is_a_replica_like_any_other(
    server: StoreServer, tmp_path: Path
) -> None:
    """Goal: on-premise S3 over TLS. Method: both clients of the store, and Amazon's own, with `ca`.

    Without the CA's file nothing is read from the server, by whichever client.
    """
    bare = server.new_url("own", "deep") + "&region=berlin"
    url = f"{bare}&ca={tmp_path / 'tls' / 'ca.pem'}"
    body = random_body(100_000)
    sums = checksums_of(body)
    key = blob_key(PUBLIC, sums.sha256)
    store = make_store("own", server.address(url))
    try:
        await store.open()
        put = await store.put_if_absent(key, body, sums, content_type="x/y")
        assert put.size == len(body)
        stream = await store.get(key)
        assert b"".join([chunk async for chunk in stream.chunks]) == body
    finally:
        await store.close()
    held = read_replica(ReplicaPlace("own", url, server.credentials), lambda _: None)
    assert held == {key: (len(body), sums.sha256)}
    stranger = make_store("own", server.address(bare))
    try:
        with pytest.raises(StoreUnreachableError):
            await stranger.open()
        with pytest.raises(StoreUnreachableError):
            await stranger.head(key)
    finally:
        await stranger.close()
