"""A replica's listing against what the log and its copies say: a merge of two ordered streams.

    expected (view, by key)   a   b   c       e      g
    listed   (store, by key)  a       c   d   e*  f
                              =  lost =  dark |   foreign: no key of ours
                                              altered   g: owed, not judged

Pure: no clock, no store, no log; the same two streams give the same findings. Memory holds one
entry of each side and the findings, which are bounded. What it says are suspicions: who was written
or changed while the listing ran is known only afterwards (streams/scrub.py asks the view again).

Both sides must be in strict order of key. A store that lists in another order would make everything
look lost, so that is an error and not a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.findings import FindingKind
from tidestore.schemas.objects import find_key_parts

# Suspicions are held in memory until the listing has ended: about 100 MB of them. More is no work
# for a repair, but for a person.
SUSPICIONS_MAX: Final = 200_000


class Duty(Enum):
    """What the log and the copies say about one key on this replica."""

    # A record before the cut says that it is here.
    PRESENT = "present"
    # It has to come, or is being mended: here or not, both are right.
    OWED = "owed"
    # Excluded, or changed since the cut: both are right, and nothing is owed.
    FREE = "free"
    # Redacted, for long enough that it should have gone.
    GONE = "gone"


class Expected(NamedTuple):
    """One key that the log or the copies know. `mark` tells whether it changed since."""

    key: str
    duty: Duty
    size: int
    crc32c: str
    md5: str
    mark: tuple[int, int]


class Suspicion(NamedTuple):
    """What looks wrong. `info` is what the store listed, `mark` is the expected entry's."""

    kind: FindingKind
    key: str
    mark: tuple[int, int] | None
    info: ObjectInfo | None
    detail: str
    # Of what should be there; 0 for what should not.
    size: int = 0


class DisorderError(Exception):
    """A side is not in order of key: nothing can be said."""


class TooManyError(Exception):
    """More looks wrong than is held: a person has to look."""


@dataclass(slots=True)
class Counts:
    """What went by."""

    expected: int = 0
    expected_bytes: int = 0
    equal: int = 0
    owed: int = 0
    listed: int = 0
    # Of the equal ones, those that a checksum of the store's own has proved beside the size.
    by_checksum: int = 0
    foreign: int = 0


@dataclass(slots=True)
class Comparison:
    """Give it all that is listed, in order, then finish it."""

    expected: Iterator[Expected]
    suspicions_max: int = SUSPICIONS_MAX
    counts: Counts = field(default_factory=Counts)
    suspicions: list[Suspicion] = field(default_factory=list)
    _head: Expected | None = None
    _last_listed: str = ""
    _has_begun: bool = False

    def take(self, info: ObjectInfo) -> None:
        """The next listed object. Raises DisorderError, TooManyError."""
        key: str = info.key
        if key <= self._last_listed:
            raise DisorderError(f"the store lists {key!r} after {self._last_listed!r}")
        self._last_listed = key
        self.counts.listed += 1
        head = self._head if self._has_begun else self._next()
        while head is not None and head.key < key:
            self._missing(head)
            head = self._next()
        if head is not None and head.key == key:
            self._both(head, info)
            self._next()
        else:
            self._unknown(info)

    def finish(self) -> None:
        """The listing has ended: what is still expected was not in it."""
        head = self._head if self._has_begun else self._next()
        while head is not None:
            self._missing(head)
            head = self._next()

    def _next(self) -> Expected | None:
        last = self._head
        self._has_begun = True
        self._head = next(self.expected, None)
        if last is not None and self._head is not None and self._head.key <= last.key:
            raise DisorderError(f"{self._head.key!r} is expected after {last.key!r}")
        return self._head

    def _missing(self, wanted: Expected) -> None:
        if wanted.duty is Duty.PRESENT:
            self._expect(wanted)
            self._suspect(FindingKind.LOST, wanted, None, "not in the listing")
        elif wanted.duty is Duty.OWED:
            self.counts.owed += 1

    def _both(self, wanted: Expected, info: ObjectInfo) -> None:
        if wanted.duty is Duty.GONE:
            self._suspect(FindingKind.UNREDACTED, wanted, info, "redacted, and still there")
            return
        if wanted.duty is not Duty.PRESENT:
            self.counts.owed += wanted.duty is Duty.OWED
            return
        self._expect(wanted)
        difference, is_proved = _difference(wanted, info)
        if difference:
            self._suspect(FindingKind.ALTERED, wanted, info, difference)
            return
        self.counts.equal += 1
        self.counts.by_checksum += is_proved

    def _unknown(self, info: ObjectInfo) -> None:
        # Other things lie in buckets: another store's prefix, a person's notes, and what we put
        # under .tidestore/ ourselves. Only what has a key of ours can be an object of ours.
        if find_key_parts(info.key) is None:
            self.counts.foreign += 1
            return
        self._suspect(FindingKind.DARK, None, info, "the log knows nothing of it")

    def _expect(self, wanted: Expected) -> None:
        self.counts.expected += 1
        self.counts.expected_bytes += wanted.size

    def _suspect(
        self, kind: FindingKind, wanted: Expected | None, info: ObjectInfo | None, detail: str
    ) -> None:
        if len(self.suspicions) >= self.suspicions_max:
            raise TooManyError(f"more than {self.suspicions_max} objects look wrong")
        key = wanted.key if wanted is not None else str(info.key if info is not None else "")
        mark = wanted.mark if wanted is not None else None
        size = wanted.size if wanted is not None and kind is not FindingKind.UNREDACTED else 0
        self.suspicions.append(Suspicion(kind, key, mark, info, detail, size))


def _difference(wanted: Expected, info: ObjectInfo) -> tuple[str, bool]:
    """What contradicts the log, and whether a checksum proved that nothing does."""
    if info.size != wanted.size:
        return f"size is {info.size}, not {wanted.size}", False
    is_proved = False
    for algorithm, digest in info.checksums.items():
        mine = getattr(wanted, algorithm, "")
        if not mine:
            continue
        if mine != digest:
            return f"{algorithm} is {digest}, not {mine}", False
        is_proved = True
    return "", is_proved
