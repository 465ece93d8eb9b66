"""client/kit/state.py: what a third party's replica remembers over any death."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidestore.client.kit.state import Decision, InUseError, State, name_in
from tidestore.schemas.objects import MalformedError

UUID = "6f1c2a7e-53b4-4c0e-8d0a-9a7f3a1b2c3d"
BLOB = "lab/blobs/" + "a" * 64
OTHER = "lab/blobs/" + "b" * 64
FILE = f"lab/files/{UUID}.2026-11-23T120000.000000Z"
NEXT = f"lab/files/{UUID}.2026-11-24T120000.000000Z"
BUNDLE = f"lab/bundles/{UUID}.2026-11-23T120000.000000Z"
WHOLE = f"lab/files/{UUID}"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A new memory."""
    made = State(tmp_path / "state")
    yield made
    made.close()


def told_states(state: State) -> dict[str, str]:
    return {item.key: item.state for item in state.untold(100)}


def test_a_page_is_owed_once_with_its_cursor_and_blobs_come_first(state: State) -> None:
    """Goal: what was told of is written down. Method: a page, again, opened anew; what is due."""
    state.take("lab", [], [BUNDLE, FILE, BLOB, "no/key"], "c1")
    state.take("lab", [], [BLOB], "c2")
    state.close()
    again = State(state.folder)
    try:
        assert again.cursor("lab") == "c2"
        assert again.cursor("public") is None
        assert again.due(1.0, 10) == [BLOB, FILE, BUNDLE]
        again.failed(BLOB, "no answer", 50.0)
        assert again.due(1.0, 10) == [FILE, BUNDLE]
        assert (again.attempts(BLOB), again.problems(5)) == (1, [(BLOB, "no answer")])
        assert again.next_try() == 0
    finally:
        again.close()


def test_a_page_that_cannot_be_taken_whole_is_not_taken(state: State) -> None:
    """Goal: no cursor beyond what is owed. Method: a page that breaks at its last key."""

    def keys() -> Iterator[str]:
        yield BLOB
        raise RuntimeError

    with pytest.raises(RuntimeError):
        state.take("lab", [Decision(WHOLE, 1, is_lifted=False)], keys(), "c1")
    assert state.cursor("lab") is None
    assert not state.due(1.0, 10)
    assert not state.is_redacted(FILE)


def test_a_receipt_is_owed_until_it_was_told(state: State) -> None:
    """Goal: killed before a receipt, it is told later. Method: stored, told, stored again."""
    state.take("lab", [], [BLOB], "c1")
    state.stored(BLOB, 4, "a" * 64)
    assert not state.due(1.0, 10)
    (receipt,) = state.untold(10)
    state.told([receipt])
    assert not state.untold(10)
    state.take("lab", [], [BLOB], "c2")
    assert not state.due(1.0, 10), "it is here"
    state.tell_again()
    assert told_states(state) == {BLOB: "stored"}


def test_a_redaction_takes_what_is_here_and_what_is_owed(state: State) -> None:
    """Goal: a decision on a uuid covers all its versions, later ones too, and nothing else.

    Method: one version stored, one owed, a bundle of the same uuid, a blob; then erased and told.
    """
    state.take("lab", [], [FILE, NEXT, BUNDLE, BLOB], "c1")
    state.stored(FILE, 1, "1" * 64)
    state.told(state.untold(10))
    state.take("lab", [Decision(WHOLE, 1, is_lifted=False)], [], "c2")
    assert state.condemned(10) == [FILE]
    assert state.due(1.0, 10) == [BLOB, BUNDLE]
    assert not state.untold(10), "not gone yet"
    state.removed(FILE)
    assert told_states(state) == {FILE: "removed"}
    state.take("lab", [], [FILE, NEXT], "c3")
    assert state.due(1.0, 10) == [BLOB, BUNDLE], "hidden from later pages, too"
    assert state.keys("", 10) == []


def test_a_lift_brings_back_what_it_names_and_an_older_decision_counts_no_more(
    state: State,
) -> None:
    """Goal: as the store does. Method: removed and lifted; condemned and lifted; a page again."""
    state.take("lab", [], [FILE, BLOB], "c1")
    state.stored(FILE, 1, "1" * 64)
    state.stored(BLOB, 1, "a" * 64)
    gone = [Decision(WHOLE, 1, is_lifted=False), Decision(BLOB, 1, is_lifted=False)]
    state.take("lab", gone, [], "c2")
    state.removed(FILE)
    back = [Decision(WHOLE, 1, is_lifted=True, keys=(FILE,)),
            Decision(BLOB, 1, is_lifted=True, keys=(BLOB,))]  # fmt: skip
    state.take("lab", back, [], "c3")
    assert state.due(1.0, 10) == [FILE], "the blob was never erased"
    assert told_states(state) == {FILE: "removed", BLOB: "stored"}
    state.stored(FILE, 1, "1" * 64)
    state.take("lab", [Decision(WHOLE, 2, is_lifted=False)], [], "c4")
    state.take("lab", back, [], "c5")
    assert state.condemned(10) == [FILE]


def test_one_process_keeps_a_replica_and_nobody_else_reads_its_token(state: State) -> None:
    """Goal: two kits do not share a memory; the token is its owner's. Method: open twice; modes."""
    with pytest.raises(InUseError):
        State(state.folder)
    state.keep_token("tsr_a-b_x_y")
    assert state.token == "tsr_a-b_x_y"
    assert stat.S_IMODE((state.folder / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.folder.stat().st_mode) == 0o700
    assert name_in(state.token) == "a-b"
    for text in ("", "tsr_", "tsr__x", "test-token", "xyz_a_b"):
        with pytest.raises(MalformedError):
            name_in(text)


def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    """Goal: leaving leaves no trace. Method: the folder of a memory with a token, forgotten."""
    state = State(tmp_path / "state")
    state.keep_token("tsr_a_b")
    state.forget()
    assert list(tmp_path.iterdir()) == []
