"""config/: every mistake is one line that names the file, the place and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidestore.config import Config, ConfigError, read_config
from tidestore.schemas.topics import DAY_MS

_DIGEST = "a" * 64
_GOOD = f"""
origin = "aws"
datasets = ["private"]
[kafka]
bootstrap = "localhost:9092"
password = "env:KAFKA"
security = {{ "sasl.mechanism" = "PLAIN" }}
replay_hours = 24
[gateway]
port = 81
tokens = {{ ana = "{_DIGEST.upper()}" }}
[hooks]
seal_key = "file:seal"
networks = ["10.0.0.0/8"]
[limits]
link_seconds = 60
[[replicas]]
name = "aws"
url = "s3://bucket/prefix"
credentials = {{ secret_key = "plain:x" }}
[[replicas]]
name = "onprem"
url = "file:///data"
incarnation = 2
[[staging]]
name = "in"
url = "s3://staging"
"""


def _read(folder: Path, text: str) -> Config:
    path = folder / "tidestore.toml"
    path.write_text(text, "utf-8")
    (folder / "seal").write_text("sealed \n", "utf-8")
    return read_config(path, {"KAFKA": "pw"})


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    """Goal: every word has its effect. Method: a file with all sections."""
    config = _read(tmp_path, _GOOD)
    assert (config.origin, config.datasets) == ("aws", ("public", "private"))
    assert (config.kafka.bootstrap, config.kafka.password.reveal()) == ("localhost:9092", "pw")
    assert config.kafka.security == {"sasl.mechanism": "PLAIN"}
    assert config.tokens == {_DIGEST: "ana"}
    assert config.seal_key.reveal() == "sealed"
    assert config.hook_networks == ("10.0.0.0/8",)
    assert config.topics.windows.replay_ms == DAY_MS
    assert config.topics.windows.redaction_ms == 2 * DAY_MS
    assert config.replicas[0].address.secret("secret_key") == "x"
    assert config.replicas[1].incarnation == 2
    assert config.staging[0].url == "s3://staging"
    assert config.limits.link_seconds == 60
    assert config.data_folder == tmp_path / "data"
    gateway, worker, feeds = config.gateway("7", 5), config.worker("onprem", "3"), config.feeds("1")
    assert (gateway.port, gateway.gateway_id, config.gateway().port) == (5, "7", 81)
    assert gateway.data_folder == tmp_path / "data" / "gateway-7"
    assert (worker.replica.incarnation, worker.worker_id) == (2, "3")
    assert len(worker.replicas) == len(feeds.replicas) == 2
    with pytest.raises(ConfigError, match="no replica 'gcp'; configured are aws, onprem"):
        config.worker("gcp")
    # A process may serve one that the topic alone knows.
    serving = config.serving("gcp", "3")
    assert (serving.name, serving.data_folder.name) == ("gcp", "worker-gcp-3")
    made = serving.make_worker(config.served[1], config.served, False)
    assert (made.replica.name, made.worker_id, made.scrub) == ("onprem", "3", worker.scrub)


def test_a_small_configuration_has_defaults_fit_for_production(tmp_path: Path) -> None:
    """Goal: safe when nothing is said. Method: bootstrap and one replica alone."""
    small = '[kafka]\nbootstrap = "k"\n[[replicas]]\nname = "a"\nurl = "memory://x"\n'
    config = _read(tmp_path, small)
    assert (config.origin, config.topics.replication, config.host) == ("a", 3, "127.0.0.1")
    assert config.datasets == ("public",)
    assert not config.seal_key
    assert not config.tokens
    assert not config.is_local


MISTAKES = {
    "a typo at the top": ('origin = "aws"', 'orgin = "aws"', "the file: 'orgin' is not known"),
    "a typo in a section": ("replay_hours", "replay_days", "kafka: 'replay_days' is not known"),
    "a typo in a list": ("incarnation", "life", "replicas number 2: 'life' is not known"),
    "no TOML": ("[kafka]", "[kafka", "toml"),
    "no bootstrap": ('bootstrap = "localhost:9092"', "", "kafka.bootstrap: is missing"),
    "a number for a text": ('"localhost:9092"', "1", "kafka.bootstrap: must be a text"),
    "a text for a number": ("port = 81", 'port = "81"', "gateway.port: must be a whole number"),
    "true for a number": ("port = 81", "port = true", "gateway.port: must be a whole number"),
    "a negative number": ("port = 81", "port = -1", "at least 0"),
    "no first life": ("incarnation = 2", "incarnation = 0", "at least 1"),
    "windows too tight": (
        "replay_hours = 24",
        "replay_hours = 24\nredaction_hours = 24",
        "more than replay_hours",
    ),
    "an origin that is none": ('origin = "aws"', 'origin = "gcp"', "none of the replicas"),
    "an origin with a bad name": ('origin = "aws"', 'origin = "A/B"', "1 to 40 of a-z"),
    "a bad dataset": ('["private"]', '["Private"]', "1 to 40 of a-z"),
    "a replica twice": ('name = "onprem"', 'name = "aws"', "two have the same name"),
    "a bad replica name": ('name = "onprem"', 'name = "on.prem"', "1 to 40 of a-z"),
    "an unknown cloud": ("file:///data", "ftp://x", "one of"),
    "an unknown staging": ("s3://staging", "ftp://x", "one of"),
    "no url": ('url = "file:///data"', "", "replicas number 2.url: is missing"),
    "a secret in the open": ('"env:KAFKA"', '"hunter2"', 'must be "env:NAME" or "file:PATH"'),
    "a variable that is not set": ('"env:KAFKA"', '"env:NONE"', "no variable NONE"),
    "a file that is not there": ('"file:seal"', '"file:none"', "cannot read"),
    "credentials that are none": ('{ secret_key = "plain:x" }', '"x"', "a table of names"),
    "a token in the open": (_DIGEST.upper(), "hunter2", "sha256 of the token, in hex"),
    "tokens that are none": (f'{{ ana = "{_DIGEST.upper()}" }}', "1", "must be a table"),
    "networks that are none": ('["10.0.0.0/8"]', '"10.0.0.0/8"', "must be a list"),
    "a bad network": ("10.0.0.0/8", "10.0.0.1/8", "10.0.0.1/8"),
    "a bad limit": ("link_seconds = 60", "link_seconds = -1", "limits.link_seconds"),
    "an unknown limit": ("link_seconds", "link_hours", "link_hours"),
    "security that is none": ('{ "sasl.mechanism" = "PLAIN" }', "1", "librdkafka's settings"),
    "a section that is none": ("[hooks]", "[[hooks]]", "must be a table: [hooks]"),
    "a list that is none": ("[[staging]]", "[staging]", "must be a list of tables: [[staging]]"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_with_place_and_remedy(tmp_path: Path, case: str) -> None:
    """Goal: a person mends it without us. Method: break one thing in a good file."""
    before, after, words = MISTAKES[case]
    assert before in _GOOD
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, _GOOD.replace(before, after, 1))
    text = str(caught.value)
    assert words in text
    assert str(tmp_path / "tidestore.toml") in text
    assert "\n" not in text
    assert "hunter2" not in text


def test_no_replica_and_no_file_are_mistakes_too(tmp_path: Path) -> None:
    """Goal: the first start says what to do. Method: an empty folder, a file without replicas."""
    with pytest.raises(ConfigError, match="`tidestore run` makes one"):
        read_config(tmp_path / "none.toml", {})
    with pytest.raises(ConfigError, match=r"add \[\[replicas\]\]"):
        _read(tmp_path, '[kafka]\nbootstrap = "k"\n')
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        read_config(tmp_path / "bad.toml", {})
