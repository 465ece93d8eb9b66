"""A gate before a store server that counts what is read of objects, on the wire.

It forwards bytes as they are and reads along, HTTP/1.1 on both ways: which requests were sent on a
connection, and how long the body of each answer was. So it counts what left the server, whatever
the product says of itself. One thread, one event loop.

    client --requests--> [ reader of requests ] --> server
    client <--answers--- [ reader of answers  ] <-- server      method and path of each, in order
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from bench.wire import WireError

_SLICE_BYTES: Final = 256 * 1024
_HEAD_BYTES_MAX: Final = 64 * 1024
_START_SECONDS: Final = 10.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


@dataclass(slots=True)
class Counts:
    """What was read through the gate."""

    # Bodies of answers to GET of an object: below the bucket, without a query that asks for a list.
    object_bytes: int = 0
    object_reads: int = 0
    # All that the server has sent, heads included.
    answered_bytes: int = 0


class Reader:
    """Follows one direction of one connection: head, body, head, body."""

    def __init__(self) -> None:
        self._rest = b""
        # Bytes of the body that are to come; -1: in chunks.
        self._left = 0
        self._chunk_left = 0

    def feed(self, data: bytes) -> None:
        """Read along."""
        self._rest += data
        while self._rest:
            if self._left == -1:
                if not self._pass_chunk():
                    return
            elif self._left:
                taken = min(self._left, len(self._rest))
                self._rest = self._rest[taken:]
                self._left -= taken
                self.passed(taken)
            elif b"\r\n\r\n" in self._rest:
                head, _, self._rest = self._rest.partition(b"\r\n\r\n")
                self._left = self.began(head)
            elif len(self._rest) > _HEAD_BYTES_MAX:
                raise WireError("the head of a message does not end")
            else:
                return

    def began(self, head: bytes) -> int:
        """A head was read; how long its body is."""
        raise NotImplementedError

    def passed(self, size: int) -> None:
        """Bytes of the body went by."""

    def _pass_chunk(self) -> bool:
        """Pass by what is there of a chunk; False when more must come first."""
        if self._chunk_left:
            taken = min(self._chunk_left, len(self._rest))
            self._rest = self._rest[taken:]
            self._chunk_left -= taken
            return True
        line, found, rest = self._rest.partition(b"\r\n")
        if not found:
            return False
        if not line:  # the end of the chunk before
            self._rest = rest
            return True
        size = int(line.split(b";")[0], 16)
        if size == 0:
            if not rest.startswith(b"\r\n"):
                return False
            self._rest, self._left = rest[2:], 0
            return True
        self._rest, self._chunk_left = rest, size
        self.passed(size)
        return True


def body_length(head: bytes) -> int:
    """How long the body after a head is; -1 for chunks."""
    if _CHUNKED.search(head):
        return -1
    found = _LENGTH.search(head)
    return int(found[1]) if found else 0


class Requests(Reader):
    """The client's way: notes which answers will come."""

    def __init__(self) -> None:
        super().__init__()
        # Of each request without an answer yet: its method, and whether it reads an object.
        self.asked: deque[tuple[bytes, bool]] = deque()

    def began(self, head: bytes) -> int:
        """See Reader."""
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
        path, _, query = target.partition(b"?")
        is_object = path.strip(b"/").count(b"/") > 0 and b"list-type" not in query
        self.asked.append((method, method == b"GET" and is_object))
        return body_length(head)


class Answers(Reader):
    """The server's way: counts the bodies that are bytes of objects."""

    def __init__(self, requests: Requests, counts: Counts) -> None:
        super().__init__()
        self._requests = requests
        self._counts = counts
        self._is_object = False

    def began(self, head: bytes) -> int:
        """See Reader."""
        status = int(head.split(b" ", 2)[1])
        self._is_object = False
        if status < 200:  # "go on": the answer itself is to come
            return 0
        method, reads = self._requests.asked.popleft()
        if method == b"HEAD" or status in {204, 304}:
            return 0
        self._is_object = reads and status in {200, 206}
        self._counts.object_reads += self._is_object
        return body_length(head)

    def passed(self, size: int) -> None:
        """See Reader."""
        if self._is_object:
            self._counts.object_bytes += size


@dataclass(slots=True)
class Gate:
    """Listens on `port` and forwards to `server_port`, both on loopback."""

    port: int
    server_port: int
    counts: Counts = field(default_factory=Counts)
    errors: list[str] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _stopping: asyncio.Event | None = None
    _thread: threading.Thread | None = None
    _is_there: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin to forward."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._is_there.wait(_START_SECONDS):
            raise WireError("the gate does not open")

    def stop(self) -> None:
        """End, and cut what is open."""
        if self._loop is not None and self._stopping is not None and self._thread is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(_START_SECONDS)

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self._is_there.set()
        await self._stopping.wait()
        server.close()  # asyncio.run cancels what is still open

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = Requests()
        answers = Answers(requests, self.counts)
        with contextlib.suppress(OSError):
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.server_port)
            await asyncio.gather(
                self._pump(reader, up_writer, requests),
                self._pump(up_reader, writer, answers),
            )

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, along: Reader
    ) -> None:
        try:
            while data := await reader.read(_SLICE_BYTES):
                if isinstance(along, Answers):
                    self.counts.answered_bytes += len(data)
                along.feed(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # one of the two went away; the other is told below
        except (WireError, ValueError, IndexError) as error:
            # What cannot be read along cannot be counted: the load must not believe its figure.
            self.errors.append(f"{type(error).__name__}: {error}")
        finally:
            writer.close()
