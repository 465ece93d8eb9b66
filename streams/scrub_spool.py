"""What looks wrong, held until the listing has ended: a little in memory, the rest in a file.

Whether anything may be changed is known only at the end, by all that was found (10 % of anything
stops), so all of it has to be held; and then it is gone through twice, in portions: once to count,
once to hand over. The file has no name: killed anywhere, nothing is left over.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from tidestore.schemas.findings import FindingKind

# In memory: about 5 MB.
HELD_MAX: Final = 10_000
# In all: some 4 GB of disk. As many findings are weeks of work for a worker: a person has to look.
SUSPICIONS_MAX: Final = 10_000_000
# Judged between two turns of the loop: some 50 ms.
PORTION: Final = 500


class Suspicion(NamedTuple):
    """What looks wrong. `seen_…` is what the store listed, `mark` is the expected entry's."""

    kind: FindingKind
    key: str
    mark: tuple[int, int] | None
    detail: str
    seen_size: int = 0
    seen_etag: str = ""
    # Of what should be there; 0 for what should not.
    size: int = 0


class TooManyError(Exception):
    """More looks wrong than is held: a person has to look."""


class Spool:
    """Suspicions in the order in which they came. Belongs to one task at a time."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        held_max: int = HELD_MAX,
        suspicions_max: int = SUSPICIONS_MAX,
    ) -> None:
        self._folder = folder
        self._held_max = held_max
        self._suspicions_max = suspicions_max
        self._held: list[Suspicion] = []
        self._file: IO[str] | None = None
        self._count = 0

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    def add(self, suspicion: Suspicion) -> None:
        """Hold one more. Raises TooManyError."""
        if self._count >= self._suspicions_max:
            raise TooManyError(f"more than {self._suspicions_max} objects look wrong")
        self._count += 1
        if len(self._held) < self._held_max:
            self._held.append(suspicion)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile("w+", encoding="utf-8", dir=self._folder)  # noqa: SIM115  close()
        self._file.write(json.dumps(suspicion) + "\n")

    def __iter__(self) -> Iterator[Suspicion]:
        """All of them, from the first; one at a time may do this."""
        yield from self._held
        if self._file is not None:
            self._file.seek(0)
            for line in self._file:
                kind, key, mark, *more = json.loads(line)
                yield Suspicion(FindingKind(kind), key, tuple(mark) if mark else None, *more)
            self._file.seek(0, 2)

    def portions(self) -> Iterator[list[Suspicion]]:
        """All of them, a few hundred at a time."""
        portion: list[Suspicion] = []
        for suspicion in self:
            portion.append(suspicion)
            if len(portion) == PORTION:
                yield portion
                portion = []
        if portion:
            yield portion

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
