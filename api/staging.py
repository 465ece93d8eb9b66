"""Files whose bytes lie in a staging store: copied by us, hashed by us, then committed.

The blob's key is its hash, which is not known before the bytes were read. Unless the writer says
what it should be, they are therefore read twice: once to know the key, once to store, and the
second pass must hash to the first, so a staged object that changes in between is refused, not
mixed.

Only URLs below a registered staging store are read: anything else would let a writer read with our
credentials what its own could not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from aiohttp import web

from tidestore.api.context import Gateway, gateway_of
from tidestore.api.files import commit_file
from tidestore.api.origin import Author, Outcome
from tidestore.api.problems import Problem
from tidestore.api.settings import StagingEntry
from tidestore.api.tasks import Report, TaskBoard, TaskFailedError
from tidestore.api.waits import Asked, answer_write
from tidestore.connectors.errors import ChecksumMismatchError, ObjectMissingError
from tidestore.connectors.registry import make_store
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.verify import CheckedSource
from tidestore.schemas.events import TaskChanged, TaskState
from tidestore.schemas.manifests import check_name
from tidestore.schemas.objects import (
    DatasetName,
    MalformedError,
    ObjectKey,
    ObjectUuid,
    Sha256,
    Version,
    blob_key,
    check_sha256,
)

_SOURCE_CHARS_MAX = 2_048

TASK_BOARD: Final = web.AppKey("tasks", TaskBoard)


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One request to take a file from a staging store; travels in the task's record."""

    dataset: str
    uuid: str
    version: str
    name: str
    content_type: str
    source_url: str
    sha256: str
    author: str
    request_id: str

    @property
    def task_id(self) -> str:
        """The same request has the same task, so that a client may send it again."""
        identity = [self.dataset, self.uuid, self.version, self.name, self.content_type]
        text = json.dumps([*identity, self.source_url, self.sha256])
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_staged(
    body: dict[str, Any],
    dataset: DatasetName,
    uuid: ObjectUuid,
    version: Version,
    author: Author,
    *,
    name: str,
    content_type: str,
) -> StagedFile:
    """What a body with a `source_url` asks for; raises MalformedError."""
    source_url, sha256 = body["source_url"], body.get("sha256", "")
    if not isinstance(source_url, str) or len(source_url) > _SOURCE_CHARS_MAX:
        raise MalformedError("source_url", "is not a URL of reasonable length")
    if not isinstance(sha256, str):
        raise MalformedError("sha256", "is not a text")
    if sha256:
        check_sha256(sha256)
    return StagedFile(
        dataset,
        uuid,
        version,
        name,
        content_type,
        source_url,
        sha256,
        author.name,
        author.request_id,
    )


async def put_staged_file(
    request: web.Request, staged: StagedFile, asked: Asked | None
) -> web.StreamResponse:
    """Answer a PUT of a file that names a `source_url`: at once, or 202 with a task."""
    gateway = gateway_of(request)
    store, key = await _open(gateway, staged.source_url)
    try:
        size = (await store.head(key)).size
    except ObjectMissingError:
        detail = "there is no object under source_url"
        raise Problem(422, "source_missing", detail, hint="stage it first") from None
    finally:
        await store.close()
    is_async = "respond-async" in request.headers.get("Prefer", "")
    if size >= gateway.settings.limits.task_bytes_min or is_async:
        task = await request.app[TASK_BOARD].submit(
            staged.task_id, json.dumps(asdict(staged)), size
        )
        return web.json_response(
            task_document(task),
            status=202,
            headers={"Location": f"/v1/tasks/{task.task_id}", "Retry-After": "1"},
        )
    outcome, key, document = await take_staged(gateway, staged, _silent)
    return await answer_write(request, key, outcome, document, asked)


async def take_staged(
    gateway: Gateway, staged: StagedFile, report: Report
) -> tuple[Outcome, ObjectKey, dict[str, Any]]:
    """Copy a staged object into a blob and commit its file.

    Raises Problem, StoreError, LogError.
    """
    dataset, author = DatasetName(staged.dataset), Author(staged.author, staged.request_id)
    store, source_key = await _open(gateway, staged.source_url)
    try:
        size = (await store.head(source_key)).size
        sha256 = staged.sha256 or await _hash_of(store, source_key, size)
        stream = await store.get(source_key)
        source = CheckedSource(
            _counted(stream.chunks, size, report),
            sha256=sha256,
            size=size,
            place=("read", "staging", staged.source_url),
        )
        try:
            await gateway.origin.write_stream(
                blob_key(dataset, Sha256(sha256)),
                source,
                size=size,
                content_type="application/octet-stream",
                author=author,
            )
        finally:
            await stream.close()
    finally:
        await store.close()
    return await commit_file(
        gateway,
        dataset,
        ObjectUuid(staged.uuid),
        Version(staged.version),
        author,
        Sha256(sha256),
        staged.name,
        staged.content_type,
    )


async def run_task(gateway: Gateway, task: TaskChanged, report: Report) -> str:
    """The runner of the task board. Raises TaskFailedError when trying again cannot help."""
    staged = StagedFile(**json.loads(task.request))
    try:
        outcome, _, document = await take_staged(gateway, staged, report)
    except Problem as problem:
        raise TaskFailedError(f"{problem.code}: {problem.detail}") from problem
    except (ChecksumMismatchError, ObjectMissingError) as error:
        raise TaskFailedError(str(error)) from error
    return json.dumps({**document, "position": str(outcome.position)})


def task_document(task: TaskChanged) -> dict[str, Any]:
    """A task as the API shows it."""
    asked = json.loads(task.request)
    document: dict[str, Any] = {
        "task_id": task.task_id,
        "state": task.state.value,
        "bytes_done": task.bytes_done,
        "bytes_total": task.bytes_total,
        "created_at_ms": task.created_at_ms,
        "changed_at_ms": task.changed_at_ms,
        "request": {name: asked[name] for name in ("dataset", "uuid", "version", "source_url")},
    }
    if task.cause is not None and task.state is TaskState.FAILED:
        document["cause"] = task.cause
    if task.result is not None:
        document["result"] = json.loads(task.result)
    return document


def _staging_of(gateway: Gateway, source_url: str) -> tuple[StagingEntry, ObjectKey]:
    """The registered store that a URL lies in, and the key there; raises Problem 403."""
    for entry in gateway.settings.staging:
        base = entry.url.split("?", 1)[0].rstrip("/") + "/"
        rest = source_url.removeprefix(base)
        if rest == source_url:
            continue
        if not rest or any(part in {"", ".", ".."} for part in rest.split("/")):
            raise MalformedError("source_url", "does not name an object in the staging store")
        return entry, ObjectKey(check_name(rest, "source_url"))
    raise Problem(
        403,
        "staging_not_registered",
        "source_url lies in no registered staging store",
        hint="the operator registers staging stores under [[staging]] in tidestore.toml",
    )


async def _open(gateway: Gateway, source_url: str) -> tuple[ObjectStore, ObjectKey]:
    entry, key = _staging_of(gateway, source_url)
    return make_store(f"staging:{entry.name}", entry.address), key


async def _hash_of(store: ObjectStore, key: ObjectKey, size: int) -> str:
    stream = await store.get(key)
    source = CheckedSource(stream.chunks, sha256=None, size=size, place=("read", "staging", key))
    try:
        async for _ in source:
            pass
    finally:
        await stream.close()
    assert source.sums is not None, "it ended without raising"  # noqa: S101
    return source.sums.sha256


async def _counted(chunks: AsyncIterator[bytes], size: int, report: Report) -> AsyncIterator[bytes]:
    done = 0
    async for chunk in chunks:
        done += len(chunk)
        report(done, size)
        yield chunk


def _silent(done: int, total: int | None) -> None:
    """Nobody looks at the progress of a request."""
    del done, total
