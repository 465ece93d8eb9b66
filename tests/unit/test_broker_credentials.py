"""Workers reach the brokers as safely as everything else does, or say why not."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faust
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tidestore.connectors.credentials import Secret
from tidestore.connectors.kafka import KafkaSettings, LogRefusedError
from tidestore.streams.app import make_app


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate and its key in one file, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "brokers")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "ca.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


async def credentials(security: dict[str, str], folder: Path) -> object:
    """What a worker's Faust app would sign in with."""
    kafka = KafkaSettings("broker:9093", security=security, password=Secret("secret"))
    app = make_app("group", kafka, worker_id="0", session_seconds=10, data_folder=folder)
    return app.conf.broker_credentials


async def test_a_password_is_never_sent_in_clear_where_tls_is_asked_for(
    authority: Path, tmp_path: Path
) -> None:
    """Goal: SASL_SSL means TLS for workers too. Method: look at what Faust is given."""
    found = await credentials(
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "tidestore",
            "ssl.ca.location": str(authority),
        },
        tmp_path,
    )
    assert isinstance(found, faust.SASLCredentials)
    assert found.protocol.value == "SASL_SSL"
    assert (found.username, found.password) == ("tidestore", "secret")
    assert found.mechanism.value == "SCRAM-SHA-512"
    context = found.ssl_context
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.cert_store_stats()["x509_ca"] == 1


async def test_tls_with_a_client_certificate_is_used(authority: Path, tmp_path: Path) -> None:
    """Goal: mutual TLS works, and a file that cannot be read is said. Method: give both."""
    security = {"security.protocol": "SSL", "ssl.certificate.location": str(authority)}
    found = await credentials(security, tmp_path)
    assert isinstance(found, faust.SSLCredentials)
    assert found.protocol.value == "SSL"
    broken = {**security, "ssl.certificate.location": str(tmp_path / "missing.pem")}
    with pytest.raises(LogRefusedError, match=r"ssl\.\*"):
        await credentials(broken, tmp_path)


async def test_plain_connections_need_nothing(tmp_path: Path) -> None:
    """Goal: no TLS unless it is asked for, as librdkafka has it. Method: give nothing."""
    assert await credentials({}, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssl.endpoint.identification.algorithm", "none"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("security.protocol", "SSL_SASL"),
    ],
)
async def test_what_a_worker_cannot_follow_is_refused(
    tmp_path: Path, name: str, value: str
) -> None:
    """Goal: no setting is left out in silence. Method: give one; the error names it."""
    security = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", name: value}
    with pytest.raises(LogRefusedError, match=name.replace(".", r"\.")):
        await credentials(security, tmp_path)
