"""`tidestore redact` and `lift`, as an admin types them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.http_calls import Calls, sha256_of
from tests.integration.commands import Done, check_refusal, environ, lines, run
from tests.world import ADMIN_TOKEN, random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


async def test_a_file_is_taken_away_and_brought_back(calls: Calls, tmp_path: Path) -> None:
    """Goal: the two commands do it all. Method: a whole uuid, in one go and lifted; refusals.

    Without --yes and without an answer nothing is changed.
    """
    world, body = calls.world, random_body(60)
    uuid, version = await calls.put_new_file(body)
    target, key = f"public/files/{uuid}", f"public/files/{uuid}.{version}"
    env = environ(world, tmp_path, TIDESTORE_TOKEN=ADMIN_TOKEN)

    async def command(*words: str) -> Done:
        return await asyncio.to_thread(run, tmp_path, env, *words)

    asked = await command("redact", target, "--reason", "withdrawn")
    assert asked.returncode != 0
    assert f"goes: {key}" in asked.stdout
    assert f"goes along: public/blobs/{sha256_of(body)}" in asked.stdout
    assert "beyond our hand" in asked.stdout
    assert (await calls.get(f"/v1/files/{uuid}")).status in (200, 307)

    (done,) = lines(await command("redact", target, "--reason", "withdrawn", "--yes", "--json"))
    assert (done["keys"], done["reason"]) == ([key], "withdrawn")
    told = (await calls.get(f"/v1/files/{uuid}")).problem(410, "redacted")
    assert told["reason"] == "withdrawn"

    (back,) = lines(await command("lift", target, "--reason", "the wrong one", "--json"))
    assert back["keys"] == sorted([key, f"public/blobs/{sha256_of(body)}"])

    async def is_back() -> bool:
        found = await calls.get(f"/v1/files/{uuid}", delivery="stream")
        return found.status == 200 and found.body == body

    await world.until(is_back)
    assert "no decision" in check_refusal(await command("lift", target, "--reason", "again"))
    assert "is no key" in check_refusal(await command("redact", "public/x/y", "--reason", "r"))
    normal = await asyncio.to_thread(
        run, tmp_path, environ(world, tmp_path), "redact", key, "--reason", "r", "--yes"
    )
    assert "may not redact" in check_refusal(normal)
