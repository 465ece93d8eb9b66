"""S3 and what speaks it: AWS, MinIO, Ceph, on-premise appliances.

Two libraries, each for what it does best. The byte path (small put, get, head, list, delete) goes
through obstore: measured at three times boto3's small PUTs a second and an eighth of its CPU. boto3
does what obstore cannot: parts with a conditional completion (s3_upload.py), presigned URLs with
response overrides, checksums of multipart objects, bucket set-up.

URL: s3://bucket/prefix?endpoint=http://host:port&region=us-east-1&create=1&capabilities=...
`link_endpoint=` is the address that signed links name, where readers know the server by another
one than we do: outside of a container network, before a proxy. `sign_body=1`: see s3_clients.py.
Credentials: access_key_id, secret_access_key, session_token; none of them means anonymous.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from botocore.exceptions import BotoCoreError, ClientError

from tidestore.connectors import s3_erase
from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.errors import (
    BucketMissingError,
    ObjectExistsError,
    ObjectMissingError,
    PreconditionError,
    StoreError,
    StoreUnreachableError,
    UnsupportedError,
)
from tidestore.connectors.obstore_reads import ObstoreReader
from tidestore.connectors.parts import S3_LIMITS, largest_object
from tidestore.connectors.s3_clients import endpoint_of, make_boto, make_obstore
from tidestore.connectors.s3_errors import translate_boto, translate_obstore
from tidestore.connectors.s3_inside import InsideCopy
from tidestore.connectors.s3_upload import S3Upload
from tidestore.connectors.s3_waits import ask_wait
from tidestore.connectors.store import (
    ByteSource,
    ByteStream,
    Capabilities,
    ObjectInfo,
    OpenUpload,
    UploadJournal,
)
from tidestore.schemas.checksums import Checksums, hex_of_base64
from tidestore.schemas.objects import PUBLIC, ObjectKey

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

S3_CAPABILITIES = Capabilities(native_checksum="md5", object_bytes_max=largest_object(S3_LIMITS))

# What a server from PyPI cannot do; see local/servers.py for which one is which.
EMBEDDED_S3_CAPABILITIES = replace(
    S3_CAPABILITIES,
    checks_uploads=False,
    checks_credentials=False,
    content_type=False,
    replace_if_same=False,
    lists_traces=False,
    resumable_uploads=False,
)
CAPABILITY_SETS = {"": S3_CAPABILITIES, "localbucket": EMBEDDED_S3_CAPABILITIES}

# boto3 is for parts and signatures only; 4 parts in flight saturate what one stream can give.
THREADS = 8
T = TypeVar("T")


class S3Store:
    """One bucket, or a prefix in one."""

    def __init__(self, name: str, address: StoreAddress) -> None:
        self._name = name
        self._address = address
        options = address.options
        self._capabilities = CAPABILITY_SETS[options.get("capabilities", "")]
        self._region = options.get("region", "us-east-1")
        self._prefix = f"{address.prefix}/" if address.prefix else ""
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"s3-{name}")
        self._bytes = make_obstore(
            address, self._region, checks_uploads=self._capabilities.checks_uploads
        )
        self._reader = ObstoreReader(name, self._bytes, translate_obstore, self._info_of)
        self._boto = make_boto(address, self._region, endpoint_of(address), THREADS)
        link_endpoint = options.get("link_endpoint")
        self._signer = (
            make_boto(address, self._region, link_endpoint, THREADS)
            if link_endpoint
            else self._boto
        )
        # Whether the server tells a checksum of each part that it copies itself; found out.
        self.checks_inside_copies = True

    @property
    def name(self) -> str:
        """The replica's name."""
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        """What this store can do."""
        return self._capabilities

    async def open(self) -> None:
        """See ObjectStore. `create=1` makes a missing bucket, its public dataset readable."""
        try:
            await self.boto("open", "", lambda: self._boto.head_bucket(Bucket=self.bucket))
        except (BucketMissingError, ObjectMissingError):
            if self._address.options.get("create") != "1":
                raise BucketMissingError(
                    "open", self._name, hint=f"create the bucket {self.bucket} or correct its name"
                ) from None
            await self._create_bucket()

    async def close(self) -> None:
        """See ObjectStore."""
        self._threads.shutdown(wait=True)
        self._boto.close()

    async def put_if_absent(
        self, key: ObjectKey, body: bytes, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See ObjectStore. obstore sends a checksum of the body with it; S3 refuses other bytes."""
        try:
            result = await obstore.put_async(
                self._bytes,
                key,
                body,
                mode="create",
                attributes={"Content-Type": content_type},
                use_multipart=False,
            )
        except Exception as error:
            raise translate_obstore("put", self._name, key, error) from error
        return self._info(key, sums.size, result.get("e_tag"), "put")

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
        upload = S3Upload(self, key, content_type=content_type, size=size, journal=journal)
        return await upload.run(source, if_none_match="*")

    async def abort_upload(self, key: ObjectKey, token: str) -> None:
        """See ObjectStore."""
        with contextlib.suppress(ObjectMissingError):
            await self.boto(
                "abort",
                key,
                lambda: self._boto.abort_multipart_upload(
                    Bucket=self.bucket, Key=self.full_key(key), UploadId=token
                ),
            )

    async def open_uploads(self) -> AsyncIterator[OpenUpload]:
        """See ObjectStore. MinIO tells of those that were begun since it was started."""
        # Without a Prefix: MinIO takes it for a whole key, and finds nothing below ours.
        pages = iter(
            self._boto.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket)
        )
        while (page := await self.boto("list", "", lambda: next(pages, None))) is not None:
            for found in page.get("Uploads", []):
                if found["Key"].startswith(self._prefix):
                    key = ObjectKey(found["Key"].removeprefix(self._prefix))
                    moment = found["Initiated"].timestamp()
                    yield OpenUpload(key, found["UploadId"], int(moment * 1000))

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
        if not self._capabilities.replace_if_same:
            current = await self.head(key)
            if current.etag != seen.etag:
                raise PreconditionError("replace", self._name, key)
        upload = S3Upload(self, key, content_type=content_type, size=sums.size)
        if_match = seen.etag if self._capabilities.replace_if_same else None
        return await upload.run(source, if_match=if_match)

    async def copy_inside(
        self, source: StoreAddress, key: ObjectKey, sums: Checksums, *, content_type: str
    ) -> ObjectInfo:
        """See CopiesInside."""
        if not self._capabilities.checks_uploads:
            raise UnsupportedError("copy", self._name, key)
        return await InsideCopy(self, source, key, sums, content_type).run()

    async def get(self, key: ObjectKey, *, start: int = 0, length: int | None = None) -> ByteStream:
        """See ObjectStore."""
        return await self._reader.get(key, start=start, length=length)

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """See ObjectStore. An object made of parts has no md5; its crc32c is asked for instead."""
        try:
            meta = await obstore.head_async(self._bytes, key)
        except Exception as error:
            raise translate_obstore("head", self._name, key, error) from error
        info = self._info_of("head", key, meta)
        if "-" not in info.etag:
            return info
        reply = await self.boto(
            "head",
            key,
            lambda: self._boto.head_object(
                Bucket=self.bucket, Key=self.full_key(key), ChecksumMode="ENABLED"
            ),
        )
        if reply.get("ChecksumType") == "FULL_OBJECT" and reply.get("ChecksumCRC32C"):
            return replace(info, checksums={"crc32c": hex_of_base64(reply["ChecksumCRC32C"])})
        return info

    async def list(self, prefix: str = "", *, after: str = "") -> AsyncIterator[ObjectInfo]:
        """See ObjectStore. S3 lists in byte order of UTF-8, which for our keys is key order."""
        # A prefix in obstore is whole path segments; ours may end inside a name.
        folder, _, rest = prefix.rpartition("/")
        try:
            async for batch in obstore.list(self._bytes, folder or None, offset=after or None):
                for meta in batch:
                    key = ObjectKey(meta["path"])
                    if rest and not key.startswith(prefix):
                        continue
                    yield self._info_of("list", key, meta)
        except StoreError:
            raise
        except Exception as error:
            raise translate_obstore("list", self._name, prefix, error) from error

    async def delete(self, key: ObjectKey) -> None:
        """See ObjectStore. Not through obstore: it deletes in bulk, which small servers lack."""
        with contextlib.suppress(ObjectMissingError):
            await self.boto(
                "delete",
                key,
                lambda: self._boto.delete_object(Bucket=self.bucket, Key=self.full_key(key)),
            )

    async def erase(self, key: ObjectKey) -> int:
        """See ObjectStore."""
        return await s3_erase.erase(self, key)

    async def presign(
        self, key: ObjectKey, *, expires_seconds: int, content_type: str, disposition: str
    ) -> str:
        """See ObjectStore. Signing is arithmetic, no request."""
        if not self._capabilities.presign:
            raise UnsupportedError("presign", self._name, key)
        parameters = {"Bucket": self.bucket, "Key": self.full_key(key)}
        if self._capabilities.presign_overrides:
            parameters["ResponseContentType"] = content_type
            parameters["ResponseContentDisposition"] = disposition
        return self._signer.generate_presigned_url(
            "get_object", Params=parameters, ExpiresIn=expires_seconds
        )

    def native_url(self, key: ObjectKey) -> str:
        """See ObjectStore."""
        return self._address.native_url(key)

    async def named_wait(self) -> float | None:
        """What S3 asks us to wait: obstore 0.12 hides the head of an answer, boto3 shows it."""
        return await ask_wait(self)

    # What s3_upload.py and s3_waits.py share with this adapter.

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self._address.bucket

    @property
    def client(self) -> S3Client:
        """The boto3 client; call it through `boto` only."""
        return self._boto

    def full_key(self, key: ObjectKey) -> str:
        """The key in the bucket, with the replica's prefix."""
        return self._prefix + key

    async def boto(self, operation: str, key: str, call: Callable[[], T]) -> T:
        """Run a boto3 call in a thread; raises StoreError."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, call)
        except (ClientError, BotoCoreError) as error:
            raise translate_boto(operation, self._name, key, error) from error

    def info_of_upload(self, key: ObjectKey, size: int, etag: str, crc32c: str) -> ObjectInfo:
        """The info of an object that was just completed."""
        info = self._info(key, size, etag, "upload")
        return replace(info, checksums=info.checksums or {"crc32c": crc32c})

    def _info_of(self, operation: str, key: ObjectKey, meta: Any) -> ObjectInfo:
        etag, moment = meta.get("e_tag"), meta["last_modified"]
        return self._info(key, meta["size"], etag, operation, moment)

    def _info(
        self, key: ObjectKey, size: int, etag: str | None, operation: str, moment: Any = None
    ) -> ObjectInfo:
        """An answer as ObjectInfo. No ETag means a cut answer, never a success (reliability 4)."""
        if not etag:
            raise StoreUnreachableError(operation, self._name, key, detail="answer without ETag")
        bare = etag.strip('"')
        is_md5 = len(bare) == 32 and self._capabilities.native_checksum == "md5"
        return ObjectInfo(
            key=key,
            size=size,
            etag=bare,
            modified_at_ms=int(moment.timestamp() * 1000) if moment else 0,
            checksums={"md5": bare} if is_md5 else {},
        )

    async def _create_bucket(self) -> None:
        def create() -> None:
            if self._region == "us-east-1":
                self._boto.create_bucket(Bucket=self.bucket)
            else:
                place: Any = {"LocationConstraint": self._region}
                self._boto.create_bucket(Bucket=self.bucket, CreateBucketConfiguration=place)

        # Two processes of ours may start at once; who comes second finds the bucket and is content.
        with contextlib.suppress(ObjectExistsError):
            await self.boto("create", "", create)
        if not self._capabilities.public_read:
            return
        # The dataset is the first part of every key, so one statement opens the public one alone.
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": ["*"]},
            "Action": ["s3:GetObject"],
            "Resource": [f"arn:aws:s3:::{self.bucket}/{self._prefix}{PUBLIC}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        with contextlib.suppress(StoreError):  # a server without policies is public, or says no
            await self.boto(
                "create",
                "",
                lambda: self._boto.put_bucket_policy(Bucket=self.bucket, Policy=policy),
            )
