"""Who we are to Google: a service account's key, the machine's own identity, or nobody."""

from __future__ import annotations

import json

import google.auth
from google.auth.credentials import AnonymousCredentials, Credentials
from google.oauth2 import service_account

from tidestore.connectors.credentials import StoreAddress

# (connect, read) seconds of one request. Reading waits for the next bytes, not for the whole.
TIMEOUT_SECONDS = (5, 60)
_SCOPES = ["https://www.googleapis.com/auth/devstorage.read_write"]


def credentials_of(address: StoreAddress) -> tuple[Credentials, str]:
    """The credentials for a replica's address, and the project that they belong to."""
    project = address.options.get("project", "")
    if address.secret("anonymous") == "1":
        return AnonymousCredentials(), project or "local"
    text = address.secret("service_account")
    if text:
        account = service_account.Credentials.from_service_account_info(
            json.loads(text), scopes=_SCOPES
        )
        return account, project or account.project_id
    found, default_project = google.auth.default()
    return found, project or default_project or ""
