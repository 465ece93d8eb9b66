"""What is pure about replicas: what is served, what overlaps, how fast, whose keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidestore.api.progress import Sample, rates
from tidestore.api.replicas import registration
from tidestore.config.keys import FileKeyring
from tidestore.connectors.credentials import NoKeyring, Secret, StoreAddress
from tidestore.connectors.directory import Known, Served, served
from tidestore.connectors.errors import StoreDeniedError
from tidestore.connectors.memory import MemoryStore
from tidestore.connectors.places import overlap, refuse_secrets
from tidestore.connectors.rotation import RotatingStore
from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.events import ReplicaRegistered, ReplicaRetired
from tidestore.schemas.objects import MalformedError, ObjectKey, ReplicaName
from tidestore.schemas.topics import Topics


def in_file(name: str, incarnation: int = 1) -> Served:
    url = f"s3://file/{name}"
    return Served(ReplicaName(name), incarnation, StoreAddress.parse(url), url)


def registered(name: str, incarnation: int = 1, **more: Any) -> Known:
    return Known(ReplicaRegistered(name, incarnation, f"s3://topic/{name}", 5, **more), 7)


def retired(name: str, incarnation: int = 1) -> Known:
    return Known(ReplicaRetired(name, incarnation, "", 6), 8)


def test_the_topic_says_which_life_is_served_and_the_file_where_its_own_replicas_lie() -> None:
    """Goal: the two halves are joined as promised. Method: every combination of them."""
    file = [in_file("a"), in_file("b"), in_file("c"), in_file("d", 3)]
    known = {
        "b": registered("b", 2, is_paused=True),
        "c": retired("c"),
        "d": retired("d", 2),
        "e": registered("e", options="region=x"),
        "f": retired("f"),
    }
    found = served(file, known, NoKeyring())
    shown = [(i.name, i.incarnation, i.address.bucket, i.is_paused) for i in found.values()]
    assert shown == [
        ("a", 1, "file", False),
        ("b", 2, "file", True),
        ("d", 3, "file", False),
        ("e", 1, "topic", False),
    ]
    assert found["e"].address.options == {"region": "x"}


def test_a_file_registers_what_is_new_and_never_undoes_what_the_topic_says() -> None:
    """Goal: a start is idempotent. Method: a replica of the file beside each kind of record."""
    new = registration(in_file("a"), None, 9)
    assert new is not None
    assert (new.incarnation, new.url, new.registered_at_ms) == (1, "s3://file/a", 9)
    assert registration(in_file("a"), Known(new, 1), 10) is None
    assert registration(in_file("a"), retired("a"), 10) is None
    assert registration(in_file("a"), registered("a", 2), 10) is None
    raised = registration(in_file("a", 2), retired("a"), 10)
    assert raised is not None
    assert raised.incarnation == 2
    moved = registration(in_file("a"), registered("a", is_paused=True), 10)
    assert moved is not None
    assert (moved.url, moved.is_paused, moved.registered_at_ms) == ("s3://file/a", True, 5)


@pytest.mark.parametrize(
    ("one", "other", "does"),
    [
        ("s3://b/x", "s3://b/x", True),
        ("s3://b", "s3://b/x", True),
        ("s3://b/x", "s3://b/x/y", True),
        ("s3://b/x", "s3://b/xy", False),
        ("s3://b/x", "s3://b/y", False),
        ("s3://b", "s3://c", False),
        ("s3://b", "gs://b", False),
        ("s3://b?endpoint=http://one", "s3://b?endpoint=http://two", False),
        ("s3://b?endpoint=http://one/", "s3://b?endpoint=http://ONE&region=r", True),
        ("file:///a/b", "file:///a/./c/../b/d", True),
        ("file:///a/b", "file:///a/c", False),
    ],
)
def test_places_overlap_when_a_key_of_one_could_be_a_key_of_the_other(
    one: str, other: str, *, does: bool
) -> None:
    """Goal: two prefixes side by side are two places. Method: pairs, both ways round."""
    first, second = StoreAddress.parse(one), StoreAddress.parse(other)
    assert overlap(first, second) is overlap(second, first) is does


@pytest.mark.parametrize("url", ["s3://id:key@b", "s3://b?secret_access_key=x", "s3://b#x"])
def test_a_url_with_a_secret_does_not_reach_the_topic(url: str) -> None:
    """Goal: no credential is registered. Method: where a person might have put one."""
    with pytest.raises(MalformedError):
        refuse_secrets(url, StoreAddress.parse(url))


def test_a_topic_names_its_life_and_another_topic_none() -> None:
    """Goal: what ended is found by its topic. Method: there and back, in both generations."""
    for topics in (Topics(), Topics(prefix="x.", generation=2)):
        name = ReplicaName("a-1")
        assert topics.find_life(topics.copies(name, 12)) == (name, 12)
        assert topics.find_life(topics.log) is None
    assert Topics(generation=2).find_life("tidestore.copies.a.1") is None


def test_time_left_goes_by_how_fast_the_debt_shrinks() -> None:
    """Goal: writes that go on are not forgotten. Method: samples by hand."""
    assert rates([]) == (0.0, None)
    assert rates([Sample(0, 5, 0)]) == (0.0, 0.0)
    assert rates([Sample(0, 0, 100), Sample(10, 50, 50)]) == (5.0, 10.0)
    assert rates([Sample(0, 0, 100), Sample(10, 50, 90)]) == (5.0, 90.0)
    assert rates([Sample(0, 0, 100), Sample(10, 50, 100)]) == (5.0, None)


class GuardedStore(MemoryStore):
    """A memory store that takes one secret, which may be changed on its side."""

    right = "one"

    def __init__(self, secret: str) -> None:
        super().__init__("guarded")
        self._secret = secret

    async def head(self, key: ObjectKey) -> ObjectInfo:
        """See ObjectStore."""
        if self._secret != GuardedStore.right:
            raise StoreDeniedError("head", "guarded", key)
        return ObjectInfo(key, 0, self._secret, 0)


async def test_keys_are_read_again_when_their_file_changes_and_when_they_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: rotation needs no restart. Method: a file and a clock, the server first or last."""
    path, moment = tmp_path / "k.toml", 100.0
    path.write_text('secret = "env:S"\n')
    environ = {"S": "one", "T": "two"}
    source = FileKeyring(tmp_path, environ).source("k")
    assert source is not None
    made: list[str] = []

    def make(found: dict[str, Secret]) -> GuardedStore:
        made.append(found["secret"].reveal())
        return GuardedStore(made[-1])

    store = RotatingStore(make, source.read(), source, now=lambda: moment)
    assert (await store.head(ObjectKey("k"))).etag == "one"
    monkeypatch.setattr(GuardedStore, "right", "two")
    with pytest.raises(StoreDeniedError):
        await store.head(ObjectKey("k"))
    assert made == ["one"], "nothing new in the file: no other client"
    path.write_text('secret = "env:T"\n')
    assert (await store.head(ObjectKey("k"))).etag == "two", "refused, so read at once"
    path.write_text('secret = "plain:three"\n')
    assert (await store.head(ObjectKey("k"))).etag == "two", "looked at a moment ago"
    moment += 2
    with pytest.raises(StoreDeniedError):
        await store.head(ObjectKey("k"))
    assert made == ["one", "two", "three"]
    await store.close()


def test_a_credential_name_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    """Goal: the topic cannot read other files. Method: names that would."""
    keyring = FileKeyring(tmp_path, {})
    assert [keyring.source(name) for name in ("../x", "a/b", "", "a.b", "A")] == [None] * 5
    missing = keyring.source("missing")
    assert missing is not None
    with pytest.raises(MalformedError):
        missing.read()
