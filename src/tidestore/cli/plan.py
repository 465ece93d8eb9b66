"""`tidestore plan`: what a write costs on its way to every replica, and why it goes that way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tidestore.cli.output import fail, print_json
from tidestore.cli.serve import config_option, find_config
from tidestore.config import Config, ConfigError, read_config
from tidestore.streams.choice import Candidate, order_sources, wait_seconds
from tidestore.streams.prices import GB, PROVIDERS, UNKNOWN, Place, Prices, cheapest_tree

_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(k|K|M|G|T|Ki|Mi|Gi|Ti)?B?")


def read_size(text: str) -> int:
    """A number of bytes: 4096, 32KiB, 1GB."""
    match = _SIZE.fullmatch(text)
    size = int(float(match[1]) * {**_UNITS, **_BINARY}[match[2] or ""]) if match else 0
    if size < 1:
        raise click.BadParameter(f"{text!r} is no size like 4096, 32KiB or 1GB")
    return size


@click.command()
@config_option
@click.option(
    "--size",
    type=read_size,
    default="1GB",
    metavar="SIZE",
    show_default=True,
    help="Of the object.",
)
@click.option("--origin", help="Write to this replica instead of the configured origin.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def plan(
    environ: dict[str, str], config_path: Path, size: int, origin: str | None, as_json: bool
) -> None:
    """Show what a write costs for each replica, by edge, and why each source is chosen.

    Reads the configuration alone; asks nobody. List prices in US dollars, unless [sources] says
    what you pay.
    """
    try:
        config = read_config(find_config(config_path), environ)
    except ConfigError as error:
        fail(str(error), exit_code=2)
    names = [item.name for item in config.replicas]
    first = origin or config.origin
    if first not in names:
        fail(f"there is no replica {first!r}", "configured are " + ", ".join(names), exit_code=2)
    document = plan_document(config, first, size)
    if as_json:
        print_json(document)
    else:
        _show(document)


def plan_document(config: Config, origin: str, size: int) -> dict[str, Any]:
    """The plan as data."""
    places = {str(item.name): Place.of(item.address) for item in config.replicas}
    prices = Prices(places, config.sources)
    tree = cheapest_tree(prices, origin, size)
    is_inline = size <= config.limits.inline_bytes_max
    copies = [
        _copy(config, prices, tree, target, origin, size)
        if not is_inline
        else _inline_copy(prices, target)
        for target in places
        if target != origin
    ]
    total = sum(copy["dollars"] for copy in copies)
    direct = sum(
        prices.put_price(target) + (0 if is_inline else prices.read_price(origin, target, size))
        for target in places
        if target != origin
    )
    return {
        "size": size,
        "origin": origin,
        "is_inline": is_inline,
        "dollars": total + prices.put_price(origin),
        "dollars_per_gb": (total + prices.put_price(origin)) * GB / size,
        "dollars_if_all_read_the_origin": direct + prices.put_price(origin),
        "origin_reads_per_byte": sum(copy["source"] == origin for copy in copies),
        "copies": copies,
        "edges": [_edge(prices, source, target) for source in places for target in places
                  if source != target],
        "places": {name: str(place) for name, place in prices.places.items()},
        "price_lists": _lists(prices),
        "rules_unused": prices.unused_rules(),
    }  # fmt: skip


def _inline_copy(prices: Prices, target: str) -> dict[str, Any]:
    why = ["the bytes ride inside their event in the log: nothing is read"]
    return {
        "target": target, "source": "event", "why": why, "dollars": prices.put_price(target),
        "order": [], "wait_seconds_max": 0.0,
    }  # fmt: skip


def _copy(
    config: Config, prices: Prices, tree: dict[str, str], target: str, origin: str, size: int
) -> dict[str, Any]:
    source = tree[target]
    egress = prices.egress(source, target)
    order = order_sources(
        [
            Candidate(
                name,
                prices.expected_price(name, target, size, origin),
                is_origin=name == origin,
            )
            for name in prices.places
            if name != target
        ]
    )
    seconds = 0.0
    why = [f"{egress.per_gb:g} $/GB ({egress.why})"]
    if source == origin:
        why.append("no other way is cheaper, all replicas taken together")
    else:
        direct = prices.egress(origin, target)
        why.append(f"{origin} would be {direct.per_gb:g} $/GB ({direct.why})")
        seconds = wait_seconds(
            prices, target, cheap=source, instead=origin, size=size,
            seconds_max=config.sources.wait_seconds_max,
        )  # fmt: skip
        if seconds:
            why.append(f"waits up to {seconds:.0f} s for {source} to have it")
        else:
            why = [f"{direct.per_gb:g} $/GB ({direct.why})",
                   f"{source} would be {egress.per_gb:g} $/GB: too little to wait for"]  # fmt: skip
            source = origin
    return {
        "target": target,
        "source": source,
        "why": why,
        "dollars": prices.read_price(source, target, size) + prices.put_price(target),
        "order": [item.name for item in order],
        "wait_seconds_max": seconds,
    }


def _edge(prices: Prices, source: str, target: str) -> dict[str, Any]:
    egress = prices.egress(source, target)
    return {"source": source, "target": target, "per_gb": egress.per_gb, "why": egress.why,
            "get_per_1000": prices.get_price(source) * 1000,
            "put_per_1000": prices.put_price(target) * 1000}  # fmt: skip


def _lists(prices: Prices) -> list[dict[str, str]]:
    found = {place.provider: PROVIDERS.get(place.provider, UNKNOWN)
             for place in prices.places.values()}  # fmt: skip
    return [{"provider": name, "source": item.source, "read_on": item.read_on}
            for name, item in sorted(found.items())]  # fmt: skip


def _show(document: dict[str, Any]) -> None:
    console = Console(highlight=False)
    title = f"an object of {document['size']:,} bytes, written to {document['origin']}"
    table = Table(title=title, title_justify="left")
    for name in ("to", "from", "dollars", "why", "else, in this order"):
        table.add_column(name, justify="right" if name == "dollars" else "left")
    for copy in document["copies"]:
        others = ", ".join(name for name in copy["order"] if name != copy["source"])
        table.add_row(
            copy["target"], copy["source"], f"{copy['dollars']:.8f}", "; ".join(copy["why"]), others
        )
    console.print(table)
    console.print(
        f"{document['dollars']:.8f} $ for the write, {document['dollars_per_gb']:.6f} $/GB; "
        f"{document['dollars_if_all_read_the_origin']:.8f} $ if all read {document['origin']}. "
        f"Read from {document['origin']}: {document['origin_reads_per_byte']} times."
    )
    edges = Table(title="edges", title_justify="left")
    for name in ("from", "to", "$/GB", "$/1,000 GET", "$/1,000 PUT", "why"):
        edges.add_column(name, justify="right" if name.startswith("$") else "left")
    for edge in document["edges"]:
        edges.add_row(
            edge["source"], edge["target"], f"{edge['per_gb']:g}", f"{edge['get_per_1000']:g}",
            f"{edge['put_per_1000']:g}", edge["why"],
        )  # fmt: skip
    console.print(edges)
    for item in document["price_lists"]:
        console.print(f"{item['provider']}: {item['source']} {item['read_on']}".rstrip())
    for rule in document["rules_unused"]:
        console.print(f"not used: {rule}")
