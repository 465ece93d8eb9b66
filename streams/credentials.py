"""How Faust signs in to the brokers, out of the settings that librdkafka is given.

One configuration, two clients: what encrypts and proves the one must do so for the other. A setting
that Faust's client cannot follow is refused, because a worker that left it out in silence would
send a password in clear, or trust any broker.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

import faust

from tidestore.connectors.kafka import KafkaSettings, LogRefusedError

# librdkafka's names that are followed here. Others that begin so are refused.
_FOLLOWED: Final = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
    }
)
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


def credentials_of(kafka: KafkaSettings) -> Any:
    """Faust's credentials; None for plain connections. Raises LogRefusedError."""
    security = kafka.security
    # librdkafka speaks in clear unless it is told otherwise, whatever else is set.
    protocol = security.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in _PROTOCOLS:
        raise _refused("security.protocol", f"is none of {', '.join(_PROTOCOLS)}")
    for name in sorted(security):
        is_about_safety = name.startswith(("sasl.", "ssl.", "enable.ssl.", "enable.sasl."))
        if is_about_safety and name not in _FOLLOWED:
            raise _refused(name, "is nothing that workers can follow")
    context = _context(security) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        mechanism = security.get("sasl.mechanism") or security.get("sasl.mechanisms", "")
        if mechanism.upper() not in _MECHANISMS:
            raise _refused("sasl.mechanism", f"is none of {', '.join(_MECHANISMS)}")
        return faust.SASLCredentials(
            username=security.get("sasl.username", ""),
            password=kafka.password.reveal() or security.get("sasl.password", ""),
            ssl_context=context,
            mechanism=mechanism.upper(),
        )
    return faust.SSLCredentials(context) if context is not None else None


def _context(security: dict[str, str]) -> ssl.SSLContext:
    """TLS that checks the broker's certificate and name, as librdkafka does by itself."""
    try:
        context = ssl.create_default_context(cafile=security.get("ssl.ca.location") or None)
        certificate = security.get("ssl.certificate.location")
        if certificate:
            context.load_cert_chain(
                certificate, security.get("ssl.key.location"), security.get("ssl.key.password")
            )
    except OSError as error:  # ssl's own errors among them
        raise _refused("ssl.*", f"cannot be used: {error}") from None
    return context


def _refused(name: str, reason: str) -> LogRefusedError:
    return LogRefusedError(f"kafka.security: {name} {reason}")
