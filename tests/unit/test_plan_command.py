"""[sources] in the configuration, and `tidestore plan`, which shows what follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tidestore.cli.commands import cli
from tidestore.config import ConfigError, read_config
from tidestore.streams.prices import EgressRule, Place, RequestRule, SourceSettings

_FOUR = """
origin = "aws"
[kafka]
bootstrap = "localhost:9092"
[[replicas]]
name = "aws"
url = "s3://bucket?region=eu-central-1"
[[replicas]]
name = "gcp"
url = "gs://bucket"
[[replicas]]
name = "azure"
url = "az://container?account=one"
[[replicas]]
name = "onprem"
url = "file:///data"
"""
_OURS = """
[sources]
wait_seconds_max = 60
places = { gcp = "gcp/us-central1" }
[[sources.egress]]
from = "aws"
to = "*"
per_gb = 0.001
[[sources.requests]]
at = "azure"
get_per_1000 = 0.1
put_per_1000 = 0.2
"""


def run(folder: Path, *words: str, more: str = "") -> Result:
    path = folder / "tidestore.toml"
    path.write_text(_FOUR + more, "utf-8")
    return CliRunner().invoke(cli, ["plan", "--config", str(path), *words], obj={})


def plan(folder: Path, *words: str, more: str = "") -> dict[str, Any]:
    result = run(folder, *words, "--json", more=more)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_the_plan_shows_the_cheapest_way_and_why(tmp_path: Path) -> None:
    """Goal: a person sees what a write costs. Method: 1 GB at list prices, as JSON and a table."""
    found = plan(tmp_path)
    assert found["origin_reads_per_byte"] == 1
    assert found["dollars"] == pytest.approx(0.09, abs=1e-3)
    assert found["dollars_if_all_read_the_origin"] == pytest.approx(0.27, abs=1e-3)
    copies = {copy["target"]: copy for copy in found["copies"]}
    assert copies["gcp"]["source"] == "onprem"
    assert copies["gcp"]["order"] == ["onprem", "azure", "aws"]
    assert copies["gcp"]["wait_seconds_max"] == 50
    assert "waits up to 50 s" in " ".join(copies["gcp"]["why"])
    assert len(found["edges"]) == 12
    assert all(item["source"] for item in found["price_lists"])
    shown = run(tmp_path).output
    assert "aws: 1 times." in " ".join(shown.split())


def test_a_small_difference_is_not_waited_for(tmp_path: Path) -> None:
    """Goal: no chain of waits for three per cent. Method: without a place of one's own."""
    clouds = _FOUR.split('[[replicas]]\nname = "onprem"', maxsplit=1)[0]
    path = tmp_path / "tidestore.toml"
    path.write_text(clouds, "utf-8")
    result = CliRunner().invoke(cli, ["plan", "--config", str(path), "--json"], obj={})
    found = json.loads(result.output)
    assert found["origin_reads_per_byte"] == 2
    told = {copy["target"]: copy for copy in found["copies"]}["gcp"]
    assert (told["source"], told["wait_seconds_max"]) == ("aws", 0)
    assert "too little to wait for" in told["why"][1]


def test_what_rides_in_its_event_reads_nothing(tmp_path: Path) -> None:
    """Goal: small objects cost requests alone. Method: a size at the bound, and one above it."""
    inline = plan(tmp_path, "--size", "32KiB")
    assert inline["origin_reads_per_byte"] == 0
    assert {copy["source"] for copy in inline["copies"]} == {"event"}
    assert inline["dollars"] == pytest.approx(3 * 5e-6)
    assert plan(tmp_path, "--size", "32769")["origin_reads_per_byte"] == 1


def test_a_site_s_own_prices_change_the_plan(tmp_path: Path) -> None:
    """Goal: what a site pays decides. Method: rules by which leaving the origin costs little."""
    found = plan(tmp_path, "--size", "10 MB", more=_OURS)
    edges = {(edge["source"], edge["target"]): edge for edge in found["edges"]}
    assert edges["aws", "gcp"]["per_gb"] == 0.001
    assert edges["aws", "azure"]["put_per_1000"] == pytest.approx(0.2)
    assert found["places"]["gcp"] == "gcp/us-central1"
    wrong = plan(tmp_path, more=_OURS.replace('at = "azure"', 'at = "elsewhere"'))
    assert wrong["rules_unused"] == ["requests at elsewhere: no replica is elsewhere"]


@pytest.mark.parametrize("words", [["--size", "3x"], ["--size", "0"], ["--origin", "nobody"]])
def test_what_cannot_be_planned_is_refused(tmp_path: Path, words: list[str]) -> None:
    """Goal: a mistake is told, not planned for. Method: wrong sizes, a replica that is none."""
    result = run(tmp_path, *words)
    assert result.exit_code == 2
    assert words[1] in result.output + result.stderr


def test_every_key_has_its_effect(tmp_path: Path) -> None:
    """Goal: what is written is what workers are told. Method: all keys at once."""
    path = tmp_path / "tidestore.toml"
    path.write_text(_FOUR + _OURS, "utf-8")
    expected = SourceSettings(
        {"gcp": Place("gcp", "us-central1")}, (EgressRule("aws", "*", 0.001),),
        (RequestRule("azure", 0.1, 0.2),), 60.0,
    )  # fmt: skip
    assert read_config(path, {}).worker("gcp").sources == expected


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("per_gb = 0.001", "per_gb = -1", "sources.egress number 1.per_gb"),
        ("per_gb = 0.001", 'per_gb = "1"', "must be dollars"),
        ("per_gb = 0.001", "per_tb = 1", "'per_tb' is not known here"),
        ('from = "aws"', "", "sources.egress number 1.from"),
        ("wait_seconds_max = 60", "wait_seconds_max = true", "sources.wait_seconds_max"),
        ("wait_seconds_max = 60", "wait = 1", "'wait' is not known here"),
        ('"gcp/us-central1"', '"/us-central1"', "sources.places.gcp"),
        ("[[sources.egress]]", "[sources.egress]", "must be a list of tables"),
    ],
)
def test_a_mistake_names_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    """Goal: one line that says where and what. Method: one mistake at a time."""
    path = tmp_path / "tidestore.toml"
    assert old in _OURS
    path.write_text(_FOUR + _OURS.replace(old, new), "utf-8")
    with pytest.raises(ConfigError, match=r"tidestore.toml") as caught:
        read_config(path, {})
    assert told in str(caught.value)
