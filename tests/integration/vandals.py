"""Who damages replicas behind our back, and who runs commands about it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.integration.commands import environ, lines, run
from tests.world import World
from tidestore.local.readback import gcs_client, places_of, s3_client


class Vandal:
    """Changes what lies on replicas, with the clouds' own clients."""

    def __init__(self, world: World) -> None:
        self._places = {place.name: place for place in places_of(world.config_path)}
        self._root = world.folder / "onprem"

    def _bucket(self, replica: str) -> str:
        return self._places[replica].url.split("//", 1)[1].split("?", 1)[0].split("/", 1)[0]

    def put(self, replica: str, key: str, body: bytes) -> None:
        if replica == "aws":
            client = s3_client(self._places["aws"])
            client.put_object(Bucket=self._bucket("aws"), Key=key, Body=body)
        elif replica == "gcp":
            client = gcs_client(self._places["gcp"])
            client.bucket(self._bucket("gcp")).blob(key).upload_from_string(body)
        else:
            path = self._root / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(body)

    def delete(self, replica: str, key: str) -> None:
        if replica == "aws":
            s3_client(self._places["aws"]).delete_object(Bucket=self._bucket("aws"), Key=key)
        elif replica == "gcp":
            gcs_client(self._places["gcp"]).bucket(self._bucket("gcp")).blob(key).delete()
        else:
            (self._root / key).unlink()

    def keys(self, replica: str) -> list[str]:
        """All keys of a bucket, bookkeeping included."""
        pages = s3_client(self._places[replica]).get_paginator("list_objects_v2")
        found = pages.paginate(Bucket=self._bucket(replica))
        return [item["Key"] for page in found for item in page.get("Contents", [])]


class Person:
    """Runs commands against a world."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world, self._folder = world, folder
        self._env = environ(world, folder)

    async def scrub(self, replica: str, *words: str, code: int = 0) -> dict[str, Any]:
        config = ("--config", str(self._world.config_path))
        done = await asyncio.to_thread(
            run, self._folder, self._env, "scrub", replica, "--json", *words, *config
        )
        assert done.returncode == code, done.stdout + done.stderr
        done.returncode = 0
        return dict(lines(done)[0])
