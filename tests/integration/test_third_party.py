"""A third party's replica: invited, kept by its own process, obeying redactions, gone again."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.http_calls import Calls, sha256_of
from tests.integration.commands import COMMAND, Done, check_refusal, environ, lines, run
from tests.integration.redacting import redact
from tests.servers.processes import Process
from tests.world import ADMIN_TOKEN, new_uuid, new_version, random_body
from tidestore.client import Client
from tidestore.client.kit.follow import Follower
from tidestore.client.kit.leaving import join as take_part
from tidestore.client.kit.state import State
from tidestore.connectors.credentials import StoreAddress
from tidestore.connectors.marker import PlaceRefusedError
from tidestore.connectors.registry import make_store

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

DATASET = "lab"
# Over what is held in memory, so that it takes the way of large objects.
LARGE = 9 * 1024 * 1024


class Kit:
    """One third party: its token, its folder of objects, its machine's folder."""

    def __init__(self, calls: Calls, folder: Path, name: str, token: str) -> None:
        self.calls, self.folder, self.name, self.token = calls, folder, name, token
        self.problems: list[str] = []
        self.place = folder / "objects"
        self.place.mkdir()
        self.env = environ(None, folder, TIDESTORE_TOKEN=token)

    async def command(self, word: str, *words: str, **env: str) -> Done:
        """`tidestore replica WORD` on its machine."""
        url = self.calls.world.url()
        full = ("replica", word, url, "--state", str(self.folder / "state"), *words)
        return await asyncio.to_thread(run, self.folder, self.env | env, *full)

    async def join(self) -> dict[str, int]:
        """Go to the end of the feed, as `join --once` does, in this process; what there is then."""
        store = make_store(self.name, StoreAddress.parse(f"file://{self.place}"))
        state = State(self.folder / "state")
        try:
            async with Client(self.calls.world.url(), self.token) as client:
                party = await take_part(client, store, state, self.name)
                await Follower(client, store, state, self.name, party["datasets"]).catch_up()
            self.problems = [problem for _, problem in state.problems(10)]
            return state.counts()
        finally:
            state.close()
            await store.close()

    def begin(self, log: str) -> Process:
        """Keep the replica until it is ended."""
        words = ["replica", "join", self.calls.world.url(), "--state", str(self.folder / "state")]
        words += ["--to", f"file://{self.place}"]
        found = Process("kit", [*COMMAND, *words], self.folder / f"{log}.log", environ=self.env)
        found.start()
        return found

    def objects(self) -> dict[str, str]:
        """What lies in its store: sha256 by key."""
        return {
            str(path.relative_to(self.place)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.place.rglob("*")
            if path.is_file() and ".tidestore" not in path.parts
        }

    async def claims(self) -> dict[str, tuple[str, str]]:
        """What the store has written down: state and verdict by key."""
        found: dict[str, tuple[str, str]] = {}
        after = ""
        while True:
            page = await self.calls("GET", f"/v1/replicas/{self.name}/receipts", after=after)
            assert page.status == 200, page.body
            for item in page.json["items"]:
                found[item["key"]] = (item["state"], item["verdict"])
            if "next" not in page.json:
                return found
            after = page.json["next"]


@pytest.fixture
async def kit(calls: Calls, tmp_path: Path) -> AsyncIterator[Kit]:
    """Somebody who was invited to a controlled dataset; sent away afterwards."""
    name = f"mirror-{new_uuid()[:8]}"
    document = {"name": name, "datasets": [DATASET]}
    invited = await calls("POST", "/v1/parties", document=document, token=ADMIN_TOKEN)
    assert invited.status == 201, invited.body
    yield Kit(calls, tmp_path, name, invited.json["token"])
    gone = await calls("DELETE", f"/v1/parties/{name}", token=ADMIN_TOKEN)
    assert gone.status in (204, 404), gone.body


async def write_tree(calls: Calls) -> dict[str, str]:
    """One object of each kind, and a large blob; sha256 of the blobs by key."""
    bodies = [random_body(300), random_body(LARGE)]
    for body in bodies:
        written = await calls.put_blob(body, dataset=DATASET)
        assert written.status == 201, written.body
    version, file, bundle, collection = new_version(), new_uuid(), new_uuid(), new_uuid()
    documents: list[tuple[str, Any]] = [
        (f"/v1/files/{file}", {"blob": sha256_of(bodies[0]), "name": "a.txt"}),
        (
            f"/v1/bundles/{bundle}",
            {"files": [{"uuid": file, "version": version, "name": "a.txt"}]},
        ),
        (
            f"/v1/collections/{collection}",
            {"name": "c", "contents": [{"kind": "bundle", "uuid": bundle, "version": version}]},
        ),
    ]
    found = {f"{DATASET}/blobs/{sha256_of(body)}": sha256_of(body) for body in bodies}
    for path, document in documents:
        answer = await calls("PUT", path, document=document, version=version, dataset=DATASET)
        assert answer.status == 201, answer.body
        key = answer.json["key"]
        stored = await calls("GET", "/v1/objects", key=key, delivery="stream")
        found[key] = sha256_of(stored.body)
    return found


async def check_not_counted(calls: Calls, kit: Kit, keys: Iterable[str]) -> None:
    """What a party claims is no copy of the store's own."""
    for key in keys:
        kind, name = key.split("/")[1:]
        identity, _, version = name.partition(".")
        copies = await calls(
            "GET", f"/v1/{kind}/{identity}/copies", dataset=DATASET, version=version or None
        )
        assert kit.name not in {copy["replica"] for copy in copies.json["copies"]}


async def until_announced(calls: Calls, keys: set[str]) -> None:
    """Wait until the feed tells of these keys: its worker is another process."""
    left, cursor = set(keys), None

    async def is_told() -> bool:
        nonlocal cursor
        page = await calls("GET", "/v1/changes", dataset=DATASET, after=cursor, wait=1, limit=1000)
        cursor = page.json["next"]
        left.difference_update(change["data"]["key"] for change in page.json["changes"])
        return not left

    await calls.world.until(is_told, 60)


async def test_a_replica_is_kept_and_left_without_a_trace(calls: Calls, kit: Kit) -> None:
    """Goal: the kit does what docs/run-a-replica.md says, from invitation to leaving.

    Method: the commands; all kinds of object and a large one; joined twice; a redaction; what is
    claimed is read through the API, what is there from the folder; then leave.
    """
    written = await write_tree(calls)
    await until_announced(calls, set(written))
    (done,) = lines(await kit.command("join", "--to", f"file://{kit.place}", "--once", "--json"))
    assert done["owed"] == done["untold"] == 0
    there = kit.objects()
    assert written.items() <= there.items()
    assert all(key.startswith(f"{DATASET}/") for key in there), "of its dataset alone"
    claims = await kit.claims()
    assert claims == dict.fromkeys(there, ("stored", "claimed"))
    await check_not_counted(calls, kit, written)
    assert (await kit.join())["stored"] == done["stored"]

    env = environ(calls.world, kit.folder, TIDESTORE_TOKEN=ADMIN_TOKEN)
    words = ("replica", "parties", "--json")
    listed = lines(await asyncio.to_thread(run, kit.folder, env, *words))
    (counts,) = [item["receipts"] for item in listed if item["name"] == kit.name]
    assert [(item["state"], item["objects"]) for item in counts] == [("stored", len(there))]
    words = ("replica", "invite", kit.name)
    again = await asyncio.to_thread(run, kit.folder, env, *words)
    assert "is invited already" in check_refusal(again)

    (file,) = [key for key in written if "/files/" in key]
    uuid, _, version = file.rsplit("/", 1)[1].partition(".")
    answer = await redact(calls, f"/v1/files/{uuid}", version=version, dataset=DATASET)
    assert answer.status in (200, 202), answer.body
    after = await kit.join()
    assert after["removed"] >= 2, "the file, and its blob along with it"
    left = kit.objects()
    assert file not in left
    claims = await kit.claims()
    assert claims[file] == ("removed", "claimed")
    assert {key for key, (state, _) in claims.items() if state == "stored"} == left.keys()

    left_done = await kit.command("leave", "--delete-objects")
    assert left_done.returncode == 0, left_done.stderr
    assert not [path for path in kit.place.rglob("*") if path.is_file()]
    assert not (kit.folder / "state").exists()
    gone = await calls("GET", "/v1/changes", dataset=DATASET, token=kit.token)
    gone.problem(401, "unauthorized")
    (await calls("GET", f"/v1/replicas/{kit.name}/receipts")).problem(404, "unknown_party")


async def test_a_kit_that_is_killed_goes_on_and_tells_all(calls: Calls, kit: Kit) -> None:
    """Goal: nothing is lost, doubled or left half, wherever it dies; nothing is overwritten.

    Method: SIGKILL as soon as some objects are there, twice; then to the end. One object lies there
    as a kit leaves it that died before it wrote that down, another key is taken by other bytes.
    """
    (kit.place / "theirs").write_bytes(b"x")
    with pytest.raises(PlaceRefusedError, match="no replica of ours"):
        await kit.join()
    (kit.place / "theirs").unlink()
    await kit.join()
    before = len(kit.objects())
    bodies = [random_body(200) for _ in range(40)]
    wanted = {f"{DATASET}/blobs/{sha256_of(body)}": sha256_of(body) for body in bodies}
    ours, other = list(wanted)[:2]
    for key, body in ((ours, bodies[0]), (other, b"other bytes")):
        (kit.place / key).parent.mkdir(parents=True, exist_ok=True)
        (kit.place / key).write_bytes(body)
    await asyncio.gather(*(calls.put_blob(body, dataset=DATASET) for body in bodies))
    await until_announced(calls, set(wanted))
    for number, more in enumerate((3, 20)):
        process = kit.begin(f"killed-{number}")

        async def are_there(least: int = before + more) -> bool:
            return len(kit.objects()) >= least

        await calls.world.until(are_there)
        process.kill()
    assert (await kit.join())["owed"] == 1
    assert kit.problems == [f"other bytes lie under {other}: move them away by hand"]
    assert (kit.place / other).read_bytes() == b"other bytes"
    (kit.place / other).unlink()
    done = await kit.join()
    assert done["owed"] == done["untold"] == 0
    assert wanted.items() <= kit.objects().items()
    assert wanted.keys() <= (await kit.claims()).keys()


async def test_a_running_kit_hears_at_once_and_ends_when_it_is_sent_away(
    calls: Calls, kit: Kit
) -> None:
    """Goal: it waits at the feed's end, and a worthless token ends it.

    Method: a process at the end, an object written, its copy; then sent away.
    """
    process = kit.begin("kit")
    try:
        body = random_body(90)
        assert (await calls.put_blob(body, dataset=DATASET)).status == 201
        key = f"{DATASET}/blobs/{sha256_of(body)}"

        async def is_claimed() -> bool:
            return (await kit.claims()).get(key) == ("stored", "claimed")

        await calls.world.until(is_claimed)
        env = environ(calls.world, kit.folder, TIDESTORE_TOKEN=ADMIN_TOKEN)
        words = ("replica", "send-away", kit.name)
        sent = await asyncio.to_thread(run, kit.folder, env, *words)
        assert "beyond our hand" in sent.stdout, sent.stderr

        later = random_body(90)
        assert (await calls.put_blob(later, dataset=DATASET)).status == 201

        async def has_ended() -> bool:
            return process.exit_code() is not None

        await calls.world.until(has_ended, 60)
        assert "tidestore replica leave" in process.last_words()
        assert kit.objects()[key] == sha256_of(body), "its copies are its own"
        assert f"{DATASET}/blobs/{sha256_of(later)}" not in kit.objects()
    finally:
        process.end()
