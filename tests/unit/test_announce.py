"""streams/announce.py: each change once, in order, with the same id after any crash."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.made import written

from tidestore.schemas.events import ChangeAnnounced, ChangeType, CopyState, ObjectRedacted
from tidestore.streams.announce import (
    KnownCopy,
    announcements,
    change_id,
    first_announcement,
    is_everywhere,
    lifted,
    redacted,
)

_EXPECTED = ("aws", "gcp", "onprem")
_URLS = {"aws": "s3://a/k", "gcp": "gs://b/k"}


def _first() -> ChangeAnnounced:
    return first_announcement(written(), 9, name="a.txt", expected=_EXPECTED)


def _copy(name: str, state: CopyState, moment: int = 50, life: int = 1) -> KnownCopy:
    return KnownCopy(name, life, state, moment, "why" if state is CopyState.PARKED else None)


def _all(copies: list[KnownCopy]) -> list[ChangeAnnounced]:
    return announcements(_first(), copies, _URLS)


def test_a_write_is_announced_first() -> None:
    """Goal: the feed begins with the write. Method: the first announcement's fields."""
    first = _first()
    assert (first.type, first.sequence, first.log_offset) == (ChangeType.WRITTEN, 1, 9)
    assert (first.name, first.expected, first.copies) == ("a.txt", _EXPECTED, ())
    assert (first.claim, first.announced_at_ms) == (0, 0), "stamped when it is sent"


def test_the_origin_is_present_by_its_event() -> None:
    """Goal: R1's proof is announced. Method: no copies record at all."""
    (found,) = _all([])
    assert (found.type, found.replica, found.sequence) == (ChangeType.PRESENT, "aws", 2)
    assert [(place.replica, place.url) for place in found.copies] == [("aws", "s3://a/k")]
    assert not found.is_everywhere


def test_the_origins_own_record_counts_before_its_event() -> None:
    """Goal: damage at the origin is told. Method: a parked copy there, and one that is mended."""
    parked = _all([_copy("aws", CopyState.PARKED)])
    assert [(change.type, change.replica) for change in parked] == [(ChangeType.PARKED, "aws")]
    (mended,) = announcements(parked[-1], [_copy("aws", CopyState.PRESENT)], _URLS)
    assert (mended.type, mended.replica) == (ChangeType.PRESENT, "aws")


def test_changes_come_in_a_fixed_order_with_the_whole_state_each() -> None:
    """Goal: same inputs, same announcements. Method: copies in two orders."""
    copies = [_copy("onprem", CopyState.PRESENT), _copy("gcp", CopyState.PRESENT)]
    found = _all(copies)
    assert found == _all(copies[::-1])
    assert [(change.type, change.replica) for change in found] == [
        (ChangeType.PRESENT, "aws"),
        (ChangeType.PRESENT, "gcp"),
        (ChangeType.PRESENT, "onprem"),
        (ChangeType.PRESENT_EVERYWHERE, None),
    ]
    assert [change.sequence for change in found] == [2, 3, 4, 5]
    assert [len(change.copies) for change in found] == [1, 2, 3, 3]
    assert [change.is_everywhere for change in found] == [False, False, False, True]
    assert len({change.id for change in found}) == 4


def test_going_on_after_any_crash_gives_the_same_rest() -> None:
    """Goal: a repeat is known by its id. Method: begin again after each announcement."""
    copies = [_copy("onprem", CopyState.PRESENT), _copy("gcp", CopyState.PRESENT)]
    whole = _all(copies)
    for number, last in enumerate(whole):
        assert announcements(last, copies, _URLS) == whole[number + 1 :]


def test_open_states_are_not_announced() -> None:
    """Goal: the feed tells outcomes. Method: every state that is neither settled nor parked."""
    for state in CopyState:
        if not state.is_settled and state is not CopyState.PARKED:
            assert len(_all([_copy("gcp", state)])) == 1, "the origin's alone"


def test_a_copy_parked_twice_is_two_events() -> None:
    """Goal: each parking reaches a person. Method: parked, present again, parked later."""
    parked = _all([_copy("gcp", CopyState.PARKED)])[-1]
    assert (parked.type, parked.reason) == (ChangeType.PARKED, "why")
    (present,) = announcements(parked, [_copy("gcp", CopyState.PRESENT)], _URLS)
    assert (present.type, present.reason) == (ChangeType.PRESENT, None)
    (again,) = announcements(present, [_copy("gcp", CopyState.PARKED, moment=99)], _URLS)
    assert again.id != parked.id
    assert again.sequence == parked.sequence + 2


def test_an_excluded_copy_counts_as_settled_without_an_event_of_its_own() -> None:
    """Goal: `everywhere` does not wait for what never comes. Method: one excluded, one present."""
    found = _all([_copy("gcp", CopyState.EXCLUDED), _copy("onprem", CopyState.PRESENT)])
    assert found[-1].type == ChangeType.PRESENT_EVERYWHERE
    states = {place.replica: place.state for place in found[-1].copies}
    assert states == {
        "aws": CopyState.PRESENT,
        "gcp": CopyState.EXCLUDED,
        "onprem": CopyState.PRESENT,
    }


def test_what_is_redacted_is_announced_nowhere_as_being_everywhere() -> None:
    """Goal: no hook is told of what is gone. Method: gone from one replica, and from all."""
    going = [_copy("gcp", CopyState.PRESENT), _copy("onprem", CopyState.REDACTED)]
    assert ChangeType.PRESENT_EVERYWHERE not in [change.type for change in _all(going)]
    gone = [_copy(name, CopyState.REDACTED) for name in _EXPECTED]
    assert _all(gone) == []


def _hidden(last: ChangeAnnounced, moment: int) -> ChangeAnnounced:
    found = redacted(last, ObjectRedacted(last.key, 1, "consent withdrawn", "admin", moment))
    assert found is not None
    return found


def test_what_is_hidden_is_announced_once_without_its_name() -> None:
    """Goal: `object.redacted` at once, with the reason. Method: a record of the log, and again."""
    copies = [_copy("onprem", CopyState.PRESENT), _copy("gcp", CopyState.PRESENT)]
    last = _all(copies)[-1]
    hidden = _hidden(last, 70)
    assert (hidden.type, hidden.reason, hidden.name) == (
        ChangeType.REDACTED, "consent withdrawn", None,
    )  # fmt: skip
    assert (hidden.is_redacted, hidden.is_everywhere, hidden.sequence) == (True, False, 6)
    assert redacted(hidden, ObjectRedacted(last.key, 2, "other", "admin", 70)) is None
    assert _hidden(hidden, 60).id != hidden.id, "another decision, whichever clock made it"
    late = [*copies, _copy("aws", CopyState.PRESENT, life=2)]
    assert announcements(hidden, late, _URLS) == [], "what is on its way out is not present"


def test_removed_everywhere_is_said_once_when_the_last_receipt_is_there() -> None:
    """Goal: who watches learns when it is done. Method: receipts one by one, then all again."""
    hidden = _hidden(_all([_copy("onprem", CopyState.PRESENT)])[-1], 70)
    gone = [_copy(name, CopyState.REDACTED) for name in _EXPECTED]
    for number in (1, 2):
        assert announcements(hidden, gone[:number], _URLS) == []
    (done,) = announcements(hidden, gone, _URLS)
    assert (done.type, done.is_everywhere) == (ChangeType.REDACTED_EVERYWHERE, True)
    assert [place.state for place in done.copies] == [CopyState.REDACTED] * 3
    assert announcements(done, gone, _URLS) == []
    (parked,) = announcements(hidden, [_copy("gcp", CopyState.PARKED)], _URLS)
    assert parked.type == ChangeType.PARKED, "a removal that a person must look at"


def test_what_is_lifted_comes_back_with_ids_of_its_own() -> None:
    """Goal: a receiver that keeps ids hears of the return. Method: all of it before and after."""
    here = [_copy(name, CopyState.PRESENT) for name in _EXPECTED]
    before = _all(here)
    hidden = _hidden(before[-1], 70)
    back = lifted(hidden, name="a.txt")
    assert (back.type, back.name, back.is_redacted) == (ChangeType.LIFTED, "a.txt", False)
    assert back.reason is None
    gone = [_copy("aws", CopyState.REDACTED), _copy("gcp", CopyState.PENDING)]
    assert announcements(back, gone, _URLS) == [], "nothing is there yet"
    after = announcements(back, here, _URLS)
    assert [change.type for change in after] == [change.type for change in before]
    assert not {change.id for change in after} & {change.id for change in before}
    again = lifted(_hidden(after[-1], 90), name="a.txt")
    assert again.id != back.id, "hidden and lifted a second time"


def test_everywhere_is_said_once() -> None:
    """Goal: once per object. Method: a copy of a new life becomes present afterwards."""
    copies = [_copy("onprem", CopyState.PRESENT), _copy("gcp", CopyState.PRESENT)]
    last = _all(copies)[-1]
    assert announcements(last, copies, _URLS) == []
    (again,) = announcements(last, [copies[0], _copy("gcp", CopyState.PRESENT, life=2)], _URLS)
    assert (again.type, again.replica, again.is_everywhere) == (ChangeType.PRESENT, "gcp", True)


def test_everywhere_means_the_replicas_that_were_expected() -> None:
    """Goal: a replica that came later changes nothing. Method: another one present, one missing."""
    last = replace(_first(), expected=("aws", "gcp"))
    found = announcements(last, [_copy("late", CopyState.PRESENT)], _URLS)
    assert not is_everywhere(found[-1])
    assert found[-1].copies[-1].url == "", "no address is known for it"
    found = announcements(found[-1], [_copy("gcp", CopyState.PRESENT)], _URLS)
    assert found[-1].type == ChangeType.PRESENT_EVERYWHERE


def test_an_id_depends_on_all_that_makes_a_change_and_holds_no_dot() -> None:
    """Goal: no two changes share an id. Method: vary each part; parts do not run together."""
    ids = {
        change_id("a", "k"),
        change_id("b", "k"),
        change_id("a", "l"),
        change_id("a", "k", "r"),
        change_id("a", "k", "r", 1),
        change_id("a", "k", "r", 1, 1),
        change_id("a", "k", "r1", 0, 1),
        change_id("ak", ""),
    }
    assert len(ids) == 8
    assert all("." not in item and len(item) == 36 for item in ids)
    # Written down once: receivers remember ids over our releases.
    assert change_id("object.written", "k") == "chg_8954dc4f3aaf4079aa9ed05ca6a56579"
