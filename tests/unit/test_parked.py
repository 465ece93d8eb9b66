"""api/parked.py, api/explain.py and cli/story.py where they are pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import click
import pytest

from tidestore.api import parked as parked_module
from tidestore.api.explain import copy_story
from tidestore.api.lookup import CopyRow, ObjectRow
from tidestore.api.parked import (
    Place,
    Wanted,
    cursor_text,
    find_parked,
    parked_document,
    read_cursor,
)
from tidestore.cli.parked import _Age, parked_line
from tidestore.cli.story import age_words, story_lines
from tidestore.schemas.events import CopyState
from tidestore.schemas.objects import MalformedError, ObjectKey


def row(
    key: str, replica: str = "aws", state: CopyState = CopyState.PARKED, **more: Any
) -> CopyRow:
    """A copy as the index has it."""
    values: dict[str, Any] = {
        "key": key,
        "replica": replica,
        "incarnation": 1,
        "state": state,
        "claim": 0,
        "changed_at_ms": 1_000,
        "checksums": "",
        "attempts": 6,
        "next_try_at_ms": None,
        "error_class": "checksum",
        "error": "sha256 is other",
        "waits_for": None,
        "waits_count": 0,
        "is_incomplete": False,
        "bytes_done": None,
        "size": 4,
    }
    return CopyRow(**{**values, **more})


def written(key: str, origin: str = "onprem") -> ObjectRow:
    """An object as the index has it."""
    texts: dict[str, Any] = dict.fromkeys(("sha256", "sha1", "crc32c", "md5", "content_type"), "x")
    link: dict[str, Any] = {"name": None, "link_sha256": None, "link_size": None, "link_type": None}
    return ObjectRow(
        key=ObjectKey(key), partition=2, offset=7, size=4, **texts, origin=origin,
        written_at_ms=500, **link, written_by="ana", request_id="r1",
    )  # fmt: skip


@dataclass(slots=True)
class Shelf:
    """Rows as the index gives them; counts how often it was asked."""

    rows: list[CopyRow]
    objects: dict[str, ObjectRow] = field(default_factory=dict)
    calls: int = 0

    def parked(self, replica: str, after: str, limit: int) -> list[CopyRow]:
        self.calls += 1
        found = [r for r in self.rows if r.replica == replica and r.key > after]
        return sorted(found, key=lambda r: r.key)[:limit]

    def find(self, key: str) -> ObjectRow | None:
        return self.objects.get(key)

    def copies(self, key: str) -> dict[str, CopyRow]:
        return {r.replica: r for r in self.rows if r.key == key}


def everything(shelf: Shelf, wanted: Wanted, limit: int) -> list[tuple[str, str]]:
    """All pages, one after the other."""
    place: Place | None = ("", "")
    found: list[tuple[str, str]] = []
    while place is not None:
        rows, place = find_parked(shelf, wanted, place, limit)
        found += [(item.replica, item.key) for item in rows]
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("scanned", [1, 2, 5_000])
def test_pages_show_every_parked_copy_once(
    limit: int, scanned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: nothing is missed at a border. Method: all page sizes, over two replicas."""
    monkeypatch.setattr(parked_module, "SCANNED_MAX", scanned)
    shelf = Shelf([row(key, replica) for replica in ("gcp", "aws") for key in "cab"])
    found = everything(shelf, Wanted(("gcp", "aws")), limit)
    assert found == [(replica, key) for replica in ("aws", "gcp") for key in "abc"]
    assert everything(shelf, Wanted(("gcp",)), limit) == [("gcp", key) for key in "abc"]


def test_only_those_that_fit_are_found() -> None:
    """Goal: replica, class and age say which. Method: one row that differs in each."""
    good = row("a")
    wanted = Wanted(("aws",), "checksum", 1_000)
    others = (
        replace(good, replica="gcp"),
        replace(good, error_class="network"),
        replace(good, changed_at_ms=1_001),
        replace(good, state=CopyState.PENDING),
    )
    assert wanted.fits(good)
    assert not [other for other in others if wanted.fits(other)]
    assert all(Wanted(("aws", "gcp")).fits(other) for other in others[:3])


def test_one_call_looks_at_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goal: a filter that fits nothing does not hold up the gateway. Method: count the looks."""
    monkeypatch.setattr(parked_module, "SCANNED_MAX", 10)
    monkeypatch.setattr(parked_module, "_PORTION", 5)
    shelf = Shelf([row(f"{number:04}") for number in range(100)])
    rows, place = find_parked(shelf, Wanted(("aws",), "network"), ("", ""), 10)
    assert (rows, place) == ([], ("aws", "0009"))
    assert shelf.calls == 2


def test_a_cursor_reads_back_and_a_forged_one_is_refused() -> None:
    """Goal: what comes from clients is checked. Method: a round trip, and nonsense."""
    for place in (("aws", "public/blobs/x"), ("gcp", "読み")):
        assert read_cursor(cursor_text(place)) == place
    assert read_cursor(None) == ("", "")
    for text in ("?", "", "WzFd", "eyJhIjoxfQ", "x" * 5_000):
        with pytest.raises(MalformedError):
            read_cursor(text)


def test_the_story_follows_what_is_waited_for_down_to_the_root_cause() -> None:
    """Goal: one look tells the cause. Method: bundle, file, blob; then a child nobody has seen."""
    shelf = Shelf(
        [
            row("bundle", error_class="child", waits_for="file"),
            row("file", error_class="child", waits_for="blob"),
            row("blob"),
        ],
        {key: written(key) for key in ("bundle", "file", "blob")},
    )
    top = shelf.copies("bundle")["aws"]
    story = copy_story(shelf, "bundle", written("bundle"), "aws", top)
    assert [step["key"] for step in story["because"]] == ["file", "blob"]
    assert story["because"][-1]["error_class"] == "checksum"
    lost = row("bundle", state=CopyState.WAITING, waits_for="nowhere")
    assert copy_story(shelf, "bundle", written("bundle"), "aws", lost)["because"] == [
        {"key": "nowhere", "state": "unknown", "is_origin": False, "attempts": 0}
    ]


def test_copies_without_a_record_are_present_at_the_origin_and_pending_elsewhere() -> None:
    """Goal: the event is the origin's proof (R1). Method: both replicas, no records."""
    shelf = Shelf([])
    states = [
        copy_story(shelf, "k", written("k"), replica, None)["state"]
        for replica in ("onprem", "aws")
    ]
    assert states == ["present", "pending"]


def test_a_circle_of_waits_ends() -> None:
    """Goal: wrong data cannot hang a gateway. Method: two that wait for each other, a long line."""
    shelf = Shelf([row("a", waits_for="b"), row("b", waits_for="a")])
    assert len(copy_story(shelf, "a", None, "aws", shelf.rows[0])["because"]) == 1
    line = Shelf([row(f"{n}", waits_for=f"{n + 1}") for n in range(100)])
    assert len(copy_story(line, "0", None, "aws", line.rows[0])["because"]) == 32


def test_a_story_in_words_names_cause_place_and_remedy() -> None:
    """Goal: a person knows what to do. Method: the words of a story made by the API's own code."""
    shelf = Shelf(
        [row("file", error_class="child", waits_for="blob"), row("blob", error="is\nother")],
        {key: written(key) for key in ("file", "blob")},
    )
    waiting = row("file", "gcp", CopyState.PENDING, next_try_at_ms=91_000, error_class="network")
    event = {
        "position": "1.2.7", "written_at_ms": 500, "written_by": "ana", "request_id": "r1",
        "origin": "onprem", "size": 4, "sha256": "x", "content_type": "text/plain",
    }  # fmt: skip
    story: dict[str, Any] = {
        "key": "file", "event": event, "redaction": None, "readable_on": ["onprem"],
        "copies": [
            copy_story(shelf, "file", written("file"), "onprem", None),
            copy_story(shelf, "file", written("file"), "aws", shelf.rows[0]),
            copy_story(shelf, "file", written("file"), "gcp", waiting),
        ],
    }  # fmt: skip
    text = "\n".join(story_lines(story, 61_000))
    for words in (
        "by ana at position 1.2.7", "readable on onprem", "onprem (origin): present",
        "because blob is parked", "6 attempts", "checksum: is other",
        "then `tidestore retry blob`", "next try in 30 s",
    ):  # fmt: skip
        assert words in text
    poison = copy_story(Shelf([]), "k", None, "aws", row("k", error_class="poison"))
    redaction = {"reason": "consent", "released_to": None}
    story = {
        "key": "k",
        "event": None,
        "redaction": redaction,
        "readable_on": [],
        "copies": [poison],
    }
    text = "\n".join(story_lines(story, 0))
    assert "no readable event" in text
    assert "redacted: consent" in text
    assert "tidestore retry" not in text, "no retry helps"


def test_a_parked_copy_is_one_line() -> None:
    """Goal: the list can be searched with grep. Method: an error of several lines."""
    line = parked_line(parked_document(row("public/blobs/x", error="one\ntwo")), 7_201_000)
    assert line.split() == ["aws", "checksum", "2", "h", "6x", "public/blobs/x", "one", "two"]


def test_ages_are_read_and_said() -> None:
    """Goal: people say 15m. Method: every unit, and what is no age."""
    read = [_Age().convert(text, None, None) for text in ("90", "90s", "15m", "2h", "7d")]
    assert read == [90, 90, 900, 7_200, 604_800]
    for text in ("", "-1", "1w", "1.5h", "h"):
        with pytest.raises(click.BadParameter):
            _Age().convert(text, None, None)
    assert [age_words(ms) for ms in (-5, 2_000, 120_000, 7_200_000, 172_800_000)] == [
        "0 s", "2 s", "2 min", "2 h", "2 d"
    ]  # fmt: skip
