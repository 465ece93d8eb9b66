"""Read tidestore.toml. Every mistake is one line that names the file, the place and the remedy.

Secrets are not written into the file but named: "env:NAME" or "file:PATH" (relative to the file).
`plain:TEXT` is taken as it is, for credentials that protect nothing.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from tidestore.api.settings import Limits, StagingEntry
from tidestore.config.keys import FileKeyring, References
from tidestore.config.model import Config, ConfigError, ReplicaConfig
from tidestore.config.sources import read_sources
from tidestore.connectors.credentials import Secret, StoreAddress
from tidestore.connectors.kafka import KafkaSettings
from tidestore.connectors.registry import check_scheme
from tidestore.schemas.objects import (
    PUBLIC,
    MalformedError,
    check_dataset,
    check_replica,
)
from tidestore.schemas.topics import Topics, Windows
from tidestore.streams.settings import ScrubSettings

_KNOWN: Final = {
    "": {
        "kafka", "gateway", "replicas", "staging", "hooks", "limits", "origin", "datasets",
        "data_folder", "local", "scrub", "sources",
    },
    "kafka": {
        "bootstrap", "topic_prefix", "partitions", "generation", "replication", "replay_hours",
        "redaction_hours", "security", "password", "unclean_stops",
    },
    "gateway": {"host", "port", "tokens", "admins"},
    "replicas": {"name", "url", "incarnation", "credentials"},
    "staging": {"name", "url", "credentials"},
    "hooks": {"seal_key", "networks"},
    "limits": {item.name for item in fields(Limits)},
    "scrub": {item.name for item in fields(ScrubSettings)},
    "sources": {"wait_seconds_max", "places", "egress", "requests"},
}  # fmt: skip
_EXAMPLES: Final = {
    "bootstrap": '"kafka:9092"', "name": '"aws"', "url": '"s3://a-bucket", "gs://..." or "file:///..."'
}  # fmt: skip
_HOUR_MS: Final = 3_600_000


class _Reader:
    """Reads values out of one document and knows where it is, for the error."""

    def __init__(self, path: Path, document: dict[str, Any], environ: Mapping[str, str]) -> None:
        self.path = path
        self.document = document
        self.environ = environ

    def fail(self, place: str, reason: str) -> ConfigError:
        return ConfigError(f"{self.path}: {place}: {reason}")

    def section(self, name: str) -> dict[str, Any]:
        found = self.document.get(name, {})
        if not isinstance(found, dict):
            raise self.fail(name, f"must be a table: [{name}]")
        self.check_known(name, found, name)
        return found

    def sections(self, name: str) -> list[dict[str, Any]]:
        found = self.document.get(name, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self.fail(name, f"must be a list of tables: [[{name}]]")
        for number, item in enumerate(found, 1):
            self.check_known(name, item, f"{name} number {number}")
        return found

    def check_known(self, section: str, found: dict[str, Any], place: str) -> None:
        unknown = sorted(found.keys() - _KNOWN[section])
        if unknown:
            known = ", ".join(sorted(_KNOWN[section]))
            raise self.fail(
                place or "the file", f"{unknown[0]!r} is not known here; known are {known}"
            )

    def text(self, found: dict[str, Any], name: str, place: str, default: str | None = None) -> str:
        value = found.get(name, default)
        if not isinstance(value, str):
            example = f"; write {name} = {_EXAMPLES[name]}" if name in _EXAMPLES else ""
            reason = "is missing" if value is None else "must be a text"
            raise self.fail(f"{place}.{name}", reason + example)
        return value

    def number(
        self, found: dict[str, Any], name: str, place: str, default: int, low: int = 0
    ) -> int:
        value = found.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise self.fail(f"{place}.{name}", f"must be a whole number of at least {low}")
        return value

    def secret(self, reference: object, place: str) -> Secret:
        kind, _, rest = str(reference).partition(":")
        if kind == "plain":
            return Secret(rest)
        if kind == "env":
            if rest not in self.environ:
                raise self.fail(place, f"the environment has no variable {rest}; set it first")
            return Secret(self.environ[rest])
        if kind == "file":
            file = self.path.parent / rest
            try:
                return Secret(file.read_text("utf-8").strip())
            except OSError as error:
                raise self.fail(place, f"cannot read {file}: {error.strerror}") from None
        raise self.fail(place, 'must be "env:NAME" or "file:PATH"')

    def secrets(self, found: dict[str, Any], place: str) -> dict[str, Secret]:
        named = found.get("credentials", {})
        if not isinstance(named, dict):
            raise self.fail(f"{place}.credentials", "must be a table of names and secrets")
        return {
            name: self.secret(reference, f"{place}.credentials.{name}")
            for name, reference in named.items()
        }


def read_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check a configuration; raises ConfigError."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist; `tidestore run` makes one for a try") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    reader = _Reader(path, document, environ)
    reader.check_known("", document, "")
    try:
        return _config(reader)
    except MalformedError as error:
        raise reader.fail(error.field, f"{error.reason}; {error.hint}") from None


def _config(reader: _Reader) -> Config:
    document = reader.document
    replicas = _replicas(reader)
    gateway, hooks = reader.section("gateway"), reader.section("hooks")
    origin = check_replica(reader.text(document, "origin", "the file", replicas[0].name))
    if origin not in [item.name for item in replicas]:
        names = ", ".join(item.name for item in replicas)
        raise reader.fail("origin", f"{origin!r} is none of the replicas: {names}")
    names = document.get("datasets", [])
    datasets = [PUBLIC, *(check_dataset(str(name)) for name in names if name != PUBLIC)]
    return Config(
        kafka=_kafka(reader),
        topics=_topics(reader),
        replicas=tuple(replicas),
        origin=origin,
        datasets=tuple(datasets),
        data_folder=reader.path.parent / reader.text(document, "data_folder", "the file", "data"),
        host=reader.text(gateway, "host", "gateway", "127.0.0.1"),
        port=reader.number(gateway, "port", "gateway", 8080),
        tokens=_tokens(reader, gateway),
        admins=_admins(reader, gateway),
        seal_key=reader.secret(hooks["seal_key"], "hooks.seal_key")
        if "seal_key" in hooks
        else Secret(""),
        hook_networks=_networks(reader, hooks),
        staging=_staging(reader),
        limits=_limits(reader),
        sources=read_sources(reader),
        is_local=bool(document.get("local", False)),
        scrub=_scrub(reader),
        keyring=FileKeyring(reader.path.parent / "credentials", reader.environ),
    )


def _replicas(reader: _Reader) -> list[ReplicaConfig]:
    found = []
    for number, item in enumerate(reader.sections("replicas"), 1):
        place = f"replicas number {number}"
        name = check_replica(reader.text(item, "name", place))
        url = reader.text(item, "url", place)
        address = StoreAddress.parse(url, reader.secrets(item, place))
        references = References(item.get("credentials", {}), reader.path.parent, reader.environ)
        if references.has_files:
            address = address.keyed(references)
        check_scheme(address.scheme)
        incarnation = reader.number(item, "incarnation", place, 1, 1)
        found.append(ReplicaConfig(name, url, incarnation, address))
    if not found:
        raise reader.fail("replicas", "there is none; add [[replicas]] with name and url")
    names = [item.name for item in found]
    if len(set(names)) != len(names):
        raise reader.fail("replicas", "two have the same name; give each its own")
    return found


def _kafka(reader: _Reader) -> KafkaSettings:
    kafka = reader.section("kafka")
    security = kafka.get("security", {})
    if not isinstance(security, dict):
        raise reader.fail("kafka.security", "must be a table of librdkafka's settings")
    password = kafka.get("password")
    return KafkaSettings(
        bootstrap=reader.text(kafka, "bootstrap", "kafka"),
        security={str(name): str(value) for name, value in security.items()},
        password=reader.secret(password, "kafka.password") if password else Secret(""),
        unclean_stops=reader.number(kafka, "unclean_stops", "kafka", 0),
    )


def _topics(reader: _Reader) -> Topics:
    kafka = reader.section("kafka")
    windows = Windows()
    replay = reader.number(kafka, "replay_hours", "kafka", windows.replay_ms // _HOUR_MS, 1)
    redaction = reader.number(kafka, "redaction_hours", "kafka", 2 * replay, 2)
    if redaction <= replay:
        raise reader.fail(
            "kafka.redaction_hours", "must be more than replay_hours: compaction needs time"
        )
    return Topics(
        prefix=reader.text(kafka, "topic_prefix", "kafka", "tidestore."),
        partitions=reader.number(kafka, "partitions", "kafka", 12, 1),
        generation=reader.number(kafka, "generation", "kafka", 1, 1),
        replication=reader.number(kafka, "replication", "kafka", 3, 1),
        windows=Windows(replay * _HOUR_MS, redaction * _HOUR_MS, windows.deliveries_ms),
    )


def _tokens(reader: _Reader, gateway: dict[str, Any]) -> dict[str, str]:
    found = gateway.get("tokens", {})
    if not isinstance(found, dict):
        raise reader.fail("gateway.tokens", "must be a table: name = sha256 of the token")
    tokens = {}
    for name, digest in found.items():
        if not isinstance(digest, str) or len(digest) != 64:
            raise reader.fail(f"gateway.tokens.{name}", "must be the sha256 of the token, in hex")
        tokens[digest.lower()] = str(name)
    return tokens


def _admins(reader: _Reader, gateway: dict[str, Any]) -> tuple[str, ...]:
    found, known = gateway.get("admins", []), gateway.get("tokens", {})
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise reader.fail("gateway.admins", "must be a list of names")
    for name in found:
        if name not in known:
            raise reader.fail("gateway.admins", f"{name!r} has no token; add it to gateway.tokens")
    return tuple(found)


def _networks(reader: _Reader, hooks: dict[str, Any]) -> tuple[str, ...]:
    found = hooks.get("networks", [])
    if not isinstance(found, list):
        raise reader.fail("hooks.networks", "must be a list of networks")
    for network in found:
        try:
            ipaddress.ip_network(str(network))
        except ValueError:
            raise reader.fail(
                "hooks.networks", f"{network!r} is no network like 10.1.0.0/16"
            ) from None
    return tuple(str(network) for network in found)


def _staging(reader: _Reader) -> tuple[StagingEntry, ...]:
    found = []
    for number, item in enumerate(reader.sections("staging"), 1):
        place = f"staging number {number}"
        url = reader.text(item, "url", place)
        address = StoreAddress.parse(url, reader.secrets(item, place))
        check_scheme(address.scheme)
        found.append(StagingEntry(reader.text(item, "name", place), url, address))
    return tuple(found)


def _limits(reader: _Reader) -> Limits:
    section = reader.section("limits")
    for name, value in section.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise reader.fail(f"limits.{name}", "must be a number")
    return Limits(**section)


def _scrub(reader: _Reader) -> ScrubSettings:
    values = dict(reader.section("scrub"))
    for name, value in values.items():
        if name == "signing_key":
            values[name] = reader.secret(value, "scrub.signing_key")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise reader.fail(f"scrub.{name}", "must be a number of at least 0")
    return ScrubSettings(**values)
