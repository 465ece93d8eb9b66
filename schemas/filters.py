"""Which objects a replica is to have: roots by dataset and kind, and all that they refer to.

    dataset=lab,public kind=bundle      bundles of these two; their files and blobs come along

Pure. A filter belongs to a life of a replica and does not change in it. What a manifest refers to
lies in the manifest's own dataset, so a filter of datasets alone takes nothing in that is no root.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tidestore.schemas.objects import Kind, MalformedError, check_dataset, find_key_parts

# Far more datasets than anybody lists by hand; the text is part of a record and of a table's line.
FILTER_CHARS_MAX: Final = 1_000
_HINT: Final = "for example dataset=public, or kind=bundle; several values with commas"


@dataclass(frozen=True, slots=True)
class ReplicaFilter:
    """Datasets and kinds of the roots; an empty set is no restriction."""

    datasets: frozenset[str] = frozenset()
    kinds: frozenset[Kind] = frozenset()

    @classmethod
    def parse(cls, text: str) -> ReplicaFilter:
        """Read `dataset=a,b kind=bundle`; raises MalformedError."""
        if len(text) > FILTER_CHARS_MAX:
            raise MalformedError("filter", f"has more than {FILTER_CHARS_MAX} characters")
        datasets: set[str] = set()
        kinds: set[Kind] = set()
        for part in text.split():
            name, _, values = part.partition("=")
            words = [word for word in values.split(",") if word]
            if name not in ("dataset", "kind") or not words:
                raise MalformedError("filter", f"does not know {part[:50]!r}", hint=_HINT)
            if name == "dataset":
                datasets.update(check_dataset(word) for word in words)
            else:
                kinds.update(_kind(word) for word in words)
        return cls(frozenset(datasets), frozenset(kinds))

    def __str__(self) -> str:
        """The one spelling of this filter; empty when there is none."""
        parts = (("dataset", sorted(self.datasets)), ("kind", _ordered(self.kinds)))
        return " ".join(f"{name}={','.join(values)}" for name, values in parts if values)

    @property
    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return not (self.datasets or self.kinds)

    @property
    def takes_in(self) -> bool:
        """Whether something may have to come only because a root refers to it."""
        return bool(self.kinds)

    def may_hold(self, key: str) -> bool:
        """Whether the object can ever come: as a root, or because one refers to it."""
        return not self.datasets or key.partition("/")[0] in self.datasets

    def is_root(self, key: str) -> bool:
        """Whether the object comes whatever refers to it."""
        if not self.may_hold(key):
            return False
        if not self.kinds:
            return True
        parts = find_key_parts(key)
        return parts is not None and parts.kind in self.kinds


EVERYTHING: Final = ReplicaFilter()


def _kind(word: str) -> Kind:
    for kind in Kind:
        if word in (kind.value, kind.plural):
            return kind
    raise MalformedError(
        "filter", f"has the unknown kind {word[:50]!r}", hint="one of " + ", ".join(Kind)
    )


def _ordered(kinds: Iterable[Kind]) -> list[str]:
    return [kind.value for kind in Kind if kind in kinds]
