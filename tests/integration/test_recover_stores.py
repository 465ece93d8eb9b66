"""A replica in each kind of store is enough to build the log from: read as it stands, beside a run.

The whole story, with a lost broker, is in tests/chaos/test_recover.py, on a folder.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.integration.commands import environ, run
from tests.world import World, random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def rehearse(world: World, replica: str) -> dict[str, Any]:
    """The report of a dry run. Other tests leave damage in this store: it may end with 1."""
    words = ["recover", "--config", str(world.config_path), "--from", replica]
    done = run(world.folder, environ(None, world.folder), *words, "--dry-run", "--json")
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("replica", ["aws", "gcp"])
async def test_a_bucket_is_enough_to_build_the_log_from(http_world: World, replica: str) -> None:
    """Goal: any store of any cloud can be the one that survives.

    Method: a small and a large file; each is proved, in the listing's words, and the state topics
    are kept beside them.
    """
    world = http_world
    async with world.client() as client:
        keys = []
        for size in (400, 300_000):
            uuid, version = await world.put_file(client, random_body(size))
            keys.append(f"public/files/{uuid}.{version}")
        await world.until_everywhere(client, keys)
    report: dict[str, Any] = {}

    async def is_kept() -> bool:
        report.update(await asyncio.to_thread(rehearse, world, replica))
        return bool(report["restored"].get("replicas", 0) >= 3)

    await world.until(is_kept)
    assert report["appended"]["blob"] >= 2
    assert report["appended"]["file"] >= 2
    wrong = {item["key"] for found in report["wrong"].values() for item in found["first"]}
    assert not wrong & set(keys)
