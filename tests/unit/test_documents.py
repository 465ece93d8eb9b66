"""Documents are part of the product: what they name exists, and what exists is named.

Held for every Markdown file of ours. A wrong document is a bug, so each finding names its line.
"""

from __future__ import annotations

import base64
import json
import re
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.ours import ROOT, our_files, text_of

from tidestore.api.hooks.schedule import STEPS_SECONDS
from tidestore.api.metrics import GatewayMetrics
from tidestore.api.settings import Limits
from tidestore.cli.commands import cli
from tidestore.config.read import _KNOWN
from tidestore.connectors.errors import StoreError
from tidestore.connectors.registry import factory_of
from tidestore.connectors.webhook import sign_github, sign_standard
from tidestore.schemas.catalogue import newest_schemas
from tidestore.schemas.events import ChangeType, CopyState
from tidestore.schemas.objects import PUBLIC, ReplicaName
from tidestore.schemas.topics import VALUE_BYTES_MAX, Topics
from tidestore.streams.metrics import WorkerMetrics

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_KINDS = {"feature", "change", "bugfix", "security"}
# Fences that show what somebody types; others show what comes back, and data.
_TYPED = {"bash", "sh"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of code in a document: in a fence of some language, or in a span (language "")."""

    name: str
    number: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.name}:{self.number}: {self.text.strip()[:80]}"


def documents() -> list[str]:
    """Our Markdown files."""
    found = [name for name in our_files() if name.endswith(".md")]
    assert {"README.md", "docs/architecture.md", "docs/configuration.md"} <= set(found)
    return found


@cache
def code_lines() -> tuple[Line, ...]:
    """Every line of code in every document."""
    found: list[Line] = []
    for name in documents():
        text = text_of(name)
        prose = list(text)
        for match in _FENCE.finditer(text):
            first = text.count("\n", 0, match.start(2)) + 1
            lines = match[2].replace("\\\n", " \n").splitlines()
            found += [
                Line(name, first + n, match[1] or "text", line) for n, line in enumerate(lines)
            ]
            for place in range(match.start(), match.end()):
                if prose[place] != "\n":
                    prose[place] = " "
        blank = "".join(prose)
        found += [
            Line(name, blank.count("\n", 0, match.start()) + 1, "", match[1])
            for match in _SPAN.finditer(blank)
        ]
    assert any(line.language == "bash" for line in found)
    return tuple(found)


def typed_lines() -> Iterator[Line]:
    """What a reader is told to type, or is told of in a sentence."""
    yield from (line for line in code_lines() if line.language in _TYPED or not line.language)


def anchors_of(name: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    text = _FENCE.sub("", text_of(name))
    plain = (re.sub(r"[`*\[\]]|\(.*?\)", "", match[1]).lower() for match in _HEADING.finditer(text))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def test_every_relative_link_leads_somewhere() -> None:
    """Goal: no dead link. Method: resolve each; an anchor must be a heading of its document."""
    findings, count = [], 0
    for name in documents():
        for target in _LINK.findall(_FENCE.sub("", text_of(name))):
            if re.match(r"[a-z]+:", target):
                continue
            count += 1
            path, _, anchor = target.partition("#")
            place = ((ROOT / name).parent / path).resolve() if path else ROOT / name
            if not place.exists() or not place.is_relative_to(ROOT):
                findings.append(f"{name}: {target} is not there")
            elif anchor and anchor not in anchors_of(str(place.relative_to(ROOT))):
                findings.append(f"{name}: {target} has no such heading")
    assert count > 20
    assert not findings, "\n".join(findings)


def test_every_make_verb_exists() -> None:
    """Goal: what a reader types works. Method: compare with the Makefile's targets."""
    verbs = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    named = [(line, verb) for line in typed_lines()
             for verb in re.findall(r"(?:^|[;&|] *|\s)make ([a-z]+)\b", line.text)]  # fmt: skip
    assert {"run", "test", "demo", "smoke", "check"} <= {verb for _, verb in named}
    findings = [f"{line.place}: no verb {verb}" for line, verb in named if verb not in verbs]
    assert not findings, "\n".join(findings)


def find_command(words: list[str]) -> tuple[click.Command | None, str]:
    """The command that words lead to, or None and the word that leads nowhere."""
    command: click.Command = cli
    for word in words:
        if not isinstance(command, click.Group):
            break
        if word.startswith("-"):
            continue
        if not re.fullmatch(r"[a-z]+", word):
            break
        found = command.get_command(click.Context(command), word)
        if found is None:
            return None, word
        command = found
    return command, ""


def options_of(command: click.Command) -> set[str]:
    """Every option that a command knows."""
    own = {text for item in command.params for text in [*item.opts, *item.secondary_opts]}
    return own | {"--help", "-h", "--version"}


def test_every_command_and_option_of_ours_exists() -> None:
    """Goal: what a reader types works. Method: look each up in the command line itself."""
    findings, count = [], 0
    for line in typed_lines():
        for text in re.findall(r"(?:^|[\s(/|;&])tidestore ([a-z-][^|;&#)]*)", line.text):
            words = text.split()
            if line.language in _TYPED or not line.text.startswith("rm "):
                command, unknown = find_command(words)
                count += 1
                if command is None:
                    findings.append(f"{line.place}: no command {unknown}")
                    continue
                asked = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
                missing = sorted(asked - options_of(command))
                findings += [f"{line.place}: no option {word}" for word in missing]
    assert count > 30
    assert not findings, "\n".join(findings)


def test_every_file_that_a_shell_line_names_exists() -> None:
    """Goal: what a reader types works. Method: words below a top folder of ours must be there."""
    tops = {name.split("/", 1)[0] for name in our_files() if "/" in name}
    findings, count = [], 0
    for line in typed_lines():
        for word in re.findall(r"(?<![\w./$}<>~-])[\w.-]+(?:/[\w.*-]+)+", line.text):
            top = word.split("/", 1)[0]
            if top not in tops or "*" in word:
                continue
            count += 1
            if not (ROOT / word).exists():
                findings.append(f"{line.place}: {word} is not there")
    assert count > 20
    assert not findings, "\n".join(findings)


@pytest.mark.parametrize("section", sorted(_KNOWN))
def test_every_key_of_the_configuration_is_documented_and_no_other(section: str) -> None:
    """Goal: docs/configuration.md is complete. Method: its tables against what the reader knows."""
    text = text_of("docs/configuration.md")
    heading = {"": "Keys at the top", "replicas": "`[[replicas]]`", "staging": "`[[staging]]`"}
    title = heading.get(section, f"`[{section}]`")
    part = text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))
    tables = (
        {"kafka", "gateway", "hooks", "limits", "replicas", "staging", "scrub", "sources"}
        if not section
        else set()
    )
    assert named == _KNOWN[section] - tables


def test_the_limits_defaults_are_the_documented_ones() -> None:
    """Goal: no default drifts. Method: compare each documented value with the code's."""
    text = text_of("docs/configuration.md").split("## `[limits]`\n", 1)[1].split("\n## ", 1)[0]
    found = dict(re.findall(r"^\| `(\w+)` \| `([\d.]+)` \|", text, re.MULTILINE))
    limits = Limits()
    assert found == {name: str(getattr(limits, name)) for name in Limits.__slots__}


def test_the_example_configuration_is_accepted(tmp_path: Path) -> None:
    """Goal: the example can be copied. Method: read it as the product does, secrets given."""
    from tidestore.config import read_config  # noqa: PLC0415  heavy, and used here alone

    text = text_of("docs/configuration.md").split("```toml\n", 1)[1].split("```", 1)[0]
    tomllib.loads(text)
    (tmp_path / "tidestore.toml").write_text(text, "utf-8")
    for name in ("seal_key", "gcp.json"):
        (tmp_path / name).write_text("{}", "utf-8")
    environ = dict.fromkeys(re.findall(r"env:(\w+)", text), "x")
    config = read_config(tmp_path / "tidestore.toml", environ)
    assert [item.name for item in config.replicas] == ["aws", "gcp", "onprem"]
    for scheme in ("s3", "gs", "file", "memory"):
        assert f"`{scheme}://" in text_of("docs/configuration.md")
        factory_of(scheme)


def test_the_data_layout_names_every_topic_record_and_limit() -> None:
    """Goal: docs/data-layout.md is complete. Method: compare with the catalogue and the topics."""
    text = text_of("docs/data-layout.md")
    topics = Topics()
    specs = topics.specs([(ReplicaName("x"), 1)], [PUBLIC])
    words = {spec.name.removeprefix(topics.prefix).split(".")[0] for spec in specs}
    rows = re.findall(r"^\| `([a-z]+)[.`]", text, re.MULTILINE)
    assert words <= set(rows)
    assert not [name for name in newest_schemas() if name not in text]
    settings = {name for spec in specs for name in spec.settings}
    assert not [name for name in settings if f"`{name}`" not in text]
    assert f"{VALUE_BYTES_MAX:,} bytes" in text
    ids = json.loads(text_of("schemas/avro/ids.json"))
    assert len(set(ids.values())) == len(ids)


def test_states_events_and_error_classes_are_documented() -> None:
    """Goal: whoever meets a word can look it up. Method: compare with the code's own lists."""
    architecture = text_of("docs/architecture.md")
    assert not [state for state in CopyState if state.value not in architecture]
    webhooks = text_of("docs/webhooks.md")
    assert not [kind for kind in ChangeType if f"| `{kind.value}` |" not in webhooks]
    classes = {kind.error_class for kind in _below(StoreError)}
    operations = text_of("docs/operations.md")
    # Two are answers to a question, not trouble; one says that no try will help.
    named = classes - {"exists", "unsupported"}
    assert not [name for name in named if f"`{name}`" not in operations]
    steps = ", ".join(f"{second:g}" for second in STEPS_SECONDS)
    assert steps == "5, 30, 300, 1800, 7200, 18000, 36000"
    assert "5 s, 30 s, 5 min, 30 min, 2 h, 5 h, 10 h, then every 12 h" in webhooks


def _below(kind: type[StoreError]) -> Iterator[type[StoreError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("tidestore."):
            yield child
            yield from _below(child)


def test_the_documented_receiver_knows_genuine_deliveries_from_forged_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Goal: the snippet can be copied. Method: run it, without its server, on what we sign."""
    text = text_of("docs/webhooks.md").split("```python\n", 1)[1].split("```", 1)[0]
    snippet, server, _ = text.partition("\nHTTPServer(")
    assert server
    made = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
    for secret in (made, "at least sixteen bytes"):
        monkeypatch.setattr("sys.argv", ["receiver.py", secret])
        names: dict[str, Any] = {}
        exec(compile(snippet, "receiver.py", "exec"), names)
        body, now = b'{"type": "object.written"}', int(time.time())
        for stamp, is_good in ((now, True), (now - 3600, False)):
            headers = {
                "webhook-id": "chg_1",
                "webhook-timestamp": str(stamp),
                "webhook-signature": sign_standard(secret, "chg_1", stamp, body),
                "X-Hub-Signature-256": sign_github(secret, body),
            }
            assert names["is_genuine"](headers, body) is is_good
            assert not names["is_genuine"](headers, body + b" ")
            assert not names["is_genuine"]({**headers, "webhook-id": "chg_2"}, body)
            assert names["is_genuine_github"](headers, body)
            assert not names["is_genuine_github"](headers, body + b" ")
        assert not names["is_genuine"]({}, body)
        assert not names["is_genuine_github"]({}, body)


def test_every_metric_is_documented_and_no_other() -> None:
    """Goal: an operator can watch what the text names. Method: compare with the registry."""
    registry = CollectorRegistry()
    GatewayMetrics(registry)
    WorkerMetrics(registry)
    suffix = {"counter": "_total"}
    real = {metric.name + suffix.get(metric.type, "") for metric in registry.collect()}
    named = set(re.findall(r"`(tidestore_\w+)`", text_of("docs/operations.md")))
    assert named <= real
    assert real <= named, "a metric that nobody is told of"


def test_every_decision_says_context_choice_cost_and_what_was_rejected() -> None:
    """Goal: a page each, of one shape. Method: look for the four words and the number."""
    folder = "docs/decisions/"
    pages = [n for n in our_files() if n.startswith(folder) and not n.endswith("README.md")]
    assert len(pages) >= 9
    index = text_of(f"{folder}README.md")
    for number, name in enumerate(pages, 1):
        text = text_of(name)
        assert name.removeprefix(folder).startswith(f"{number:04}-")
        assert text.startswith(f"# {number:04}: ")
        for word in ("Context", "Choice", "Cost", "Rejected"):
            assert f"\n**{word}.**" in text, f"{name} has no {word}"
        assert name.removeprefix(folder) in index


def test_every_fragment_of_the_changelog_has_an_issue_and_a_kind() -> None:
    """Goal: a release can be described. Method: names of the files in changes/."""
    kinds = {item["directory"] for item in
             tomllib.loads(text_of("pyproject.toml"))["tool"]["towncrier"]["type"]}  # fmt: skip
    assert kinds == _KINDS
    names = [n.removeprefix("changes/") for n in our_files() if n.startswith("changes/")]
    assert "TEMPLATE.md" in names
    for name in names:
        if name != "TEMPLATE.md":
            match = re.fullmatch(r"\d+\.([a-z]+)\.md", name)
            assert match, f"changes/{name} is not <issue>.<kind>.md"
            assert match[1] in kinds
