"""client/journal.py and local/layout.py: what is kept on disk between two runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidestore.client.journal import Journal
from tidestore.local.layout import Layout, cache_folder, write_whole


def test_a_path_has_one_uuid_for_ever_and_another_under_another_root(tmp_path: Path) -> None:
    """Goal: a second run writes nothing twice. Method: reopen, and open another root."""
    first = Journal(tmp_path / "j.sqlite", "/data/a")
    uuid = first.uuid_of("x/y.txt")
    assert first.uuid_of("x/y.txt") == uuid != first.uuid_of("x/z.txt")
    first.close()
    again, other = Journal(tmp_path / "j.sqlite", "/data/a"), Journal(tmp_path / "j.sqlite", "/b")
    assert again.uuid_of("x/y.txt") == uuid != other.uuid_of("x/y.txt")
    again.close()
    other.close()


def test_a_version_is_chosen_once_for_what_a_path_looks_like(tmp_path: Path) -> None:
    """Goal: a retry after a kill sends the same version. Method: begin, die, begin, change."""
    journal = Journal(tmp_path / "sub" / "j.sqlite", "r")
    assert journal.find("a") is None
    entry = journal.begin("a", "size 1", "v1")
    assert (entry.version, entry.is_done, entry.sha256) == ("v1", False, "")
    journal.close()  # as far as SQLite knows, a kill is no different: each change is committed
    journal = Journal(tmp_path / "sub" / "j.sqlite", "r")
    assert journal.begin("a", "size 1", "v2").version == "v1"
    journal.note_hash("a", "hash")
    journal.done("a")
    found = journal.find("a")
    assert found is not None
    assert (found.version, found.sha256, found.is_done) == ("v1", "hash", True)
    assert journal.begin("a", "size 1", "v2") == found
    changed = journal.begin("a", "size 2", "v3", "other")
    assert (changed.version, changed.sha256, changed.is_done) == ("v3", "other", False)
    assert journal.find("a") == changed
    journal.close()


def test_two_roots_do_not_see_each_others_entries(tmp_path: Path) -> None:
    """Goal: one journal for all roots. Method: the same path under two."""
    first, second = Journal(tmp_path / "j", "a"), Journal(tmp_path / "j", "b")
    first.begin("x", "f", "v1")
    assert second.find("x") is None
    second.begin("x", "f", "v2")
    second.done("x")
    found = first.find("x")
    assert found is not None
    assert (found.version, found.is_done) == ("v1", False)
    first.close()
    second.close()


def test_a_layout_keeps_its_state_whole(tmp_path: Path) -> None:
    """Goal: a reader never sees half a state. Method: none, written, replaced, broken."""
    layout = Layout(tmp_path / "data", tmp_path / "cache")
    assert layout.read_state() == {}
    layout.make()
    layout.make()
    assert layout.logs.is_dir()
    assert not layout.cache.exists(), "what is shared is no part of a stack"
    layout.write_state({"ports": {"gateway": 1}})
    layout.write_state({"ports": {"gateway": 2}})
    assert layout.read_state() == {"ports": {"gateway": 2}}
    assert {path.name for path in layout.data.iterdir()} == {"logs", "stack.json"}
    layout.state.write_text("{half", "utf-8")
    assert layout.read_state() == {}
    assert layout.token.parent == layout.config.parent == layout.data


def test_a_secret_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Goal: others on the machine cannot read the token. Method: its mode."""
    before = os.umask(0)
    try:
        write_whole(tmp_path / "token", "secret", mode=0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "token").read_text("utf-8") == "secret"


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"TIDESTORE_CACHE": "/c"}, Path("/c")),
        ({"TIDESTORE_CACHE": "/c", "XDG_CACHE_HOME": "/x"}, Path("/c")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/tidestore")),
        ({}, Path.home() / ".cache" / "tidestore"),
    ],
)
def test_the_cache_lies_where_the_user_says(environ: dict[str, str], folder: Path) -> None:
    """Goal: nothing lands where it was not wanted. Method: each way to say it."""
    assert cache_folder(environ) == folder
