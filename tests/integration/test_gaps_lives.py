"""A replica's life and the origin's record: design points 2 and 6, replayed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys

import pytest

from tests.conftest import WorldMaker
from tests.world import random_body

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


async def test_a_lost_replica_is_filled_again_in_its_next_life(make_world: WorldMaker) -> None:
    """Goal: design point 6: of what an earlier life said nothing is believed.

    Method: fill a folder replica, lose it, raise its incarnation, start again; nobody writes anew.
    """
    world = make_world()
    world.start(feeds=0, only=("onprem",))
    bodies = [random_body(500), random_body(50_000)]
    async with world.client() as client:
        keys = [await world.put_blob(client, body) for body in bodies]
        await world.until_present(client, keys, "onprem")
    world.stop()
    shutil.rmtree(world.folder / "onprem")
    # The replica's table is the last one of the file.
    assert list(world.replicas)[-1] == "onprem"
    world.extra_toml = "incarnation = 2"
    world.start(feeds=0, only=("onprem",))
    async with world.client() as client:
        await world.until_present(client, keys, "onprem")
        for key, body in zip(keys, bodies, strict=True):
            found = (world.folder / "onprem" / key).read_bytes()
            assert hashlib.sha256(found).digest() == hashlib.sha256(body).digest()
    assert {record.key for record in world.records("copies.onprem.2")} >= set(keys)


async def test_a_gateway_that_names_another_origin_is_refused(make_world: WorldMaker) -> None:
    """Goal: design point 2: there is one origin, and the log says which.

    Method: start a gateway whose file names another one, beside the first.
    """
    world = make_world()
    world.start(feeds=0, only=("onprem",))
    other = world.folder / "other.toml"
    text = world.config_path.read_text("utf-8")
    other.write_text(text.replace('origin = "aws"', 'origin = "onprem"'), "utf-8")
    done = subprocess.run(
        [
            sys.executable, "-m", "tidestore", "gateway", "--id", "other", "--port", "0",
            "--config", str(other),
        ],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "log says 'aws'" in said
    assert 'set origin = "aws" in tidestore.toml' in said
    assert "Traceback" not in said
    async with world.client() as client:
        await world.put_blob(client, random_body(10))
