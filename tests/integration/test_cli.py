"""The command line against a running world: what a person types, as processes of its own."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.commands import COMMAND, Done, check_refusal, environ, lines, run
from tests.servers.processes import free_port
from tests.world import World
from tidestore.schemas.events import ObjectWritten

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def make_tree(root: Path) -> dict[str, bytes]:
    """Four folders, seven files: one empty, two of equal content, one with a name in Japanese."""
    found = {
        "readme.txt": b"hello\n",
        "empty": b"",
        "reads/one.fastq": os.urandom(70_000),
        "reads/two.fastq": os.urandom(5_000_000),
        "reads/deep/資料.txt": "細胞アトラス".encode(),
        "other/same.bin": b"the same" * 100,
        "other/again.bin": b"the same" * 100,
    }
    for name, body in found.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return found


def written(world: World) -> list[str]:
    return [r.key for r in world.records("log") if isinstance(r.event, ObjectWritten)]


def test_a_folder_becomes_bundles_and_a_second_run_skips_it(world: World, tmp_path: Path) -> None:
    """Goal: put of a folder as issue point 9 says.

    Method: put, look at the collection, its bundles and their files; put again: nothing is sent;
    change one file, put again: a new version of it, its bundle and the collection.
    """
    env, tree = environ(world, tmp_path), tmp_path / "tree"
    contents = make_tree(tree)
    (result,) = lines(run(tmp_path, env, "put", "tree", "--json"))
    assert (result["files"], result["skipped"], result["bundles"]) == (7, 0, 4)
    assert result["bytes"] == sum(map(len, contents.values()))
    root_id = uuid.UUID(result["root_id"])

    def bundle_of(folder: str) -> str:
        return str(uuid.uuid5(root_id, f"bundle:{folder}/"))

    (found,) = lines(run(tmp_path, env, "get", result["collection"], "--kind", "collection"))
    assert {item["uuid"] for item in found["contents"]} == {
        bundle_of(folder) for folder in ("", "reads", "reads/deep", "other")
    }
    assert found["name"] == "tree"
    listed = {item["uuid"]: item for item in lines(run(tmp_path, env, "ls", "files", "--json"))}
    for name, body in contents.items():
        item = listed[str(uuid.uuid5(root_id, f"file:{name}"))]
        assert item["name"] == Path(name).name
        assert item["size"] == len(body)

    before = written(world)
    (again,) = lines(run(tmp_path, env, "put", "tree", "--json"))
    assert (again["files"], again["skipped"], again["bundles"]) == (0, 7, 0)
    assert again["root_id"] == result["root_id"]
    assert written(world) == before, "a second run writes nothing"

    (tree / "reads/one.fastq").write_bytes(b"changed")
    (third,) = lines(run(tree, env, "put", ".", "--json"))
    assert (third["files"], third["skipped"], third["bundles"]) == (1, 6, 1)
    new = {key.split("/", 1)[1].partition(".")[0] for key in set(written(world)) - set(before)}
    assert new == {
        f"blobs/{hashlib.sha256(b'changed').hexdigest()}",
        f"files/{uuid.uuid5(root_id, 'file:reads/one.fastq')}",
        f"bundles/{bundle_of('reads')}",
        f"collections/{result['collection']}",
    }


def test_get_brings_back_the_bytes_and_refuses_wrong_ones(world: World, tmp_path: Path) -> None:
    """Goal: what get writes is proved.

    Method: a bundle, a file and a blob come back equal; a copy that was changed on one replica is
    refused, with nothing left under the target's name, and comes from another one.
    """
    env, tree = environ(world, tmp_path), tmp_path / "tree"
    contents = make_tree(tree)
    (result,) = lines(run(tmp_path, env, "put", "tree", "--json"))
    root_id = uuid.UUID(result["root_id"])
    bundle = str(uuid.uuid5(root_id, "bundle:reads/"))
    done = run(tmp_path, env, "get", bundle, "-o", "back")
    assert done.returncode == 0, done.stderr
    back = tmp_path / "back"
    assert {path.name: path.read_bytes() for path in back.iterdir()} == {
        "one.fastq": contents["reads/one.fastq"], "two.fastq": contents["reads/two.fastq"]
    }  # fmt: skip
    file_id = str(uuid.uuid5(root_id, "file:reads/deep/資料.txt"))
    done = run(tmp_path, env, "get", file_id)
    assert done.stdout.strip() == "資料.txt", done.stderr
    assert (tmp_path / "資料.txt").read_bytes() == contents["reads/deep/資料.txt"]
    sha256 = hashlib.sha256(contents["reads/one.fastq"]).hexdigest()
    assert run(tmp_path, env, "get", sha256).returncode == 0
    assert (tmp_path / sha256).read_bytes() == contents["reads/one.fastq"]

    copy = world.folder / "onprem/public/blobs" / sha256
    deadline = time.monotonic() + 40
    while not copy.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    good = copy.read_bytes()
    copy.chmod(0o644)
    copy.write_bytes(b"X" + good[1:])
    try:
        words = ["get", sha256, "--replica", "onprem", "-o", "bad"]
        text = check_refusal(run(tmp_path, env, *words))
        assert "broke off" in text or "sha256" in text
        assert "another --replica" in text
        assert not list(tmp_path.glob("bad*"))
        found = run(tmp_path, env, "verify", "--json", "--config", str(world.config_path))
        assert found.returncode == 1
        rows = {row["replica"]: row for row in map(json.loads, found.stdout.splitlines())}
        assert rows["onprem"]["differ"] == [f"public/blobs/{sha256}"]
        assert rows["aws"]["differ"] == rows["gcp"]["differ"] == []
        assert rows["aws"]["equal"] == rows["aws"]["objects"] > 0
    finally:
        copy.write_bytes(good)


def test_a_put_that_is_killed_goes_on_without_duplicates(world: World, tmp_path: Path) -> None:
    """Goal: resumable over a SIGKILL.

    Method: kill when some files are done; the next run skips these, keeps every version that the
    journal had, and the log has each file and each bundle once.
    """
    tree, journal = tmp_path / "many", tmp_path / "put.sqlite"
    for number in range(240):
        path = tree / f"f{number % 6}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(500))
    env = environ(world, tmp_path)
    words = ["put", "many", "--json", "--journal", str(journal)]
    killed = subprocess.Popen(
        [*COMMAND, *words], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )

    def entries() -> dict[str, tuple[str, int]]:
        if not journal.exists():
            return {}
        db = sqlite3.connect(journal)
        try:
            rows = db.execute("SELECT path, version, is_done FROM entries").fetchall()
        except sqlite3.OperationalError:  # not made yet
            return {}
        finally:
            db.close()
        return {path: (version, done) for path, version, done in rows}

    deadline = time.monotonic() + 60
    while sum(done for _, done in entries().values()) < 30:
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    before = entries()
    assert 0 < sum(done for _, done in before.values()) < 240
    (result,) = lines(run(tmp_path, env, *words))
    assert result["skipped"] >= 30
    assert result["files"] + result["skipped"] == 240
    root_id = uuid.UUID(result["root_id"])
    versions: dict[str, set[str]] = {}
    for key in written(world):
        name, _, version = key.rsplit("/", 1)[1].partition(".")
        versions.setdefault(name, set()).add(version)
    for place, (version, _) in entries().items():
        assert versions[str(uuid.uuid5(root_id, place))] == {version}
        if place in before:
            assert version == before[place][0]


def test_ls_status_and_log_show_what_is_there(world: World, tmp_path: Path) -> None:
    """Goal: readable for people, JSON for programs. Method: both forms of each command."""
    env = environ(world, tmp_path)
    (tmp_path / "a.txt").write_bytes(b"listed " + os.urandom(8).hex().encode())
    root_id = uuid.uuid4()
    lines(run(tmp_path, env, "put", "a.txt", "--json", "--root-id", str(root_id)))
    file_id = str(uuid.uuid5(root_id, "file:a.txt"))
    jobs = [
        ["ls", "files", "--json"],
        ["ls", "files"],
        ["status", "--json"],
        ["status"],
        ["log", "show", "log", "--json", "--limit", "0", "--config", str(world.config_path)],
        ["log", "show", "copies.aws", "--limit", "3", "--config", str(world.config_path)],
    ]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda words: run(tmp_path, env, *words), jobs))
    listed, plain, status, table, records, copies = found
    assert file_id in [item["uuid"] for item in lines(listed)]
    assert any(file_id in line and "a.txt" in line for line in plain.stdout.splitlines())
    (document,) = lines(status)
    assert {item["name"] for item in document["replicas"]} == set(world.replicas)
    assert all(name in table.stdout for name in (*world.replicas, "(origin)", "parked", "lag"))
    shown = [item for item in lines(records) if item["event"] == "ObjectWritten"]
    assert [item["key"] for item in shown if file_id in item["key"]]
    assert len(shown) == len(written(world))
    assert len(copies.stdout.splitlines()) == 3
    assert re.search(r"^ +\d+/\d+ +(CopyChanged|PartitionClaimed) ", copies.stdout, re.MULTILINE)


def test_status_watch_follows_and_ends_with_ctrl_c(world: World, tmp_path: Path) -> None:
    """Goal: a live table. Method: on a terminal, wait for a second drawing, send SIGINT."""
    ours, theirs = pty.openpty()
    env = environ(world, tmp_path, TERM="xterm", COLUMNS="160", LINES="40")
    process = subprocess.Popen(
        [*COMMAND, "status", "--watch"], cwd=tmp_path, env=env,
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(theirs)
    drawn, deadline = b"", time.monotonic() + 60
    while drawn.count(b"objects in the log") < 2:
        assert time.monotonic() < deadline, drawn
        if select.select([ours], [], [], 1)[0]:
            drawn += os.read(ours, 65_536)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=30)
    os.close(ours)
    assert process.returncode == 130
    assert b"Traceback" not in text
    assert b"onprem" in drawn


def test_hooks_are_added_listed_and_removed(world: World, tmp_path: Path) -> None:
    """Goal: `tidestore hook`. Method: all three verbs, each printing JSON."""
    env = environ(world, tmp_path)
    url = f"http://127.0.0.1:{free_port()}/hook"
    (made,) = lines(run(tmp_path, env, "hook", "add", url, "--event", "object.written"))
    assert made["config"]["secret"].startswith("whsec_")
    listed = {item["id"]: item for item in lines(run(tmp_path, env, "hook", "list"))}
    assert listed[made["id"]]["events"] == ["object.written"]
    assert run(tmp_path, env, "hook", "remove", str(made["id"])).returncode == 0
    text = check_refusal(run(tmp_path, env, "hook", "remove", str(made["id"])))
    assert "no such hook" in text
    text = check_refusal(run(tmp_path, env, "hook", "add", "http://10.0.0.1/"))
    assert "hint: " in text


def test_every_command_says_in_one_line_what_is_wrong(world: World, tmp_path: Path) -> None:
    """Goal: an error is one line with a hint, never a trace, and comes soon.

    Method: no gateway, a wrong token, something that is no gateway, no stack, no such object.
    """
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "folder").mkdir()
    for number in range(50):
        (tmp_path / "folder" / f"{number}").write_text(f"{number}")
    nobody = environ(None, tmp_path, TIDESTORE_URL=f"http://127.0.0.1:{free_port()}")
    minio = world.replicas["aws"][0].split("endpoint=")[1].split("&")[0]
    wrong = environ(world, tmp_path, TIDESTORE_TOKEN="wrong")
    right = environ(world, tmp_path)
    stranger = environ(None, tmp_path, TIDESTORE_URL=minio)
    sha256 = hashlib.sha256(b"nothing has this").hexdigest()
    cases: list[tuple[dict[str, str], list[str], str]] = [
        (nobody, ["put", "folder"], "cannot reach the gateway"),
        (nobody, ["get", sha256], "cannot reach the gateway"),
        (nobody, ["get", str(uuid.uuid4())], "cannot reach the gateway"),
        (nobody, ["ls"], "cannot reach the gateway"),
        (nobody, ["status"], "cannot reach the gateway"),
        (nobody, ["hook", "list"], "cannot reach the gateway"),
        (wrong, ["put", "folder"], "token"),
        (wrong, ["hook", "list"], "token"),
        (stranger, ["status"], ""),
        (environ(None, tmp_path, TIDESTORE_URL="nonsense"), ["ls"], "no gateway's address"),
        (environ(None, tmp_path), ["ls"], "no stack lies in"),
        (right, ["get", sha256], ""),
        (right, ["get", "nonsense"], "neither a sha256 nor a uuid"),
        (right, ["get", str(uuid.uuid4()), "--kind", "file"], ""),
        (right, ["ls", "--dataset", "No Such"], "dataset"),
        (right, ["log", "show", "nonsense", "--config", str(world.config_path)], "no topic"),
        (right, ["verify", "--replica", "x", "--config", str(world.config_path)], "no replica"),
        (right, ["worker", "x", "--config", str(world.config_path)], "no replica"),
        (right, ["gateway", "--config", "missing.toml"], "does not exist"),
        (right, ["gateway", "--port", str(world.ports["0"]), "--id", "9", "--config",
                 str(world.config_path)], "cannot serve"),
    ]  # fmt: skip

    def timed(case: tuple[dict[str, str], list[str], str]) -> tuple[Done, float]:
        begun = time.monotonic()
        return run(tmp_path, case[0], *case[1]), time.monotonic() - begun

    with ThreadPoolExecutor(3) as pool:
        for (_, words, expected), (done, seconds) in zip(
            cases, pool.map(timed, cases), strict=True
        ):
            text = check_refusal(done)
            assert expected in text, f"{words}: {text}"
            assert "hint: " in text or ";" in text, f"{words}: {text}"
            assert seconds < 60, f"{words} took {seconds:.0f} s"


def test_a_target_that_cannot_be_written_is_said(world: World, tmp_path: Path) -> None:
    """Goal: get into a folder that is not ours. Method: a folder below a file."""
    env = environ(world, tmp_path)
    body = b"a target " + os.urandom(8)
    (tmp_path / "a.bin").write_bytes(body)
    lines(run(tmp_path, env, "put", "a.bin", "--json"))
    sha256 = hashlib.sha256(body).hexdigest()
    text = check_refusal(run(tmp_path, env, "get", sha256, "-o", "a.bin/below"))
    assert "cannot write" in text
    odd = tmp_path / os.fsdecode(b"odd-\xff.bin")
    odd.write_bytes(b"a name that is no text")
    done = run(tmp_path, env, "put", str(tmp_path / "a.bin"), os.fsdecode(os.fsencode(odd)))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "UTF-8" in done.stderr
