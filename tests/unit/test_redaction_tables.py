"""What is owed for a redaction, whatever was folded first; and the token of a preview."""

from __future__ import annotations

import itertools
import sqlite3
from dataclasses import replace

import pytest
from tests.unit.made import KEY, written

from tidestore.api.index import IndexFold
from tidestore.api.redaction_preview import TOKEN_SECONDS, Preview, fits, make_token
from tidestore.connectors.view import Folded
from tidestore.schemas.checksums import checksums_of
from tidestore.schemas.events import Event, ObjectRedacted, RedactionDecided, RedactionLifted
from tidestore.schemas.manifests import FileManifest, file_manifest_bytes
from tidestore.schemas.objects import (
    PUBLIC,
    Kind,
    ObjectUuid,
    Version,
    blob_key,
    versioned_key,
)

BODY = b"body"
SUMS = checksums_of(BODY)
BLOB = blob_key(PUBLIC, SUMS.sha256)
UUID = ObjectUuid("6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d")


def file_of(version: str, uuid: str = UUID) -> tuple[str, Event]:
    """A file's key and event that names BLOB."""
    manifest = FileManifest(ObjectUuid(uuid), Version(version), "a", "text/plain", SUMS)
    data = file_manifest_bytes(manifest)
    key = versioned_key(PUBLIC, Kind.FILE, ObjectUuid(uuid), Version(version))
    return key, replace(written(), key=key, data=data, size=len(data))


OLD, OLD_WRITTEN = file_of("2026-01-01T000000.000000Z")
NEW, NEW_WRITTEN = file_of("2026-02-01T000000.000000Z")
OTHER, OTHER_WRITTEN = file_of("2026-01-01T000000.000000Z", "00000000-0000-4000-8000-000000000000")


class Bench:
    """Folds records as the index does, with offsets of its own."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:")
        self._fold = IndexFold({}, lambda _: None)
        self._fold.create(self.db)
        self._offsets = itertools.count()

    def fold(self, *events: Event, at: int | None = None) -> None:
        records = []
        for event in events:
            topic = "log" if not hasattr(event, "target") else "redactions"
            key = event.key if topic == "log" else event.target  # type: ignore[union-attr]
            offset = next(self._offsets) if at is None else at
            records.append(Folded(topic, 0, offset, key, event, 0))
        self._fold.fold(self.db, records)

    @property
    def owed(self) -> set[tuple[str, str]]:
        return set(self.db.execute("SELECT key, what FROM owed"))


def decided(target: str, number: int = 1, because_of: str | None = None) -> RedactionDecided:
    return RedactionDecided(target, number, "consent", "admin", 1, 2, because_of=because_of)


def redacted(key: str, number: int = 1) -> ObjectRedacted:
    return ObjectRedacted(key, number, "consent", "admin", 1)


def test_a_decision_owes_a_record_for_every_key_until_it_is_there() -> None:
    """Goal: a dead gateway's rest is found. Method: a uuid's versions, one after the other."""
    bench = Bench()
    bench.fold(OLD_WRITTEN, NEW_WRITTEN, OTHER_WRITTEN)
    assert not bench.owed
    bench.fold(decided(f"public/files/{UUID}"))
    assert bench.owed == {(OLD, "redact"), (NEW, "redact")}
    bench.fold(redacted(OLD))
    assert bench.owed == {(NEW, "redact")}
    bench.fold(redacted(NEW))
    assert not bench.owed


def test_a_later_write_owes_its_record_again() -> None:
    """Goal: a frozen gateway, and a later version, are beaten. Method: writes after all is done."""
    bench = Bench()
    bench.fold(OLD_WRITTEN, decided(f"public/files/{UUID}"), redacted(OLD))
    bench.fold(OLD_WRITTEN)
    bench.fold(NEW_WRITTEN)
    assert bench.owed == {(OLD, "redact"), (NEW, "redact")}


def test_a_lift_owes_the_write_and_nothing_when_it_is_there() -> None:
    """Goal: a lift is finished by anybody. Method: lift, append, redact again."""
    bench = Bench()
    bench.fold(OLD_WRITTEN, decided(OLD), redacted(OLD))
    bench.fold(RedactionLifted(OLD, 1, "admin", 1))
    assert bench.owed == {(OLD, "write")}
    bench.fold(OLD_WRITTEN)
    assert not bench.owed
    bench.fold(decided(OLD, 2))
    assert bench.owed == {(OLD, "redact")}


def test_what_is_redacted_again_before_its_write_is_back_owes_a_record() -> None:
    """Goal: workers hear of every decision. Method: lift, and decide again at once."""
    bench = Bench()
    bench.fold(OLD_WRITTEN, decided(OLD), redacted(OLD), RedactionLifted(OLD, 1, "admin", 1))
    bench.fold(decided(OLD, 2))
    assert bench.owed == {(OLD, "redact")}
    bench.fold(redacted(OLD, 2))
    assert not bench.owed
    bench.fold(decided(f"public/files/{UUID}", 3))
    assert bench.owed == {(OLD, "redact")}
    bench.fold(redacted(OLD, 3))
    assert not bench.owed


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (2, 0, 1), (1, 0, 2), (1, 2, 0)]
)
def test_what_is_owed_does_not_depend_on_what_is_folded_first(order: tuple[int, ...]) -> None:
    """Goal: topics come in any order. Method: a write, its removal, a decision, all orders.

    The log's own two keep their offsets; what is left is nothing, each time.
    """
    bench = Bench()
    steps: list[tuple[Event, int]] = [(OLD_WRITTEN, 5), (redacted(OLD), 6), (decided(OLD), 0)]
    for number in order:
        event, offset = steps[number]
        bench.fold(event, at=offset)
    assert not bench.owed


def test_a_blob_that_went_along_comes_back_when_a_live_file_names_it() -> None:
    """Goal: another's data does not vanish. Method: a commit that was under way; a lifted file."""
    bench = Bench()
    bench.fold(replace(written(), key=BLOB), OLD_WRITTEN)
    bench.fold(decided(OLD), redacted(OLD), decided(BLOB, because_of=OLD), redacted(BLOB))
    assert not bench.owed
    bench.fold(OTHER_WRITTEN)
    assert bench.owed == {(BLOB, "lift")}
    bench.fold(RedactionLifted(BLOB, 1, "tidestore", 1))
    assert bench.owed == {(BLOB, "write")}
    bench.fold(replace(written(), key=BLOB))
    bench.fold(decided(f"public/files/{OTHER.split('/')[2].split('.')[0]}"), redacted(OTHER))
    bench.fold(decided(BLOB, 2, because_of=OTHER), redacted(BLOB, 2))
    assert not bench.owed
    bench.fold(RedactionLifted(OLD, 1, "admin", 1))
    assert bench.owed == {(OLD, "write"), (BLOB, "lift")}


def test_a_blob_that_was_named_itself_stays_gone() -> None:
    """Goal: an admin's word about content is final. Method: a blob's own redaction, live files."""
    bench = Bench()
    bench.fold(replace(written(), key=BLOB), OLD_WRITTEN)
    bench.fold(decided(BLOB), redacted(BLOB))
    bench.fold(OTHER_WRITTEN)
    assert not bench.owed


def test_a_token_is_of_one_preview_one_admin_and_a_short_time() -> None:
    """Goal: nothing is done that was not looked at. Method: change one thing at a time."""
    preview = Preview("public/files/x", Kind.FILE, PUBLIC, (OLD,), (BLOB,))
    token = make_token(preview, "secret", 1_000.0)
    assert fits(token, preview, "secret", 1_000.0 + TOKEN_SECONDS)
    assert not fits(token, preview, "secret", 1_002.0 + TOKEN_SECONDS)
    assert not fits(token, preview, "another", 1_000.0)
    for other in (
        replace(preview, keys=(OLD, NEW)), replace(preview, takes_along=()),
        replace(preview, referred_by=(KEY,)), replace(preview, keeps=((BLOB, (OTHER,)),)),
        replace(preview, target="public/files/y"),
    ):  # fmt: skip
        assert not fits(token, other, "secret", 1_000.0)
    for wrong in ("", ".", "1", "x.y", f"{10**11}.{token.split('.')[1]}", f"\ud800{token}"):
        assert not fits(wrong, preview, "secret", 1_000.0)
