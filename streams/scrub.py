"""One comparison of one replica with the log, between two cuts.

    cut 1 --> list the store, merged with the view --> cut 2 --> judge --> too much? --yes--> stop
                                                                              |no
                      scrubs <-- signed report <-- findings <-- hand over ----'
                                                      |
                          whoever holds the partition mends it (streams/mending.py)

What was written or changed between the cuts is not judged: an entry that is newer than cut 1 owes
nothing yet, and a suspicion whose record is another one at cut 2 is let go.

Killed anywhere: nothing but some findings may have been handed over, each of which stands for
itself; the next comparison begins again. Nothing is changed here: a comparison only reads stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tidestore.connectors.log import LogWriter
from tidestore.connectors.signing import Signer, canonical
from tidestore.connectors.store import ObjectStore
from tidestore.connectors.view import View
from tidestore.schemas.findings import FindingReported, ScrubReported, Verdict
from tidestore.schemas.positions import Cut
from tidestore.schemas.topics import Topics, retry_key, scrub_key
from tidestore.streams.records import Identity
from tidestore.streams.scrub_compare import Counts, DisorderError
from tidestore.streams.scrub_judge import Judge, Judgement, Rules, reason_to_stop, verdict_of
from tidestore.streams.scrub_merge import Merge
from tidestore.streams.scrub_spool import Spool, TooManyError
from tidestore.streams.scrub_view import Cuts, ScrubRows

LOGGER: Final = logging.getLogger("tidestore.scrub")

# Folding up to a cut: a first comparison reads the whole log.
FOLD_SECONDS_MAX: Final = 3_600.0
# Records under way to the broker at once.
_APPENDS_AT_ONCE: Final = 500
# Findings that are kept to be shown; all of them are in the topic `findings`.
FINDINGS_SHOWN: Final = 1_000


@dataclass(slots=True)
class Outcome:
    """What a comparison found. `report` is what is published of it, `findings` the first of all."""

    report: ScrubReported
    findings: list[FindingReported] = field(default_factory=list)
    findings_left_out: int = 0
    counts: Counts = field(default_factory=Counts)
    keys_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Scrubber:
    """Compares one replica. Belongs to one event loop; one comparison at a time."""

    identity: Identity
    topics: Topics
    store: ObjectStore
    view: View
    writer: LogWriter
    rules: Rules
    signer: Signer
    is_origin: bool
    # Listed keys a second at most, for one that runs beside other work; 0 is without a bound.
    keys_per_second_max: int = 0
    # Ranges of a large store that are listed at once.
    ranges_at_once: int = 1
    # Where much that looks wrong is written down until it is judged; the system's by default.
    folder: Path | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, *, is_dry: bool = False) -> Outcome:
        """Compare; hand over and publish unless dry. Raises StoreError, LogError."""
        begun_ms, scrub_id = _now_ms(), secrets.token_hex(8)
        rows = ScrubRows(self.view, self.identity.replica)
        cuts = await self._cuts()
        await self._fold_own()
        with contextlib.closing(Spool(self.folder)) as spool:
            merge = Merge(
                self.store, rows, cuts, spool, self.ranges_at_once, self.keys_per_second_max,
                self.sleep,
            )  # fmt: skip
            begun = time.monotonic()
            broken = await _merged(merge)
            seconds = max(1e-6, time.monotonic() - begun)
            await self._cuts()
            judge = Judge(
                self.identity,
                rows,
                self.rules,
                scrub_id,
                _now_ms(),
                is_origin=self.writes_here(rows),
            )
            judgement = await self._judge(judge, spool)
            counts = merge.counts
            counts.expected -= judgement.unexpected
            counts.expected_bytes -= judgement.unexpected_bytes
            stopped = broken or reason_to_stop(counts, judgement.kinds, self.rules)
            report = self._report(scrub_id, begun_ms, cuts, counts, judgement, stopped)
            if stopped:
                LOGGER.error("scrub of %s stopped: %s", self.identity.replica, stopped)
            if not is_dry:
                if not stopped:
                    await self._hand_over_all(judge, spool)
                report = self._signed(report, counts, rows)
                await self._publish(report)
        rate = max(counts.listed, counts.expected) / seconds
        left_out = sum(judgement.kinds.values()) - len(judgement.findings)
        return Outcome(report, judgement.findings, left_out, counts, rate)

    async def _judge(self, judge: Judge, spool: Spool) -> Judgement:
        """All that looks wrong, counted; a portion at a time, so that others have their turns."""
        judgement = Judgement()
        for portion in spool.portions():
            judgement.add(judge.judge(portion), findings_max=FINDINGS_SHOWN)
            await self.sleep(0)
        return judgement

    async def _hand_over_all(self, judge: Judge, spool: Spool) -> None:
        """Hand over what still holds: judged again, since the first may have been minutes ago."""
        for portion in spool.portions():
            await self.hand_over(judge.judge(portion).findings)

    async def _cuts(self) -> Cuts:
        """The ends of copies and log, both folded; redactions too, before anything is judged.

        Copies first: what they know of is then inside the log's cut.
        """
        parts = list(range(self.topics.partitions))
        copies = await self.writer.ends(self.identity.topic, parts)
        log = await self.writer.ends(self.topics.log, parts)
        redactions = await self.writer.ends(self.topics.redactions, [0])
        for topic, ends in (
            (self.topics.redactions, redactions),
            (self.topics.log, log),
            (self.identity.topic, copies),
        ):
            await self.view.reached(topic, ends, timeout_seconds=FOLD_SECONDS_MAX)
        return Cuts(log, copies, redactions[0])

    async def fold(self) -> None:
        """Know all that is said by now."""
        await self._cuts()
        await self._fold_own()

    def writes_here(self, rows: ScrubRows) -> bool:
        """Whether gateways write to this replica: as the topic says, which may be news to us."""
        origin = rows.origin()
        return self.is_origin if origin is None else origin == self.identity.replica

    async def _fold_own(self) -> None:
        for topic in (self.topics.replicas, self.topics.findings, self.topics.scrubs):
            ends = await self.writer.ends(topic, [0])
            await self.view.reached(topic, ends, timeout_seconds=FOLD_SECONDS_MAX)

    def _report(
        self,
        scrub_id: str,
        begun_ms: int,
        cuts: Cuts,
        counts: Counts,
        judgement: Judgement,
        stopped: str,
    ) -> ScrubReported:
        kinds = judgement.kinds
        offsets = tuple(cuts.log[number] for number in range(self.topics.partitions))
        return ScrubReported(
            scrub_id=scrub_id,
            replica=self.identity.replica,
            incarnation=self.identity.incarnation,
            verdict=verdict_of(counts, judgement, stopped).value,
            cut=str(Cut(self.topics.generation, offsets)),
            begun_at_ms=begun_ms,
            ended_at_ms=_now_ms(),
            expected=counts.expected,
            equal=counts.equal,
            expected_bytes=counts.expected_bytes,
            # What was let go may be wrong still: it is owed until somebody has looked.
            owed=counts.owed + judgement.unexpected,
            listed=counts.listed,
            lost=kinds["lost"],
            altered=kinds["altered"],
            dark=kinds["dark"],
            unredacted=kinds["unredacted"],
            foreign=counts.foreign,
            unjudged=judgement.unjudged,
            reason=stopped,
        )

    def _signed(self, report: ScrubReported, counts: Counts, rows: ScrubRows) -> ScrubReported:
        text = canonical(statement_of(report, counts, rows, str(self.identity.chosen)))
        values = {name: getattr(report, name) for name in ScrubReported.__slots__}
        values.update(
            statement=text, signature=self.signer.sign(text), public_key=self.signer.public_key
        )
        return ScrubReported(**values)

    async def hand_over(self, findings: list[FindingReported]) -> None:
        """Append all findings; raises LogError when one was not acknowledged.

        Killed in the middle: the next comparison finds the rest again.
        """
        for batch in _batches(findings):
            await asyncio.gather(*(self._append(finding) for finding in batch))

    async def _append(self, finding: FindingReported) -> None:
        key = retry_key(finding.replica, finding.incarnation, finding.key)
        await self.writer.append(self.topics.findings, 0, key, finding)

    async def _publish(self, report: ScrubReported) -> None:
        key = scrub_key(report.replica, report.incarnation)
        await self.writer.append(self.topics.scrubs, 0, key, report)


async def _merged(merge: Merge) -> str:
    """Merge listing and log; why that had to end early, if it had to. Raises StoreError."""
    try:
        await merge.run()
    except DisorderError as error:
        return f"{error}: it cannot be compared"
    except TooManyError as error:
        return f"{error}: nothing was changed"
    return ""


def statement_of(
    report: ScrubReported, counts: Counts, rows: ScrubRows, chosen: str = ""
) -> dict[str, Any]:
    """What is signed: the whole of it is said, whatever the verdict."""
    objects = f"objects of the filter {chosen}" if chosen else "objects"
    if report.verdict == Verdict.EQUAL:
        said = f"all {report.equal} {objects} up to cut {report.cut} are here and equal"
    else:
        said = (
            f"{report.equal} of {report.expected} {objects} up to cut {report.cut} are here"
            " and equal"
        )
    moved = rows.readback()
    return {
        "format": "tidestore.statement/1",
        "said": said,
        "filter": chosen,
        "replica": report.replica,
        "incarnation": report.incarnation,
        "scrub_id": report.scrub_id,
        "verdict": report.verdict,
        "cut": report.cut,
        "objects": report.expected,
        "bytes": report.expected_bytes,
        "equal": report.equal,
        "equal_by_checksum": counts.by_checksum,
        "owed": report.owed,
        "lost": report.lost,
        "altered": report.altered,
        "dark": report.dark,
        "unredacted": report.unredacted,
        "begun_at_ms": report.begun_at_ms,
        "ended_at_ms": report.ended_at_ms,
        # Every byte that is older than this was read back since; null before a whole round.
        "read_back_since_ms": (moved.last_round_began_at_ms or None) if moved else None,
    }


def _batches(findings: list[FindingReported]) -> Iterator[list[FindingReported]]:
    for start in range(0, len(findings), _APPENDS_AT_ONCE):
        yield findings[start : start + _APPENDS_AT_ONCE]


def _now_ms() -> int:
    return int(time.time() * 1000)
