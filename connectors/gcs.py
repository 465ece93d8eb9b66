"""Google Cloud Storage, through Google's own library, which is synchronous: it runs in threads.

URL: gs://bucket/prefix?endpoint=http://host:port&project=p&create=1&capabilities=...
Credentials: service_account (the JSON key's text); `anonymous` set to 1 for none at all; neither
means what the machine offers (application default credentials).

An object's `etag` in our ObjectInfo is its generation: the number that GCS's own preconditions
take. A create is `ifGenerationMatch=0`, a repair `ifGenerationMatch=<the bad generation>`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from google.auth.transport.requests import AuthorizedSession
from google.cloud import storage

from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import (
    BucketMissingError,
    ObjectExistsError,
    ObjectMissingError,
    StoreUnreachableError,
    UnsupportedError,
)
from tidestore.connectors.gcs_access import TIMEOUT_SECONDS, credentials_of
from tidestore.connectors.gcs_answers import info_of_blob
from tidestore.connectors.gcs_errors import GCS_ERRORS, translate_gcs, translate_status
from tidestore.connectors.gcs_inside import GcsInsideCopy
from tidestore.connectors.gcs_upload import (
    PARTS_PREFIX,
    GcsUpload,
    drop_parts,
    open_uploads,
)
from tidestore.connectors.parts import GCS_LIMITS, largest_object
from tidestore.connectors.store import (
    CHUNK_BYTES,
    ByteSource,
    ByteStream,
    Capabilities,
    ObjectInfo,
    OpenUpload,
    UploadJournal,
    no_chunks,
)
from tidestore.connectors.waits import wait_of
from tidestore.schemas.checksums import Checksums, base64_of_hex
from tidestore.schemas.objects import ObjectKey

GCS_CAPABILITIES = Capabilities(
    native_checksum="crc32c",
    object_bytes_max=largest_object(GCS_LIMITS),
)
CAPABILITY_SETS = {
    "": GCS_CAPABILITIES,
    # fake-gcs-server 1.56 checks crc32c, md5, and preconditions (not those of compose: see
    # docs/decisions/0019), but knows neither credentials nor links.
    "fake-gcs-server": replace(
        GCS_CAPABILITIES,
        upload_if_absent=False,
        checks_credentials=False,
        presign=False,
        presign_overrides=False,
    ),
    # gcp-storage-emulator ignores preconditions and checksums: see local/servers.py.
    "gcp-storage-emulator": replace(
        GCS_CAPABILITIES,
        put_if_absent=False,
        upload_if_absent=False,
        replace_if_same=False,
        checks_uploads=False,
        checks_credentials=False,
        presign=False,
        presign_overrides=False,
    ),
}

_THREADS = 16
T = TypeVar("T")


class GcsStore:
    """One bucket, or a prefix in one."""

    def __init__(self, name: str, address: StoreAddress) -> None:
        self._name = name
        self._address = address
        self._capabilities = CAPABILITY_SETS[address.options.get("capabilities", "")]
        self._endpoint = address.options.get("endpoint", "https://storage.googleapis.com")
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"gcs-{name}")
        credentials, project = credentials_of(address)
        self._session = AuthorizedSession(credentials)
        adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=_THREADS)
        self._session.mount(self._endpoint, adapter)
        self._client = storage.Client(
            project=project,
            credentials=credentials,
            client_options={"api_endpoint": self._endpoint},
            _http=self._session,
        )
        self._bucket = self._client.bucket(address.bucket)

    @property
    def name(self) -> str:
        """The replica's name."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return self._capabilities

    async def open(self) -> None:
        """See ObjectStore. With `create=1` a missing bucket is made."""
        found = await self.run(
            "open",
            "",
            lambda: self._client.lookup_bucket(
                self._bucket.name, timeout=TIMEOUT_SECONDS, retry=None
            ),
        )
        if found is not None:
            return
        if self._address.options.get("create") != "1":
            hint = f"create the bucket {self._bucket.name} or correct its name"
            raise BucketMissingError("open", self._name, hint=hint)
        with contextlib.suppress(ObjectExistsError):  # another process of ours was first
            await self.run(
                "create",
                "",
                lambda: self._client.create_bucket(
                    self._bucket.name, timeout=TIMEOUT_SECONDS, retry=None
                ),
            )

    async def close(self) -> None:
        """See ObjectStore."""
        self._threads.shutdown(wait=True)
        self._client.close()

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See ObjectStore. GCS compares the crc32c that is sent along, and refuses other bytes."""

        def put() -> storage.Blob:
            blob = self._bucket.blob(self._prefix + key)
            blob.crc32c = base64_of_hex(sums.crc32c)
            blob.upload_from_file(
                io.BytesIO(body),
                size=len(body),
                content_type=content_type,
                if_generation_match=0,
                timeout=TIMEOUT_SECONDS,
                checksum=None,
                retry=None,
            )
            return blob

        if not self._capabilities.put_if_absent:
            await self._refuse_taken("put", key)
        return self._info("put", key, await self.run("put", key, put))

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
        upload = GcsUpload(self, key, content_type=content_type, size=size, journal=journal)
        return await upload.run(source)

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        """See ObjectStore. Without a token all uploads of the key would go: that is erase's."""
        if token:
            await drop_parts(self, key, token)

    def open_uploads(self) -> AsyncIterator[OpenUpload]:
        """See ObjectStore."""
        return open_uploads(self)

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
        upload = GcsUpload(self, key, content_type=content_type, size=sums.size)
        return await upload.run(source, generation=int(seen.etag))

    async def copy_inside(
        self, source: StoreAddress, key: ObjectKey, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See CopiesInside."""
        return await GcsInsideCopy(self, source, key, sums, content_type).run()

    async def get(self, key: ObjectKey, *, start: int = 0, length: int | None = None) -> ByteStream:
        """See ObjectStore. One request, whatever the size."""
        info = await self.head(key)
        end = info.size if length is None else min(info.size, start + length)
        if end <= start:
            return ByteStream(info, no_chunks())
        url = (
            f"{self._endpoint}/storage/v1/b/{self._bucket.name}/o/"
            f"{quote(self._prefix + key, safe='')}?alt=media&generation={info.etag}"
        )
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "gzip"}
        reply = await self.run(
            "get",
            key,
            lambda: self._session.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS),
        )
        if reply.status_code not in {200, 206}:
            text = reply.text[:200]
            reply.close()
            wait = wait_of(reply.headers)
            raise translate_status("get", self._name, key, reply.status_code, text, wait)
        return ByteStream(info, self._read(key, reply, end - start))

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """See ObjectStore."""
        blob = await self.run(
            "head",
            key,
            lambda: self._bucket.get_blob(self._prefix + key, timeout=TIMEOUT_SECONDS, retry=None),
        )
        if blob is None:
            raise ObjectMissingError("head", self._name, key)
        return self._info("head", key, blob)

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """See ObjectStore."""
        start = self._prefix + after if after else None
        async for blob in self.blobs("list", prefix, self._prefix + prefix, start_offset=start):
            key = ObjectKey(blob.name.removeprefix(self._prefix))
            # start_offset is inclusive, and not every server knows it. Parts are no objects.
            if key > after and not key.startswith(PARTS_PREFIX):
                yield self._info("list", key, blob)

    async def delete(self, key: ObjectKey) -> None:
        """See ObjectStore."""
        blob = self._bucket.blob(self._prefix + key)
        try:
            await self.run("delete", key, lambda: blob.delete(timeout=TIMEOUT_SECONDS, retry=None))
        except ObjectMissingError:
            return

    async def erase(self, key: ObjectKey) -> int:
        """See ObjectStore. The parts of its uploads go first, so that none can complete."""
        full = self._prefix + key
        found = await drop_parts(self, key)
        async for blob in self.blobs("erase", key, full, versions=True):
            if blob.name != full:
                continue
            found += 1
            with contextlib.suppress(ObjectMissingError):
                await self.run(
                    "erase", key, partial(blob.delete, timeout=TIMEOUT_SECONDS, retry=None)
                )
        return found

    async def presign(
        self, key: ObjectKey, *, expires_seconds: int, content_type: str, disposition: str
    ) -> str:
        """See ObjectStore. Needs a service account key: only its owner can sign."""
        if not self._capabilities.presign:
            raise UnsupportedError("presign", self._name, key)
        blob = self._bucket.blob(self._prefix + key)
        url: str = await self.run(
            "presign",
            key,
            lambda: blob.generate_signed_url(
                version="v4",
                expiration=expires_seconds,
                response_type=content_type,
                response_disposition=disposition,
                api_access_endpoint=self._endpoint,
            ),
        )
        return url

    def native_url(self, key: ObjectKey) -> str:
        """See ObjectStore."""
        return self._address.native_url(key)

    # What the other modules of GCS share with this adapter.

    @property
    def bucket(self) -> storage.Bucket:
        """The library's bucket; call it through `run` only."""
        return self._bucket

    def other_bucket(self, name: str) -> storage.Bucket:
        """Another bucket, with the same credentials."""
        return self._client.bucket(name)

    @property
    def uploads_url(self) -> str:
        """Where objects of the bucket are made."""
        return f"{self._endpoint}/upload/storage/v1/b/{self._bucket.name}/o"

    @property
    def session(self) -> AuthorizedSession:
        """The library's own connections; call them through `run` only."""
        return self._session

    def full_key(self, key: ObjectKey) -> str:
        """The key in the bucket, with the replica's prefix."""
        return self._prefix + key

    async def run(self, operation: str, key: str, call: Callable[[], T]) -> T:
        """Run a call of the library in a thread; raises StoreError."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, call)
        except GCS_ERRORS as error:
            raise translate_gcs(operation, self._name, key, error) from error

    async def blobs(
        self, operation: str, key: str, prefix: str, **more: Any
    ) -> AsyncIterator[storage.Blob]:
        """All blobs whose name in the bucket begins with `prefix`, in order."""
        found = iter(
            self._client.list_blobs(
                self._bucket,
                prefix=prefix,
                page_size=1000,
                timeout=TIMEOUT_SECONDS,
                retry=None,
                **more,
            )
        )
        while batch := await self.run(operation, key, lambda: list(islice(found, 500))):
            for blob in batch:
                yield blob

    async def _refuse_taken(self, operation: str, key: ObjectKey) -> None:
        """Stand-in for a precondition on a server without one: asks first, so it can race."""
        try:
            await self.head(key)
        except ObjectMissingError:
            return
        raise ObjectExistsError(operation, self._name, key)

    def _info(self, operation: str, key: ObjectKey, blob: storage.Blob) -> ObjectInfo:
        return info_of_blob(operation, self._name, key, blob)

    async def _read(
        self, key: ObjectKey, reply: requests.Response, length: int
    ) -> AsyncIterator[bytes]:
        left = length
        try:
            while left:
                chunk = await self.run(
                    "get", key, lambda: reply.raw.read(CHUNK_BYTES, decode_content=False)
                )
                if not chunk:
                    raise StoreUnreachableError(
                        "get", self._name, key, detail=f"{left} bytes are missing"
                    )
                left -= len(chunk)
                if left < 0:
                    raise StoreUnreachableError("get", self._name, key, detail="too many bytes")
                yield chunk
        finally:
            reply.close()
