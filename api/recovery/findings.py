"""What a recovery did and what it met: the report that a person reads before the store goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

# Names kept for each word of the report: enough to act on, bounded if a whole bucket is damaged.
NAMES_MAX: Final = 1_000

# What stays away, with its reason. Each was worked out from who writes what, and where to.
LOST_FOR_GOOD: Final = (
    "objects that had not reached this replica: nothing here names them. Other stores may have"
    " them; what a writer sends again is taken",
    "who wrote each object, when, and in which request: the time is that of this replica's copy",
    "how far each hook had come (each hears everything again, with the same ids), and the log of"
    " deliveries",
    "long writes that were under way (tasks): send them again",
    "states of copies: every other replica is compared and filled again by its workers",
    "requests to try a parked copy again, and records that could not be read",
)


@dataclass(slots=True)
class Findings:
    """Counts by kind of object, and names by what is wrong with them."""

    replica: str
    generation: int
    # Events that this run appended, and those that an earlier, interrupted one had.
    appended: Counter[str] = field(default_factory=Counter)
    already: Counter[str] = field(default_factory=Counter)
    bytes_found: int = 0
    bytes_read: int = 0
    # Objects below names that are none of ours; nothing is done about them.
    others: int = 0
    restored: Counter[str] = field(default_factory=Counter)
    wrong: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)

    def note(self, word: str, key: str, reason: str) -> None:
        """Something is not as it should be: `word` says what, as in the report."""
        self.totals[word] += 1
        names = self.wrong.setdefault(word, [])
        if len(names) < NAMES_MAX:
            names.append((key, reason))

    @property
    def is_whole(self) -> bool:
        """Whether everything that lies on the replica is in the log now."""
        return not self.totals

    def document(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "replica": self.replica,
            "generation": self.generation,
            "is_whole": self.is_whole,
            "appended": dict(self.appended),
            "already": dict(self.already),
            "bytes_found": self.bytes_found,
            "bytes_read": self.bytes_read,
            "others": self.others,
            "restored": dict(self.restored),
            "wrong": {
                word: {
                    "count": self.totals[word],
                    "first": [{"key": key, "reason": reason} for key, reason in names],
                }
                for word, names in self.wrong.items()
            },
            "lost_for_good": list(LOST_FOR_GOOD),
        }
