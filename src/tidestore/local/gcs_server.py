"""The GCS API of PyPI's gcp-storage-emulator, made fit for thousands of objects.

Three things of the library are replaced, without touching what it answers:

- It rewrites the metadata of all objects at every write, which is quadratic. Here each new object
  is one line of a journal, replayed at start and folded into the library's own file there.
- It serves one connection at a time. Here each has a thread, and a lock keeps requests apart,
  because the library's state has none.
- It reads an object's bytes as an e-mail, which takes seconds for a part of 16 MiB. Here they are
  cut out, and are read before the lock is taken.

What it cannot do (preconditions, checksums, credentials, signed URLs) stays as it is: that is the
declared capability gap of connectors/gcs.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import re
import signal
import threading
from collections.abc import Iterator
from email.parser import BytesParser
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gcp_storage_emulator import server as library
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

_JOURNAL = "journal.jsonl"


class JournaledStorage(Storage):  # type: ignore[misc]  # the library has no types
    """The library's storage with one journal line per new object."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._journal = folder / _JOURNAL
        self._is_muted = True
        super().__init__(data_dir=str(folder))
        self._is_muted = False
        self._replay()

    def _replay(self) -> None:
        if self._journal.exists():
            with self._journal.open(encoding="utf-8") as lines:
                for line in lines:
                    # A kill in the middle of a line leaves a last one that is cut: its write was
                    # not answered, so nobody relies on it.
                    with contextlib.suppress(ValueError):
                        entry = json.loads(line)
                        bucket = self.objects.setdefault(entry["bucket"], {})
                        bucket[entry["name"]] = entry["object"]
        self._write_config_to_file()

    @contextlib.contextmanager
    def _muted(self) -> Iterator[None]:
        self._is_muted = True
        try:
            yield
        finally:
            self._is_muted = False

    def _write_config_to_file(self) -> None:
        if self._is_muted:
            return
        super()._write_config_to_file()
        self._journal.unlink(missing_ok=True)

    def create_file(
        self,
        bucket_name: str,
        file_name: str,
        content: bytes,
        file_obj: dict[str, Any],
        file_id: str | None = None,
    ) -> None:
        """Store an object; its metadata goes to the journal."""
        with self._muted():
            super().create_file(bucket_name, file_name, content, file_obj, file_id)
        entry = {"bucket": bucket_name, "name": file_name, "object": file_obj}
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")

    def create_resumable_upload(
        self, bucket_name: str, file_name: str, file_obj: dict[str, Any]
    ) -> str:
        """Begin an upload; forgotten at a restart, as its client then is told."""
        with self._muted():
            upload_id: str = super().create_resumable_upload(bucket_name, file_name, file_obj)
            return upload_id


class _Cut:
    """One part of a multipart/related body, with the questions that the library asks of it."""

    def __init__(self, part: bytes) -> None:
        self._head, _, self._payload = part.partition(b"\r\n\r\n")

    def get_payload(self, *, decode: bool = False) -> bytes:
        """The bytes as they came; JSON's are read as they are, too."""
        del decode
        return self._payload

    def get_content_type(self) -> str:
        """What the part says that it is."""
        found = re.search(rb"content-type:\s*([^\s;]+)", self._head, re.IGNORECASE)
        return found[1].decode() if found else "application/octet-stream"


class _RelatedParser:
    """Stands in for the library's e-mail parser where a body has two parts: metadata and bytes."""

    def parsebytes(self, text: bytes) -> Any:
        """Parse a body behind its Content-Type line."""
        kind, _, body = text.partition(b"\r\n")
        found = re.search(rb'multipart/related;.*boundary="?([^";]+)"?', kind, re.IGNORECASE)
        if found is None:
            return BytesParser().parsebytes(text)
        mark = b"--" + found[1]
        # The metadata are JSON and hold no mark; the bytes end at the last one.
        start = body.index(mark) + len(mark) + 2
        middle = body.index(b"\r\n" + mark, start)
        end = body.rindex(b"\r\n" + mark)
        parts = [_Cut(body[start:middle]), _Cut(body[middle + len(mark) + 4 : end])]
        return SimpleNamespace(get_payload=lambda: parts)


class _Handler(RequestHandler):  # type: ignore[misc]
    """One request at a time, whatever the number of connections."""

    lock = threading.Lock()
    disable_nagle_algorithm = True
    rfile: Any

    def __init__(self, storage: JournaledStorage, *args: Any) -> None:
        super().__init__(storage, *args)

    def handle_one_request(self) -> None:
        """Handle one request; a client that goes away is no error of ours."""
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    @contextlib.contextmanager
    def _read_and_locked(self) -> Iterator[None]:
        """The request's body is here, and the library's state is ours."""
        length, wire = self.headers.get("Content-Length"), self.rfile
        if length:
            self.rfile = io.BytesIO(wire.read(int(length)))
        try:
            with _Handler.lock:
                yield
        finally:
            self.rfile = wire

    def do_GET(self) -> None:
        """Serve one request, with the library's state to ourselves; so for every method."""
        with _Handler.lock:
            super().do_GET()

    def do_POST(self) -> None:
        """See do_GET."""
        with self._read_and_locked():
            super().do_POST()

    def do_PUT(self) -> None:
        """See do_GET."""
        with self._read_and_locked():
            super().do_PUT()

    def do_PATCH(self) -> None:
        """See do_GET."""
        with _Handler.lock:
            super().do_PATCH()

    def do_DELETE(self) -> None:
        """See do_GET."""
        with _Handler.lock:
            super().do_DELETE()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Workers open up to 16 connections each, and the library answers each with a close.
    request_queue_size = 256


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parsed = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # the library logs an error for every 404
    library.BytesParser = _RelatedParser
    storage = JournaledStorage(parsed.folder.absolute())
    server = _Server(("127.0.0.1", parsed.port), lambda *details: _Handler(storage, *details))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()


if __name__ == "__main__":
    main()
