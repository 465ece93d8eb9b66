"""What a client is told whose position is of another generation of the log: docs/migration.md."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tidestore.api.problems import Problem, unavailable
from tidestore.schemas.generations import PositionAheadError, PositionLostError


@contextlib.contextmanager
def explaining(generation: int) -> Iterator[None]:
    """Turn what a translation raises into its answer; `generation` is the one in use here."""
    try:
        yield
    except PositionLostError:
        raise Problem(
            410,
            "position_lost",
            "this position is of a log that is gone, or beyond the end of an earlier one",
            hint="read without `at`, or begin the listing again: what was acknowledged is here,"
            f" in generation {generation}",
        ) from None
    except PositionAheadError:
        raise unavailable(
            "this gateway has not gone over to that generation of the log yet", code="moving"
        ) from None
