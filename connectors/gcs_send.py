"""One GCS object in one request: its metadata and its bytes together (uploadType=multipart).

Google's library opens a session first for what is larger than 8 MiB, which is a request more for
each part, and copies the bytes into the request's body. Here they are sent as they are.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import requests

from tidestore.connectors.gcs_access import TIMEOUT_SECONDS
from tidestore.connectors.gcs_answers import info_of_resource
from tidestore.connectors.gcs_errors import translate_status
from tidestore.connectors.store import ObjectInfo
from tidestore.connectors.waits import wait_of
from tidestore.schemas.checksums import base64_of_hex
from tidestore.schemas.objects import ObjectKey

if TYPE_CHECKING:
    from tidestore.connectors.gcs import GcsStore

_TEXT_CHARS_MAX: Final = 200
# Each has the time of a connection to go out (5 s): 200 kB/s are enough.
_PIECE_BYTES: Final = 1024 * 1024


class RelatedBody:
    """The body of a multipart/related request: its length is known, its pieces are not copied."""

    def __init__(self, resource: dict[str, Any], body: bytes, content_type: str) -> None:
        # As long as a random sha1: no object has it in its bytes by chance.
        boundary = secrets.token_hex(20)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(resource)}\r\n--{boundary}\r\nContent-Type: {content_type}\r\n\r\n"
        )
        self.content_type = f"multipart/related; boundary={boundary}"
        self._head, self._body = head.encode(), body
        self._tail = f"\r\n--{boundary}--\r\n".encode()

    def __len__(self) -> int:
        return len(self._head) + len(self._body) + len(self._tail)

    def __iter__(self) -> Iterator[Any]:
        yield self._head
        with memoryview(self._body) as view:
            for start in range(0, len(view), _PIECE_BYTES):
                yield view[start : start + _PIECE_BYTES]
        yield self._tail


async def send_object(
    store: GcsStore,
    key: ObjectKey,
    name: str,
    body: bytes,
    *,
    content_type: str,
    crc32c: int,
    generation: int | None = None,
) -> ObjectInfo:
    """Make the object `name` of the bucket, for the sake of `key`; raises StoreError.

    GCS compares the crc32c and refuses other bytes. With a `generation` only over that one, as far
    as the server looks at it; 0 is a free key.
    """
    resource = {"name": name, "contentType": content_type}
    resource["crc32c"] = base64_of_hex(f"{crc32c:08x}")
    related = RelatedBody(resource, body, content_type)
    query = {"uploadType": "multipart"}
    if generation is not None and store.capabilities.replace_if_same:
        query["ifGenerationMatch"] = str(generation)

    def ask() -> tuple[requests.Response, Any]:
        reply = store.session.post(
            f"{store.uploads_url}?{urlencode(query)}",
            data=related,
            headers={"Content-Type": related.content_type},
            timeout=TIMEOUT_SECONDS,
        )
        return reply, reply.json() if reply.status_code == 200 else None

    reply, made = await store.run("upload", key, ask)
    if reply.status_code != 200:
        wait = wait_of(reply.headers)
        text = reply.text[:_TEXT_CHARS_MAX]
        raise translate_status("upload", store.name, key, reply.status_code, text, wait)
    return info_of_resource("upload", store.name, key, made)
