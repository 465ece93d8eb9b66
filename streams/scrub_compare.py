"""A replica's listing against what the log and its copies say: a merge of two ordered streams.

    expected (view, by key)   a   b   c       e      g
    listed   (store, by key)  a       c   d   e*  f
                              =  lost =  dark |   foreign: no key of ours
                                              altered   g: owed, not judged

Pure: no clock, no store, no log; the same two streams give the same findings. Memory holds one
entry of each side; what it says are suspicions, held by a spool: who was written or changed while
the listing ran is known only afterwards (streams/scrub.py asks the view again).

Both sides must be in strict order of key. A store that lists our keys in another order would make
everything look lost, so that is an error and not a finding. Keys that are not ours are counted and
take no part: how a store spells and sorts a person's odd names is none of our business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from tidestore.connectors.store import ObjectInfo
from tidestore.schemas.findings import FindingKind
from tidestore.schemas.objects import find_key_parts
from tidestore.streams.scrub_spool import Spool, Suspicion

# So many expected entries are passed over in one call: some milliseconds. A gap in a listing may be
# the whole store, and this runs in a worker's loop.
_PASSED_MAX: Final = 500


class Duty(Enum):
    """What the log and the copies say about one key on this replica."""

    # A record before the cut says that it is here.
    PRESENT = "present"
    # It has to come, or is being mended: here or not, both are right.
    OWED = "owed"
    # Its record says present and is newer than the cut: it may have come after it was listed.
    CHANGED = "changed"
    # Excluded, or written after the cut: both are right, and nothing is owed.
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


class DisorderError(Exception):
    """A side is not in order of key: nothing can be said."""


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

    @property
    def ours(self) -> int:
        """How many listed keys were ours."""
        return self.listed - self.foreign


@dataclass(slots=True)
class Comparison:
    """Give it all that is listed, in order, then finish it. Several may share counts and spool."""

    expected: Iterator[Expected]
    counts: Counts = field(default_factory=Counts)
    suspicions: Spool = field(default_factory=Spool)
    _head: Expected | None = None
    _last_listed: str = ""
    _has_begun: bool = False

    def take(self, info: ObjectInfo) -> bool:
        """The next listed object; False: others should have a turn, then give it again.

        Raises DisorderError, TooManyError.
        """
        key: str = info.key
        head = self._head if self._has_begun else self._next()
        if (head is None or head.key != key) and find_key_parts(key) is None:
            # Other things lie in buckets: another store's prefix, a person's notes, and what we put
            # under .tidestore/ ourselves. Only what has a key of ours can be an object of ours.
            self.counts.listed += 1
            self.counts.foreign += 1
            return True
        if key <= self._last_listed:
            raise DisorderError(f"the store lists {key!r} after {self._last_listed!r}")
        if not self._pass_before(key):
            return False
        self._last_listed = key
        self.counts.listed += 1
        head = self._head
        if head is not None and head.key == key:
            self._both(head, info)
            self._next()
        else:
            self._suspect(FindingKind.DARK, None, info, "the log knows nothing of it")
        return True

    def finish(self) -> bool:
        """The listing has ended: what is still expected was not in it. False: call again."""
        if not self._has_begun:
            self._next()
        return self._pass_before(None)

    def _pass_before(self, key: str | None) -> bool:
        """Tell what is missing before a key, or to the end; False when there is more of it."""
        for _ in range(_PASSED_MAX):
            head = self._head
            if head is None or (key is not None and head.key >= key):
                return True
            self._missing(head)
            self._next()
        return False

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
        elif wanted.duty in (Duty.OWED, Duty.CHANGED):
            self.counts.owed += 1

    def _both(self, wanted: Expected, info: ObjectInfo) -> None:
        if wanted.duty is Duty.GONE:
            self._suspect(FindingKind.UNREDACTED, wanted, info, "redacted, and still there")
            return
        if wanted.duty in (Duty.OWED, Duty.FREE):
            self.counts.owed += wanted.duty is Duty.OWED
            return
        difference, is_proved = _difference(wanted, info)
        if difference and wanted.duty is Duty.CHANGED:
            self.counts.owed += 1  # perhaps mended since; the next comparison tells
            return
        self._expect(wanted)
        if difference:
            self._suspect(FindingKind.ALTERED, wanted, info, difference)
            return
        self.counts.equal += 1
        self.counts.by_checksum += is_proved

    def _expect(self, wanted: Expected) -> None:
        self.counts.expected += 1
        self.counts.expected_bytes += wanted.size

    def _suspect(
        self, kind: FindingKind, wanted: Expected | None, info: ObjectInfo | None, detail: str
    ) -> None:
        key = wanted.key if wanted is not None else str(info.key if info is not None else "")
        mark = wanted.mark if wanted is not None else None
        size = wanted.size if wanted is not None and kind is not FindingKind.UNREDACTED else 0
        seen = (info.size, info.etag) if info is not None else (0, "")
        self.suspicions.add(Suspicion(kind, key, mark, detail, *seen, size))


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
