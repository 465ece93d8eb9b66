"""Azure Blob Storage: block blobs in one container of one account.

Two libraries, each for what it does best (docs/decisions/0011). Bytes are read through obstore, as
from S3. azure-storage-blob does what obstore cannot: an md5 that the service compares while it
takes the bytes, a conditional commit of blocks (azure_upload.py), an object's md5 in head and
listing, links that override headers, making a container.

URL: az://container/prefix?account=NAME&endpoint=http://host:port/NAME&create=1&capabilities=...
`endpoint` is another server than Azure's; one with a path names the account there. `link_endpoint`
is the address that signed links name, where readers know the server by another one than we do.
Credentials: account_key, or sas_token, or anonymous = 1, or none: see azure_access.py.

What is kept from other writers: our objects are block blobs that Azure itself has given an md5 or
that we committed with one. A blob of another program without md5 is readable, but proves nothing.
"""

from __future__ import annotations

import contextlib
import io
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from azure.core.exceptions import AzureError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobClient, ContainerClient
from obstore.store import AzureStore as ObstoreAzure

from tidestore.connectors import azure_erase
from tidestore.connectors.azure_access import AzureAccess, LargeBodyTransport
from tidestore.connectors.azure_errors import AZURE_ERRORS, translate_azure, translate_obstore
from tidestore.connectors.azure_upload import BlockUpload, condition_of
from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import (
    BucketMissingError,
    ObjectExistsError,
    ObjectMissingError,
    StoreUnreachableError,
    UnsupportedError,
)
from tidestore.connectors.obstore_reads import ObstoreReader
from tidestore.connectors.parts import AZURE_LIMITS, largest_object
from tidestore.connectors.store import (
    ByteSource,
    ByteStream,
    Capabilities,
    ObjectInfo,
    OpenUpload,
    UploadJournal,
    no_uploads,
)
from tidestore.schemas.checksums import Checksums
from tidestore.schemas.objects import ObjectKey

AZURE_CAPABILITIES = Capabilities(
    native_checksum="md5",
    # Anonymous reading is granted to a whole container, never to a prefix of it: opening the public
    # dataset would open the controlled ones beside it.
    public_read=False,
    object_bytes_max=largest_object(AZURE_LIMITS),
)
CAPABILITY_SETS = {"": AZURE_CAPABILITIES, "azurite": AZURE_CAPABILITIES}

REQUEST_SECONDS_MAX = 60
_CONNECT_SECONDS_MAX = 5
# One page of a listing, the most that Azure gives (List Blobs, maxresults).
_PAGE_ITEMS = 5_000
# Put Blob takes up to 5,000 MiB; what comes here is in memory already, and far smaller.
_WHOLE_BYTES_MAX = 5_000 * 1024 * 1024


class AzureStore:
    """One container, or a prefix in one."""

    def __init__(self, name: str, address: StoreAddress) -> None:
        self._name = name
        self._address = address
        self._access = AzureAccess(address)
        self._capabilities = CAPABILITY_SETS[address.options.get("capabilities", "")]
        if not self._access.signs_links:
            self._capabilities = replace(self._capabilities, presign=False, presign_overrides=False)
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        reads = self._new_obstore()
        self._reader = ObstoreReader(name, reads, translate_obstore, self._info_of_meta)
        self._client = ContainerClient(
            self._access.endpoint,
            address.bucket,
            credential=self._access.credential(),
            transport=LargeBodyTransport(
                connection_timeout=_CONNECT_SECONDS_MAX, read_timeout=REQUEST_SECONDS_MAX
            ),
            # RetryingStore does the quick tries, the copies topic the long ones.
            retry_total=0,
            max_single_put_size=_WHOLE_BYTES_MAX,
        )

    @property
    def name(self) -> str:
        """The replica's name."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return self._capabilities

    async def open(self) -> None:
        """See ObjectStore. With `create=1` a missing container is made, closed to strangers."""
        try:
            await self._look()
        except BucketMissingError:
            if self._address.options.get("create") != "1":
                hint = f"create the container {self._address.bucket} or correct its name"
                raise BucketMissingError("open", self._name, hint=hint) from None
            # Two processes of ours may start at once; who comes second finds it and is content.
            with contextlib.suppress(ObjectExistsError):
                async with self.translating("create", ""):
                    await self._client.create_container()
        await self._refuse_folders()

    async def close(self) -> None:
        """See ObjectStore."""
        await self._client.close()
        await self._access.close()

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See ObjectStore. The md5 is sent along; Azure refuses other bytes."""
        return await self.put_whole(
            "put", key, body, md5=sums.md5, content_type=content_type, condition=condition_of(None)
        )

    async def upload_if_absent(
        self,
        key: ObjectKey,
        source: ByteSource,
        *,
        size: int | None,
        content_type: str,
        journal: UploadJournal | None = None,
    ) -> ObjectInfo:
        """See ObjectStore."""
        upload = BlockUpload(self, key, content_type=content_type, size=size, journal=journal)
        return await upload.run(source)

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        """See ObjectStore. Azure drops blocks that nobody commits after a week; nobody else can."""
        del key, token

    def open_uploads(self) -> AsyncIterator[OpenUpload]:
        """See ObjectStore. There is nothing that we could abort."""
        return no_uploads()

    async def replace(
        self,
        key: ObjectKey,
        source: ByteSource,
        sums: Checksums,
        *,
        seen: ObjectInfo,
        content_type: str,
    ) -> ObjectInfo:
        """See ObjectStore."""
        upload = BlockUpload(self, key, content_type=content_type, size=sums.size)
        return await upload.run(source, if_match=seen.etag)

    async def get(self, key: ObjectKey, *, start: int = 0, length: int | None = None) -> ByteStream:
        """See ObjectStore."""
        return await self._reader.get(key, start=start, length=length)

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """See ObjectStore."""
        async with self.translating("head", key):
            found = await self.blob(key).get_blob_properties()
        return self._info_of("head", key, found)

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """See ObjectStore. Azure lists in order of code units, which for our keys is key order."""
        more: dict[str, Any] = {"start_from": self._prefix + after} if after else {}
        try:
            async for found in self._client.list_blobs(
                name_starts_with=self._prefix + prefix, results_per_page=_PAGE_ITEMS, **more
            ):
                key = ObjectKey(found.name.removeprefix(self._prefix))
                if key > after:  # start_from is inclusive, and not every server knows it
                    yield self._info_of("list", key, found)
        except AZURE_ERRORS as error:
            raise translate_azure("list", self._name, prefix, error) from error

    async def delete(self, key: ObjectKey) -> None:
        """See ObjectStore."""
        with contextlib.suppress(ObjectMissingError):
            async with self.translating("delete", key):
                await self.blob(key).delete_blob(delete_snapshots="include")

    async def erase(self, key: ObjectKey) -> int:
        """See ObjectStore."""
        return await azure_erase.erase(self, key)

    async def presign(
        self, key: ObjectKey, *, expires_seconds: int, content_type: str, disposition: str
    ) -> str:
        """See ObjectStore. Signing is arithmetic; a machine's identity borrows a key once a day."""
        if not self._capabilities.presign:
            raise UnsupportedError("presign", self._name, key)
        async with self.translating("presign", key):
            return await self._access.link(
                self._prefix + key,
                seconds=expires_seconds,
                content_type=content_type,
                disposition=disposition,
            )

    def native_url(self, key: ObjectKey) -> str:
        """See ObjectStore."""
        return self._address.native_url(key)

    # What azure_upload.py shares with this adapter.

    def blob(self, key: ObjectKey) -> BlobClient:
        """The library's client of one object; call it inside `translating`."""
        return self._client.get_blob_client(self._prefix + key)

    def traces(self, key: ObjectKey, include: str) -> AsyncIterator[Any]:
        """What the service lists under a key, and under keys that begin with it."""
        return aiter(
            self._client.list_blobs(name_starts_with=self._prefix + key, include=[include])
        )

    @contextlib.asynccontextmanager
    async def translating(self, operation: str, key: str) -> AsyncIterator[None]:
        """What Azure's library raises inside comes out as StoreError."""
        try:
            yield
        except AZURE_ERRORS as error:
            raise translate_azure(operation, self._name, key, error) from error

    async def put_whole(
        self,
        operation: str,
        key: ObjectKey,
        body: bytes,
        *,
        md5: str,
        content_type: str,
        condition: dict[str, Any],
    ) -> ObjectInfo:
        """Store bytes in one request, under a condition. Azure keeps the md5 that it computes."""
        async with self.translating(operation, key):
            reply: Any = await self.blob(key).upload_blob(
                io.BytesIO(body),
                length=len(body),
                overwrite="etag" in condition,
                content_settings=ContentSettings(content_type=content_type),
                headers={"Content-MD5": b64encode(bytes.fromhex(md5)).decode()},
                **condition,
            )
        got = reply.get("content_md5")
        stored = bytes(got).hex() if got else ""
        return self.info(key, len(body), reply.get("etag"), operation, md5=stored)

    def info(
        self,
        key: ObjectKey,
        size: int | None,
        etag: str | None,
        operation: str,
        *,
        md5: str = "",
        moment: Any = None,
    ) -> ObjectInfo:
        """An answer as ObjectInfo. Without size or ETag it was cut, and is no success."""
        if not etag or size is None:
            detail = "answer without size or ETag"
            raise StoreUnreachableError(operation, self._name, key, detail=detail)
        return ObjectInfo(
            key=key,
            size=size,
            etag=etag.strip('"'),
            modified_at_ms=int(moment.timestamp() * 1000) if moment else 0,
            checksums={"md5": md5} if md5 else {},
        )

    def _info_of_meta(self, operation: str, key: ObjectKey, meta: Any) -> ObjectInfo:
        etag, moment = meta.get("e_tag"), meta["last_modified"]
        return self.info(key, meta["size"], etag, operation, moment=moment)

    def _info_of(self, operation: str, key: ObjectKey, found: Any) -> ObjectInfo:
        md5 = found.content_settings.content_md5
        digest, moment = bytes(md5).hex() if md5 else "", found.last_modified
        return self.info(key, found.size, found.etag, operation, md5=digest, moment=moment)

    async def _look(self) -> None:
        """Ask for one object: what every kind of credential that is of use here may do."""
        async with self.translating("open", ""):
            pages = self._client.list_blobs(name_starts_with=self._prefix, results_per_page=1)
            async for _ in pages:
                break

    async def _refuse_folders(self) -> None:
        """Refuse an account with real folders: it lists in another order, and lists the folders."""
        try:
            account: Any = await self._client.get_account_information()
        except AzureError:
            return  # not everybody may ask
        if account.get("is_hns_enabled"):
            raise UnsupportedError(
                "open",
                self._name,
                detail="the account has a hierarchical namespace",
                hint="use a storage account without one: it lists in an order that is not ours",
            )

    def _new_obstore(self) -> ObstoreAzure:
        return ObstoreAzure(
            self._address.bucket,
            prefix=self._address.prefix or None,
            account_name=self._access.account,
            endpoint=self._access.endpoint,
            skip_signature=self._access.is_anonymous,
            credential_provider=self._access.provider(),
            client_options={
                "allow_http": True,
                "timeout": timedelta(seconds=REQUEST_SECONDS_MAX),
                "connect_timeout": timedelta(seconds=_CONNECT_SECONDS_MAX),
            },
            # See s3.py: the quick tries are RetryingStore's.
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=5)},
        )
