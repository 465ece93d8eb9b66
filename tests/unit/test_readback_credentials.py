"""The independent reader signs in as the replica's configuration says."""

from __future__ import annotations

import json

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth.credentials import AnonymousCredentials
from google.oauth2 import service_account

from tidestore.local.readback import ReplicaPlace, gcs_client, s3_client


def test_gcs_is_read_with_the_configured_account() -> None:
    """Goal: `verify` can read a private bucket. Method: look at the client's credentials."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "my-project",
        "client_email": "reader@my-project.example",
        "token_uri": "https://oauth2.example/token",
        "private_key": pem.decode(),
    }
    place = ReplicaPlace("gcp", "gs://bucket", {"service_account": json.dumps(account)})
    client = gcs_client(place)
    credentials = client._credentials
    assert isinstance(credentials, service_account.Credentials)
    assert credentials.service_account_email == "reader@my-project.example"
    assert client.project == "my-project"
    assert isinstance(
        gcs_client(ReplicaPlace("gcp", "gs://bucket", {"anonymous": "1"}))._credentials,
        AnonymousCredentials,
    )


def test_s3_is_read_with_the_configured_session() -> None:
    """Goal: temporary credentials work too. Method: look at the client's credentials."""
    given = {"access_key_id": "id", "secret_access_key": "secret", "session_token": "token"}
    found = s3_client(ReplicaPlace("aws", "s3://bucket", given))._request_signer._credentials
    assert (found.access_key, found.secret_key, found.token) == ("id", "secret", "token")
