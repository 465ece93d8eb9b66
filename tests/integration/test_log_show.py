"""`tidestore log show` prints any topic of a store, whatever event lies in it."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.golden.samples import SAMPLES
from tests.servers.kafka import TestKafka
from tidestore.cli.log import log
from tidestore.config import read_config
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.log import LogWriter
from tidestore.connectors.provision import provision
from tidestore.schemas.events import Event
from tidestore.schemas.generations import GenerationChanged

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]


def closing(event: Event) -> Event:
    """An event as it is, but of a log generation that is not open yet."""
    if isinstance(event, GenerationChanged):
        return replace(event, state="closing")
    return event


async def test_every_topic_is_printed_with_every_event(kafka: TestKafka, tmp_path: Path) -> None:
    """Goal: `log show` prints any topic readably (issue point 4).

    Method: a store of its own on the real broker; in each of its topics a record of each event
    there is, and one that cannot be read; both forms must have a line for each of them.
    """
    config_path = tmp_path / "tidestore.toml"
    config_path.write_text(
        f'origin = "aws"\ndata_folder = "views"\n[kafka]\nbootstrap = "{kafka.bootstrap}"\n'
        f'topic_prefix = "s{uuid.uuid4().hex[:8]}."\npartitions = 2\nreplication = 1\n'
        f'[[replicas]]\nname = "aws"\nurl = "{(tmp_path / "aws").as_uri()}"\n',
        "utf-8",
    )
    config = read_config(config_path, {})
    replicas = [(item.name, item.incarnation) for item in config.replicas]
    specs = config.topics.specs(replicas, list(config.datasets))
    settings = KafkaSettings(kafka.bootstrap)
    await provision(settings, specs, replication=1)
    writer = LogWriter(settings)
    await writer.start()
    # A generation that is open would be the one to show, instead of this store's first.
    samples = {name: closing(event) for name, event in SAMPLES.items()}
    for spec in specs:
        for name, event in samples.items():
            await writer.append(spec.name, spec.partitions - 1, name, event)
        await writer.append_bytes(spec.name, 0, b"broken", b"\0\0\0\0\1")
    await writer.stop()
    names = {name: type(event).__name__ for name, event in SAMPLES.items()}
    assert len(specs) == len({spec.name for spec in specs}) >= 11
    for spec in specs:
        short = spec.name.removeprefix(config.topics.prefix)
        words = ["show", short, "--limit", "0", "--config", str(config_path)]
        told = CliRunner().invoke(log, [*words, "--json"], obj={})
        assert told.exit_code == 0, told.output
        found = [json.loads(line) for line in told.stdout.splitlines()]
        assert {item["key"]: item["event"] for item in found} == {**names, "broken": "unreadable"}
        assert next(item for item in found if item["key"] == "broken")["reason"]
        plain = CliRunner().invoke(log, words, obj={})
        assert plain.exit_code == 0, plain.output
        shown = [line.split()[1:3] for line in plain.stdout.splitlines()]
        assert sorted(shown) == sorted([[item["event"], item["key"]] for item in found]), short
