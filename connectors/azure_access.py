"""Who we are to Azure, where an account lies, and links that others may follow.

    account_key     signs each request and each link
    sas_token       somebody else's signature: good for requests, cannot sign links
    anonymous = 1   nothing: a container that its owner opened to the world, read only
    none of them    what the machine offers: a managed or workload identity, a service principal in
                    the environment (azure-identity's chain); links are signed with a key that
                    Azure lends to that identity for a day

Both of the adapter's libraries get the same credential from here, so neither looks for one in the
environment by itself.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob import BlobSasPermissions, UserDelegationKey, generate_blob_sas
from azure.storage.blob.aio import BlobServiceClient

from tidestore.connectors.credentials import StoreAddress
from tidestore.schemas.objects import MalformedError

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

_SCOPE = "https://storage.azure.com/.default"
_PIECE_BYTES_MAX = 1024 * 1024
# A lent key may live for seven days (Azure); a day is enough for links that live for minutes.
_LENT_KEY_LIFE = timedelta(days=1)


class LargeBodyTransport(AioHttpTransport):  # type: ignore[misc]  # untyped: loaded lazily
    """The library's own transport, which hands large bodies to aiohttp as it wants them.

    aiohttp warns of bytes over 1 MiB in one piece, which hold up the loop while they are written;
    azure-core 1.41 knows no other way. The conformance suite, where a warning is an error, fails if
    the method that is overridden here is not called any more.
    """

    def _get_request_data(self, request: Any) -> Any:
        data = super()._get_request_data(request)
        is_large = isinstance(data, bytes) and len(data) > _PIECE_BYTES_MAX
        return io.BytesIO(data) if is_large else data


class AzureAccess:
    """One replica's account, and what we may use of it."""

    def __init__(self, address: StoreAddress) -> None:
        self._container = address.bucket
        endpoint = address.options.get("endpoint", "").rstrip("/")
        # An endpoint with a path names its account there, as Azurite's do.
        self.account = address.options.get("account") or urlsplit(endpoint).path.strip("/")
        if not self.account:
            hint = "az://container/prefix?account=NAME"
            raise MalformedError("replica url", "names no storage account", hint=hint)
        self.endpoint = endpoint or f"https://{self.account}.blob.core.windows.net"
        self._link_endpoint = address.options.get("link_endpoint", self.endpoint).rstrip("/")
        self._key = address.secret("account_key")
        self._sas = address.secret("sas_token").lstrip("?")
        self.is_anonymous = address.secret("anonymous") == "1"
        is_lent = not (self._key or self._sas or self.is_anonymous)
        self._identity: AsyncTokenCredential | None = _machine_identity() if is_lent else None
        self._lent_key: UserDelegationKey | None = None
        self._lent_until = datetime.min.replace(tzinfo=UTC)

    @property
    def signs_links(self) -> bool:
        """Whether links can be signed: a SAS cannot sign another one."""
        return bool(self._key) or self._identity is not None

    def credential(self) -> Any:
        """What azure-storage-blob takes."""
        if self._key:
            return AzureNamedKeyCredential(self.account, self._key)
        if self._sas:
            return AzureSasCredential(self._sas)
        return self._identity

    def provider(self) -> Callable[[], Coroutine[Any, Any, Any]] | None:
        """What obstore takes: a call that gives it the same credential."""
        if self.is_anonymous:
            return None

        async def give() -> Any:
            if self._key:
                return {"access_key": self._key, "expires_at": None}
            if self._sas:
                return {"sas_token": self._sas, "expires_at": None}
            assert self._identity is not None  # noqa: S101  one of the four, see above
            token = await self._identity.get_token(_SCOPE)
            moment = datetime.fromtimestamp(token.expires_on, UTC)
            return {"token": token.token, "expires_at": moment}

        return give

    async def link(self, name: str, *, seconds: int, content_type: str, disposition: str) -> str:
        """A URL with which anybody can read one blob for a time; `name` is its full name."""
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        signer: dict[str, Any] = (
            {"account_key": self._key}
            if self._key
            else {"user_delegation_key": await self._borrow_key(until)}
        )
        signature = generate_blob_sas(
            self.account,
            self._container,
            name,
            permission=BlobSasPermissions(read=True),
            expiry=until,
            content_type=content_type,
            content_disposition=disposition,
            **signer,
        )
        return f"{self._link_endpoint}/{self._container}/{quote(name)}?{signature}"

    async def close(self) -> None:
        """Let go of the identity's connections."""
        if self._identity is not None:
            await self._identity.close()

    async def _borrow_key(self, until: datetime) -> UserDelegationKey:
        if self._lent_key is None or self._lent_until < until:
            now = datetime.now(UTC)
            lasts = max(now + _LENT_KEY_LIFE, until)
            async with BlobServiceClient(self.endpoint, credential=self.credential()) as service:
                self._lent_key = await service.get_user_delegation_key(now, lasts)
            self._lent_until = lasts
        return self._lent_key


def _machine_identity() -> AsyncTokenCredential:
    # Slow to import, and only for who uses it.
    from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415

    return DefaultAzureCredential()
