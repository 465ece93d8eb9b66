"""The first object of a stack: written, and shown as it arrives on each replica."""

from __future__ import annotations

import asyncio
import hashlib
import time

from rich.console import Console

from tidestore.client import Client, ClientError
from tidestore.local.stack import Stack

_TEXT = b"The tide carries every object to every shore.\n"
_SECONDS_MAX = 30.0


def show_first_write(stack: Stack, console: Console) -> None:
    """Write the first object, at the first start; at later ones see that it is still there.

    When it is on every replica, every worker is at work: callers that measure begin after this.
    """
    sha256 = hashlib.sha256(_TEXT).hexdigest()
    token = stack.layout.token.read_text("utf-8").strip()

    async def work() -> None:
        async with Client(stack.state["url"], token) as client:
            begun = time.monotonic()
            answer = await client.put(f"/v1/blobs/{sha256}", body=_TEXT, size=len(_TEXT))
            word = "wrote a first object" if stack.is_first_start else "the first object is there"
            console.print(f"{word}: position {answer['position']}", markup=False)
            seen: set[str] = set()
            while time.monotonic() - begun < _SECONDS_MAX:
                found = await client.get(f"/v1/blobs/{sha256}/copies")
                for copy in found["copies"]:
                    if copy["state"] == "present" and copy["replica"] not in seen:
                        seen.add(copy["replica"])
                        waited = (time.monotonic() - begun) * 1000
                        place = f"{copy['replica']:<7} after {waited:5.0f} ms  {copy['url']}"
                        console.print(f"  present on {place}", markup=False, soft_wrap=True)
                if len(seen) == len(found["copies"]):
                    return
                await asyncio.sleep(0.02)
            console.print("  not on every replica yet; `tidestore status` shows the rest")

    try:
        asyncio.run(work())
    except ClientError as error:
        console.print(f"the first write did not succeed: {error} ({error.hint})", markup=False)
