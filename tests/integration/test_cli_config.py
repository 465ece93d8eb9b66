"""`tidestore config check`: each mistake by itself, and what a sound file names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.commands import check_refusal, environ, lines, run
from tests.servers.processes import free_port
from tests.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

GOOD = """\
origin = "a"
[kafka]
bootstrap = "127.0.0.1:1"
[[replicas]]
name = "a"
url = "file:///nowhere"
"""


@pytest.mark.parametrize(
    ("text", "where", "remedy"),
    [
        ("origin = ", "tidestore.toml", "Invalid value"),
        (GOOD.replace('bootstrap = "127.0.0.1:1"', ""), "kafka.bootstrap", "write bootstrap"),
        (GOOD.replace('url = "file:///nowhere"', ""), "replicas number 1.url", "write url"),
        (GOOD.replace("file:", "ftp:"), "replica url", "one of "),
        (GOOD.replace('origin = "a"', 'origin = "b"'), "origin", "none of the replicas: a"),
        (GOOD + '[[replicas]]\nname = "a"\nurl = "memory://"\n', "replicas", "its own"),
        (GOOD + "[gateway]\nports = 1\n", "gateway", "known are admins, host, port, tokens"),
        (GOOD + '[gateway]\nport = "x"\n', "gateway.port", "whole number"),
        (GOOD + '[gateway]\ntokens = { me = "clear" }\n', "gateway.tokens.me", "sha256"),
        (GOOD + '[hooks]\nseal_key = "secret"\n', "hooks.seal_key", "env:NAME"),
        (GOOD + '[hooks]\nseal_key = "env:NOT_SET_1"\n', "hooks.seal_key", "set it first"),
        (GOOD + '[hooks]\nseal_key = "file:no"\n', "hooks.seal_key", "cannot read"),
        (GOOD + '[hooks]\nnetworks = ["10.0.0.1/8"]\n', "hooks.networks", "like 10.1.0.0/16"),
        (GOOD + "[limits]\npage_items_max = -1\n", "limits.page_items_max", "number"),
        ("colour = 1\n" + GOOD, "the file", "known are"),
    ],
    ids=lambda value: value.replace("\n", " ")[-40:] if "\n" in value else "",
)  # fmt: skip
def test_config_check_names_each_mistake_its_place_and_its_remedy(
    tmp_path: Path, text: str, where: str, remedy: str
) -> None:
    """Goal: a mistake is what, where, and what to do; exit code 2. Method: one at a time."""
    (tmp_path / "tidestore.toml").write_text(text, "utf-8")
    said = check_refusal(run(tmp_path, environ(None, tmp_path), "config", "check", "--offline"), 2)
    assert where in said
    assert remedy in said


def test_config_check_asks_everything_that_the_file_names(world: World, tmp_path: Path) -> None:
    """Goal: sound is 0, what does not answer 1. Method: the world's file; a file of dead places."""
    env = environ(None, tmp_path)
    words = ["config", "check", "--json", "--config"]
    rows = lines(run(tmp_path, env, *words, str(world.config_path)))
    assert [row["ok"] for row in rows] == [True] * 5
    text = world.config_path.read_text("utf-8")
    minio = world.replicas["aws"][0].split("endpoint=")[1].split("&")[0]
    dead = tmp_path / "dead.toml"
    dead.write_text(text.replace(minio, f"http://127.0.0.1:{free_port()}"), "utf-8")
    done = run(tmp_path, env, *words, str(dead))
    check_refusal(done)
    found = {row["what"]: row["ok"] for row in map(json.loads, done.stdout.splitlines())}
    assert found["replica aws"] is False
    assert found["replica gcp"] is True
