"""The price matrix, and the cheapest tree over it: against known figures and brute force."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidestore.connectors.credentials import StoreAddress
from tidestore.streams.prices import (
    PROVIDERS,
    EgressRule,
    Place,
    Prices,
    RequestRule,
    SourceSettings,
    cheapest_tree,
)

GB = 1_000_000_000
CLOUDS = {
    "aws": Place("aws", "us-east-1"),
    "gcp": Place("gcp"),
    "azure": Place("azure"),
    "onprem": Place("onprem"),
}


def prices(replicas: dict[str, Place] | None = None, **settings: Any) -> Prices:
    return Prices(replicas or CLOUDS, SourceSettings(**settings))


def total(found: Prices, tree: dict[str, str], origin: str, size: int) -> float:
    return sum(found.expected_price(s, t, size, origin) for t, s in tree.items())


def test_every_default_says_where_it_was_read_and_when() -> None:
    """Goal: no figure without a source. Method: look at each provider's."""
    for name, found in PROVIDERS.items():
        assert found.source, name
        assert found.read_on >= "2026", name
        assert 0 <= found.same_region <= found.same_provider <= found.internet <= 1, name


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://b?region=eu-west-1", "aws/eu-west-1"),
        ("s3://b", "aws/us-east-1"),
        ("s3://b?endpoint=http://10.0.0.1:9000", "onprem"),
        ("gs://b", "gcp"),
        ("az://c?account=a", "azure"),
        ("file:///srv", "onprem"),
    ],
)
def test_a_url_tells_where_a_replica_lies(url: str, place: str) -> None:
    """Goal: most sites configure nothing. Method: URLs of each kind."""
    assert str(Place.of(StoreAddress.parse(url))) == place


def test_bytes_cost_by_region_provider_and_internet() -> None:
    """Goal: the three classes of egress. Method: two regions of one cloud, and another cloud."""
    places = {
        "a": Place("aws", "us-east-1"), "b": Place("aws", "us-east-1"),
        "c": Place("aws", "eu-west-1"), "g": Place("gcp"), "h": Place("gcp"),
    }  # fmt: skip
    found = prices(places)
    aws, gcp = PROVIDERS["aws"], PROVIDERS["gcp"]
    assert found.egress("a", "b").per_gb == aws.same_region
    assert found.egress("a", "c").per_gb == aws.same_provider
    assert found.egress("a", "g").per_gb == aws.internet
    assert found.egress("g", "a").per_gb == gcp.internet
    assert found.egress("g", "h").per_gb == gcp.same_provider, "unknown regions may differ"


def test_the_rule_that_says_most_wins() -> None:
    """Goal: a site's own prices, from the general to the special. Method: rules over each other."""
    rules = (
        EgressRule("aws/us-east-1", "gcp", 0.03),
        EgressRule("*", "*", 0.5),
        EgressRule("aws", "*", 0.05),
    )
    places = {"here": Place("aws", "us-east-1"), "there": Place("gcp"), "home": Place("onprem")}
    found = prices(places, egress=rules)
    assert found.egress("here", "there").per_gb == 0.03
    assert found.egress("here", "home").per_gb == 0.05
    assert found.egress("there", "home").per_gb == 0.5
    named = prices(places, egress=(*rules, EgressRule("here", "there", 0.01)))
    assert named.egress("here", "there").per_gb == 0.01


def test_requests_have_prices_and_rules_of_their_own() -> None:
    """Goal: at 4 KiB requests cost more than bytes. Method: a read's price, with and without."""
    found = prices()
    assert found.read_price("aws", "gcp", 4096) == pytest.approx(4096 / GB * 0.09 + 4e-7)
    dear = prices(requests=(RequestRule("aws", 1.0, 2.0),))
    assert dear.get_price("aws") == 0.001
    assert dear.put_price("aws") == 0.002
    assert dear.put_price("gcp") == found.put_price("gcp")


def test_rules_that_mean_nobody_are_told() -> None:
    """Goal: a misspelt name is seen. Method: one in each kind of rule."""
    found = prices(
        egress=(EgressRule("asw", "gcp", 0.1),),
        requests=(RequestRule("nobody", 1, 1),),
        places={"elsewhere": Place("gcp")},
    )
    told = found.unused_rules()
    assert [word for word in ("asw", "nobody", "elsewhere") if word in " ".join(told)] == [
        "asw", "nobody", "elsewhere"
    ]  # fmt: skip
    assert not prices().unused_rules()


def test_three_outside_replicas_read_the_origin_once() -> None:
    """Goal: one egress per byte where the prices say so. Method: the list prices of four places."""
    tree = cheapest_tree(prices(), "aws", GB)
    assert tree == {"onprem": "aws", "gcp": "onprem", "azure": "onprem"}
    found = prices()
    assert total(found, tree, "aws", GB) == pytest.approx(0.09, abs=1e-4)


def test_a_relay_that_costs_more_than_it_saves_is_none() -> None:
    """Goal: no fixed tree. Method: GCP is dear to leave, so Azure reads the origin, not GCP."""
    places = {name: place for name, place in CLOUDS.items() if name != "onprem"}
    found = prices(places, egress=(EgressRule("azure", "*", 0.2),))
    assert cheapest_tree(found, "aws", GB) == {"gcp": "aws", "azure": "aws"}


def test_a_second_region_of_a_cloud_takes_from_the_first() -> None:
    """Goal: the usual winner. Method: two replicas in one other cloud."""
    places = {"aws": CLOUDS["aws"], "g1": Place("gcp", "us-east1"), "g2": Place("gcp", "us-west1")}
    assert cheapest_tree(prices(places), "aws", GB) in (
        {"g1": "aws", "g2": "g1"},
        {"g2": "aws", "g1": "g2"},
    )


def test_what_is_equally_cheap_comes_from_the_origin() -> None:
    """Goal: nobody waits for nothing. Method: places of one's own, all free."""
    places = {name: Place("onprem") for name in ("a", "b", "c", "d")}
    assert set(cheapest_tree(prices(places), "c", GB).values()) == {"c"}


NAMES: tuple[str, ...] = ("a", "b", "c", "d", "e")


@given(st.lists(st.integers(0, 12), min_size=20, max_size=20), st.integers(2, 5))
def test_the_tree_is_the_cheapest_of_all_trees(cents: list[int], count: int) -> None:
    """Goal: Chu-Liu and Edmonds, circles in circles. Method: random prices, all trees tried."""
    names = NAMES[:count]
    edges = [(s, t) for s in NAMES for t in NAMES if s != t]
    rules = tuple(EgressRule(s, t, c / 100) for (s, t), c in zip(edges, cents, strict=True))
    found = prices({name: Place("onprem") for name in names}, egress=rules)
    tree = cheapest_tree(found, "a", GB)
    assert set(tree) == set(names[1:])
    assert _is_tree(tree, "a"), "a circle would be a wait without end"
    trees = [
        dict(zip(names[1:], parents, strict=True))
        for parents in product(names, repeat=count - 1)
        if all(t != s for t, s in zip(names[1:], parents, strict=True))
    ]
    best = min(total(found, each, "a", GB) for each in trees if _is_tree(each, "a"))
    assert total(found, tree, "a", GB) == pytest.approx(best)


def _is_tree(tree: dict[str, str], origin: str) -> bool:
    for start in tree:
        name, steps = start, 0
        while name != origin and steps <= len(tree):
            name, steps = tree[name], steps + 1
        if name != origin:
            return False
    return True
