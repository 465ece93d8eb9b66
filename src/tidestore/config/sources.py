"""The table [sources]: where replicas lie, what a site pays, how long a copy may wait."""

from __future__ import annotations

from typing import Any, Protocol

from tidestore.config.model import ConfigError
from tidestore.streams.prices import EgressRule, Place, RequestRule, SourceSettings

# A price per GB, or per 1,000 requests, above this is a mistake in the unit.
_DOLLARS_MAX = 100.0
# A day: a copy that may wait longer is one that nobody waits for.
_WAIT_SECONDS_MAX = 86_400.0


class Reader(Protocol):
    """What of the reader of the whole file is needed here."""

    def fail(self, place: str, reason: str) -> ConfigError:
        """An error that names the file and the place."""
        ...

    def section(self, name: str) -> dict[str, Any]:
        """A table whose keys are all known."""
        ...

    def text(self, found: dict[str, Any], name: str, place: str, default: str | None = None) -> str:
        """A text of a table."""
        ...


def read_sources(reader: Reader) -> SourceSettings:
    """Read [sources]; raises ConfigError."""
    section = reader.section("sources")
    wait = section.get("wait_seconds_max", SourceSettings().wait_seconds_max)
    return SourceSettings(
        places=_places(reader, section),
        egress=tuple(
            EgressRule(
                reader.text(item, "from", place),
                reader.text(item, "to", place),
                _dollars(reader, item, "per_gb", place),
            )
            for place, item in _tables(reader, section, "egress", {"from", "to", "per_gb"})
        ),
        requests=tuple(
            RequestRule(
                reader.text(item, "at", place),
                _dollars(reader, item, "get_per_1000", place),
                _dollars(reader, item, "put_per_1000", place),
            )
            for place, item in _tables(
                reader, section, "requests", {"at", "get_per_1000", "put_per_1000"}
            )
        ),
        wait_seconds_max=_number(
            reader, wait, "sources.wait_seconds_max", _WAIT_SECONDS_MAX, "seconds"
        ),
    )


def _places(reader: Reader, section: dict[str, Any]) -> dict[str, Place]:
    named = section.get("places", {})
    if not isinstance(named, dict):
        raise reader.fail("sources.places", 'must be a table: replica = "provider/region"')
    found = {}
    for name in named:
        text = reader.text(named, name, "sources.places")
        if not text or text.startswith("/") or text == "*":
            raise reader.fail(f"sources.places.{name}", 'must be "provider" or "provider/region"')
        found[name] = Place.parse(text)
    return found


def _tables(
    reader: Reader, section: dict[str, Any], name: str, known: set[str]
) -> list[tuple[str, dict[str, Any]]]:
    found = section.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise reader.fail(f"sources.{name}", f"must be a list of tables: [[sources.{name}]]")
    tables = []
    for number, item in enumerate(found, 1):
        place = f"sources.{name} number {number}"
        if unknown := sorted(item.keys() - known):
            names = ", ".join(sorted(known))
            raise reader.fail(place, f"{unknown[0]!r} is not known here; known are {names}")
        tables.append((place, item))
    return tables


def _dollars(reader: Reader, item: dict[str, Any], name: str, place: str) -> float:
    return _number(reader, item.get(name), f"{place}.{name}", _DOLLARS_MAX, "dollars")


def _number(reader: Reader, value: object, place: str, most: float, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise reader.fail(place, f"must be {unit}, a number from 0 to {most:,.0f}")
    return float(value)
